"""Training adapters (adapter.py) end to end: gradient steps on how far the model that reads what its index chose is from the
model that reads everything.

As in the index's last stage, some positions of a sequence go through all layers as queries, over the keys and values of the
model that reads everything; but the index stays as it is stored and chooses as an engine does, with scores in int8 and units
read or not read, and what learns are the adapters. What is read of the archive are keys and values as they are: coding
them is not in the loop, so what codes cost is not what these learn to undo."""

import dataclasses
import math
import os

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint as recompute

from . import adapter, index, index_training, index_tuning, quality, replayed
from .adapter import Adapter
from .index import Anchor
from .model import Model
from .sidecar import PAGE, SINKS, UNIT
from .tokens import Text

WARM_UP = 50       # steps
POSITIONS = 960    # of a sequence that quality is measured at


@dataclasses.dataclass(frozen=True)
class Settings:
    window: int
    budgets: tuple[int, ...]  # in turns
    steps: int = 800
    queries: int = 320        # positions of a sequence a step learns from
    rank: int = 16
    rate: float = 1e-3        # as index_training.Design.rate
    text_weight: float = 0.0  # of the text's own next tokens in the loss; the rest is divergence. More fits the text's domain
    seed: int = 2


class Chooser:
    """A stored anchor in the place of an index_training.Scorer: scores as an engine computes them, without gradients."""

    def __init__(self, anchor: Anchor):
        self.anchor, self.layer, self.n_layers = anchor, anchor.layer, anchor.n_layers

    @torch.no_grad()
    def wanted(self, h: torch.Tensor, budget: int) -> torch.Tensor | None:
        return index.wanted(self.anchor, h, budget)

    @torch.no_grad()
    def __call__(self, inputs: list[torch.Tensor], positions: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor,
                 h: torch.Tensor) -> torch.Tensor:
        """inputs: attention inputs [n, dim] of all layers; h: the queries' own, [t, dim] → scores [t, ⌈n / 16⌉]"""
        k = index.keys(self.anchor, inputs[self.layer:self.layer + self.n_layers], cos, sin)
        q, w = index.queries(self.anchor, h, cos[positions], sin[positions])
        return index.unit_scores(index.coded_scores(q, w, k))


def adapted(model: Model, anchors: list[Anchor], adapters: list[Adapter] | None, clean: index_tuning.Clean, ids: torch.Tensor,
            positions: torch.Tensor, window: int, budget: int) -> torch.Tensor:
    """Last hidden states [t, dim] of the queries at `positions`, through all layers behind their own choices. Without
    adapters: those of the plain model."""
    allowed = index.eligible(positions, -(-len(ids) // UNIT), window)
    added = adapter.Rows(adapters, adapter.leaves_unread(allowed, budget)) if adapters else None
    choosers = [Chooser(a) for a in anchors]
    return index_tuning.choosing(model, choosers, clean, ids, positions, window, budget, None, added)[0]


def first_unread(budget: int, window: int) -> int:
    """The first position whose query leaves something unread."""
    read = SINKS + budget // UNIT * UNIT  # of what lies before sealed_end
    return window + (read // PAGE + 1) * PAGE


class Tuning:
    """A checkpoint's adapters, their optimiser, and where they are."""

    def __init__(self, model: Model, anchors: list[Anchor], settings: Settings):
        self.model, self.settings, self.step, self.history = model, settings, 0, []
        self.anchors = [a.to(model.device) for a in anchors]
        self.adapters = begin(model, settings)
        self.optimiser = replayed.adam(self.groups(), settings.rate, model.device)
        self._learn = replayed.Replayed(self.learn)

    def groups(self) -> list[dict]:
        """Of parameters: matrices with as many inputs take steps of one size."""
        groups = []
        for field in Adapter.FIELDS:
            own = [getattr(a, field) for a in self.adapters]
            groups.append({"params": own, "scale": index_training.step_size(1.0, own[0].shape[1])})
        return groups

    def parameters(self) -> list[torch.Tensor]:
        return [getattr(a, f) for a in self.adapters for f in Adapter.FIELDS]

    def positions(self, n: int) -> torch.Tensor:
        """Of a sequence of n tokens, what the next step learns from: sorted, all with something to leave unread and a token
        that follows."""
        s = self.settings
        generator = torch.Generator().manual_seed(s.seed * 1_000_003 + self.step)
        first = first_unread(self.budget, s.window)
        return (first + torch.randperm(n - 1 - first, generator=generator)[:s.queries]).sort().values

    @property
    def budget(self) -> int:
        return self.settings.budgets[self.step % len(self.settings.budgets)]

    def run(self, ids: torch.Tensor) -> None:
        """One step on a sequence."""
        warm, done = min(1.0, (self.step + 1) / WARM_UP), self.step / self.settings.steps
        replayed.set_rate(self.optimiser, self.settings.rate * warm * 0.5 * (1 + math.cos(math.pi * done)))
        self.history.append(self._learn(self.budget, ids, self.positions(len(ids)).to(ids.device)))
        self.step += 1

    def learn(self, budget: int, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """A gradient step. @return the divergence"""
        model, window = self.model, self.settings.window
        clean = index_tuning.observe(model, ids, positions, window, None)
        with torch.enable_grad():
            hidden = adapted(model, self.anchors, self.adapters, clean, ids, positions, window, budget)
            kl = recompute(index_tuning.divergence, model, clean.hidden, hidden, use_reentrant=False,
                           preserve_rng_state=False).mean()
            loss, weight = kl, self.settings.text_weight
            if weight:
                text = recompute(surprise, model, hidden, ids[positions + 1], use_reentrant=False, preserve_rng_state=False)
                loss = (1 - weight) * kl + weight * text
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return kl.detach()

    def save(self, path: str | os.PathLike, identity: str) -> None:
        index_training.write_state(path, {"identity": identity, "step": self.step, "losses": self.losses(),
                                          "adapters": [p.detach() for p in self.parameters()],
                                          "optimiser": self.optimiser.state_dict()})

    def resume(self, path: str | os.PathLike, identity: str) -> None:
        saved = index_training.read_state(path, identity, self.model.device)
        for own, there in zip(self.parameters(), saved["adapters"], strict=True):
            own.data.copy_(there)
        self.optimiser.load_state_dict(saved["optimiser"])
        self.step, self.history = saved["step"], list(saved["losses"].unbind(0))

    def losses(self) -> torch.Tensor:
        """KL of every step, at its budget: f32 [steps]."""
        return torch.stack(self.history).cpu() if self.history else torch.zeros(0)

    def stored(self) -> list[Adapter]:
        return [a.stored() for a in self.adapters]


def surprise(model: Model, hidden: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
    """Mean nats that the text's next tokens [t] have behind last hidden states [t, dim]."""
    return F.nll_loss(model.logits(hidden).log_softmax(-1), following)


def begin(model: Model, settings: Settings) -> list[Adapter]:
    """Adapters that add nothing: what leads up is 0."""
    c, generator = model.config, torch.Generator().manual_seed(settings.seed)
    shapes = Adapter.shapes(settings.rank, c.dim, c.n_heads * c.head_dim)

    def new(field: str) -> torch.nn.Parameter:
        values = torch.zeros(shapes[field])
        if field.endswith("down"):
            values = torch.randn(shapes[field], generator=generator) / math.sqrt(shapes[field][1])
        return torch.nn.Parameter(values.to(model.device))
    return [Adapter(*map(new, Adapter.FIELDS)) for _ in range(c.n_layers)]


def run(tuning: Tuning, sequence, until: int) -> None:
    """Steps up to `until`. sequence(step) → ids, int array."""
    while tuning.step < until:
        tuning.run(torch.as_tensor(sequence(tuning.step), dtype=torch.long).to(tuning.model.device))


@torch.no_grad()
def measure(model: Model, anchors: list[Anchor], adapters: list[Adapter] | None, texts: list[Text],
            settings: Settings) -> list[dict]:
    """Rows of the sidecar's quality for the smallest and the largest budget. Texts that leave nothing unread have none."""
    rows = []
    for text in texts:
        ids = torch.as_tensor(text.ids.astype(np.int64)).to(model.device)
        for budget in sorted({min(settings.budgets), max(settings.budgets)}):
            positions = spread(len(ids), first_unread(budget, settings.window)).to(model.device)
            if len(positions):
                s = quality.score(text, quality.EXACT, compare(model, anchors, adapters, ids, positions, settings, budget))
                rows.append({"text": text.name, "tokens": len(ids), "budget": budget, "adapted": adapters is not None, "kl": s.kl,
                             "ppl_change": s.ppl_change, "ppl_interval": s.ppl_interval, "top1": s.top1})
    return rows


def spread(n: int, first: int) -> torch.Tensor:
    """POSITIONS of first … n - 2, or all where they are fewer, evenly; each has a token that follows."""
    count = min(POSITIONS, max(0, n - 1 - first))
    return first + torch.arange(count) * (n - 1 - first) // max(1, count)


def compare(model: Model, anchors: list[Anchor], adapters: list[Adapter] | None, ids: torch.Tensor, positions: torch.Tensor,
            settings: Settings, budget: int) -> np.ndarray:
    """As quality.compare_rows, of the queries at `positions`: f64 [4, t]."""
    clean = index_tuning.observe(model, ids, positions, settings.window, None)
    hidden = [adapted(model, anchors, adapters, clean, ids, part, settings.window, budget)
              for part in positions.split(settings.queries)]
    return quality.compare_rows(model, clean.hidden, torch.cat(hidden), ids[positions + 1])


def line(rows: list[dict]) -> str:
    """Means over texts, a budget each."""
    parts = []
    for budget in dict.fromkeys(r["budget"] for r in rows):
        of = [r for r in rows if r["budget"] == budget]
        mean = lambda name: float(np.mean([r[name] for r in of]))
        interval = math.sqrt(sum(r["ppl_interval"] ** 2 for r in of)) / len(of)
        parts.append(f"budget {budget}: KL {mean('kl'):.5f}, perplexity {100 * mean('ppl_change'):+.3f} ± {100 * interval:.3f} %")
    return "; ".join(parts) or "nothing is left unread"
