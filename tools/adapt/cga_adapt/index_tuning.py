"""The index's last stage, end to end: gradient steps on what choosing costs the model.

Attention mass is only a stand-in for what is wanted: a model that, reading the units it chose, says what it would have said.
Here that is lowered itself. Some positions of a sequence go through all layers as queries; at each anchor the scorer ranks the
archive, a gate on every unit (a sigmoid around the score at the budget's edge, ever steeper) takes part in the attention of the
layers that the anchor serves, and the divergence of the last logits from the uncompressed model's is followed back through the
gates. The keys and values that are read are the uncompressed model's, as after a prompt."""

import dataclasses
import math
import pathlib

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint as recompute

from . import index, index_training, replayed, targets
from .index_training import Scorer, Training
from .model import Added, Model, dense
from .sidecar import UNIT


@dataclasses.dataclass(frozen=True)
class Settings:
    steps: int
    queries: int = 320                  # positions of a sequence a step learns from
    rate: float = 6e-4                  # as Design.rate
    budgets: tuple[int, ...] = (1024, 512, 1024, 2048)  # in turns
    softness: tuple[float, float] = (1.0, 0.15)         # of the gates, from the first step to the last, in standard
                                                        # deviations of a query's scores
    mass: float = 0.01                  # weight of the divergence from attention mass: it ranks what is far from the edge
    seed: int = 1


@dataclasses.dataclass
class Clean:
    """One pass of the uncompressed model."""
    inputs: list[torch.Tensor]   # attention inputs [n, dim], a layer each
    keys: list[torch.Tensor]     # [n, n_kv_heads, d], rotated
    values: list[torch.Tensor]
    hidden: torch.Tensor         # [t, dim], at the positions
    mass: torch.Tensor | None    # [n_layers, 2, t, units], as targets.measure gives it, where asked for


@torch.no_grad()
def observe(model: Model, ids: torch.Tensor, positions: torch.Tensor, window: int,
            target: str | None = "mass") -> Clean:
    inputs, keys, values, masses = [], [], [], []

    def attend(layer, q, k, v):
        keys.append(k)
        values.append(v)
        if target:
            masses.append(targets.measure(target, q[positions], k, v, positions, window))
        return dense(layer, q, k, v)
    hidden = model.hidden(ids, attend, lambda layer, h: inputs.append(h))
    return Clean(inputs, keys, values, hidden[positions], torch.stack(masses) if target else None)


def spread(scores: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """Standard deviation of each row's scores, [t, 1]."""
    count = allowed.sum(-1, keepdim=True).clamp(min=1)
    mean = (scores * allowed).sum(-1, keepdim=True) / count
    return (((scores - mean) * allowed).square().sum(-1, keepdim=True) / count).sqrt().clamp(min=1e-6)


def gates(scores: torch.Tensor, allowed: torch.Tensor, budget: int, softness: float | torch.Tensor) -> torch.Tensor:
    """Logarithms of gates in (0, 1], f32 [t, units]. Gradients leave the number of open gates as it is: what one unit gains,
    those near the edge lose. Rows that may take all they have are wide open. How soft gates are is relative to the spread
    of a row's scores: absolutely soft ones stand half open where scores are all alike, and everything is read. For the same
    reason, where more units than can be chosen have the very score of the edge, as where all heads are shut, those are
    chosen as in shut()."""
    count = min(budget // UNIT, scores.shape[1] - 1)
    masked = scores.masked_fill(~allowed, -1e4)
    softness = softness * spread(scores.detach(), allowed)
    edge = masked.detach().topk(count + 1, -1).values[:, -2:]
    tied = (masked.detach() == edge[:, :1]) & (edge[:, :1] == edge[:, 1:])
    threshold = edge.mean(-1, keepdim=True)
    opened = torch.sigmoid((masked.detach() - threshold) / softness)
    slope = opened * (1 - opened)
    slope = slope / slope.sum(-1, keepdim=True).clamp(min=1e-6)
    threshold = threshold + (slope * (masked - masked.detach())).sum(-1, keepdim=True)
    log = F.logsigmoid((masked - threshold) / softness)
    above = (masked.detach() > edge[:, :1]).sum(-1, keepdim=True)
    hard = torch.zeros_like(log).masked_fill(above + tied.cumsum(-1) > count, -torch.inf)  # of those that are tied
    log = torch.where(tied & (tied.sum(-1, keepdim=True) > count), hard, log)
    return torch.where((allowed.sum(-1, keepdim=True) > count) & allowed, log, torch.zeros_like(log))


def shut(scores: torch.Tensor, allowed: torch.Tensor, budget: int, counts: torch.Tensor | None = None) -> torch.Tensor:
    """gates() as the engine has them: 0 for what is read, -inf for what is not."""
    return torch.zeros_like(scores).masked_fill(allowed & ~index.top_units(scores, allowed, budget, counts), -torch.inf)


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, positions: torch.Tensor, log_gates: torch.Tensor) -> torch.Tensor:
    """q: [t, n_heads, d] at `positions`; k, v: [n, n_kv_heads, d]; log_gates: [t, units] → [t, n_heads, d]."""
    t, n_heads, d = q.shape
    n, n_kv = k.shape[:2]
    rows = (q / math.sqrt(d)).unflatten(1, (n_kv, -1)).permute(1, 2, 0, 3).reshape(n_kv, -1, d)
    s = torch.bmm(rows, k.permute(1, 2, 0)).unflatten(1, (-1, t)).float()
    bias = log_gates.repeat_interleave(UNIT, 1)[:, :n]
    future = torch.arange(n, device=q.device) > positions[:, None]
    p = (s + bias.masked_fill(future, -torch.inf)).softmax(-1).to(q.dtype)
    o = torch.bmm(p.flatten(1, 2), v.transpose(0, 1))
    return o.unflatten(1, (-1, t)).permute(2, 0, 1, 3).flatten(1, 2)


def divergence(model: Model, full: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """KL of the next token, [t]; full, other: last hidden states [t, dim]."""
    p, q = model.logits(full).log_softmax(-1), model.logits(other).log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


def choosing(model: Model, scorers: list[Scorer], clean: Clean, ids: torch.Tensor, positions: torch.Tensor, window: int,
             budget: int, softness: float | torch.Tensor | None, added: Added | None = None) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Last hidden states [t, dim] of the queries at `positions` behind their gates, and each scorer's scores [t, units].
    Without softness, gates are open or shut."""
    cos, sin = model.angles(torch.arange(len(ids), device=ids.device))
    still = tuple(a / model.config.rope_magnitude for a in (cos, sin))
    own_cos, own_sin = cos[positions], sin[positions]
    allowed = index.eligible(positions, -(-len(ids) // UNIT), window)
    by_layer, scores, log_gates = {s.layer: s for s in scorers}, [], None
    x = model.weights["token_embd.weight"][ids[positions]]

    def layer(l: int, x: torch.Tensor, log_gates: torch.Tensor) -> torch.Tensor:
        # model._layer computes keys and values of the queries, too: they are not read
        read = lambda _, q, k, v: attend(q, clean.keys[l], clean.values[l], positions, log_gates)
        return model._layer(l, x, own_cos, own_sin, read, None, added)
    for l in range(model.config.n_layers):
        if l in by_layer:
            h = model.norm(x, model.weights[f"blk.{l}.attn_norm.weight"])
            scores.append(by_layer[l](clean.inputs, positions, *still, h=h))
            log_gates = (shut(scores[-1], allowed, budget, by_layer[l].wanted(h, budget)) if softness is None else
                         gates(scores[-1], allowed, budget, softness))
        x = recompute(layer, l, x, log_gates, use_reentrant=False, preserve_rng_state=False)
    return model.norm(x, model.weights["output_norm.weight"]), scores


class Tuning:
    """Where an end-to-end run is: it goes on with a training's scorers."""

    def __init__(self, training: Training, settings: Settings):
        self.training, self.settings, self.step, self.history = training, settings, 0, []
        self.rate = index_training.step_size(settings.rate, training.model.config.dim)
        self.optimiser = replayed.adam(training.scorers.parameters(), self.rate, training.model.device)
        self._learn = replayed.Replayed(self.learn)

    def run(self, ids: torch.Tensor, positions: torch.Tensor) -> None:
        """One step on a sequence."""
        s = self.settings
        done, (first, last) = self.step / s.steps, s.softness
        replayed.set_rate(self.optimiser, self.rate * min(1.0, (self.step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * done)))
        softness = torch.tensor(first * (last / first) ** done, device=ids.device)
        self.history.append(self._learn(s.budgets[self.step % len(s.budgets)], ids, positions, softness))
        self.step += 1

    def learn(self, budget: int, ids: torch.Tensor, positions: torch.Tensor, softness: torch.Tensor) -> torch.Tensor:
        """A gradient step. @return the divergence"""
        t, model = self.training, self.training.model
        clean = observe(model, ids, positions, t.design.window, t.design.target)
        with torch.enable_grad():
            hidden, scores = choosing(model, list(t.scorers), clean, ids, positions, t.design.window, budget, softness)
            kl = recompute(divergence, model, clean.hidden, hidden, use_reentrant=False, preserve_rng_state=False).mean()
            loss = kl + self.settings.mass * sum(self.ranking(scorer, score, clean.mass, positions)
                                                 for scorer, score in zip(t.scorers, scores))
            loss.backward()
        torch.nn.utils.clip_grad_norm_(t.scorers.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return kl.detach()

    def ranking(self, scorer: Scorer, scores: torch.Tensor, mass: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        d = self.training.design
        allowed = index.eligible(positions, scores.shape[1], d.window)
        plain, squared = mass[scorer.layer:scorer.layer + scorer.n_layers].sum(0)
        share = torch.lerp(targets.shares(plain), targets.shares(squared.sqrt()), d.peaked)
        logs = scores.masked_fill(~allowed, -torch.inf).log_softmax(-1).masked_fill(~allowed, 0)
        return (torch.xlogy(share, share) - share * logs).sum(-1).mean()

    def save(self, path: pathlib.Path, identity: str) -> None:
        index_training.write_state(path, {"identity": identity, "step": self.step, "losses": self.losses(),
                                          "scorers": self.training.scorers.state_dict(), "optimiser": self.optimiser.state_dict()})

    def resume(self, path: pathlib.Path, identity: str) -> None:
        saved = index_training.read_state(path, identity, self.training.model.device)
        self.training.scorers.load_state_dict(saved["scorers"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.step, self.history = saved["step"], list(saved["losses"].unbind(0))

    def losses(self) -> torch.Tensor:
        """KL of every step, at its budget and softness: f32 [steps]."""
        return torch.stack(self.history).cpu() if self.history else torch.zeros(0)


def run(tuning: Tuning, sequence, until: int) -> None:
    """Steps up to `until`. sequence(step) → ids, int array."""
    design = dataclasses.replace(tuning.training.design, queries=tuning.settings.queries, seed=tuning.settings.seed)
    device = tuning.training.model.device
    while tuning.step < until:
        ids = torch.as_tensor(sequence(tuning.step), dtype=torch.long).to(device)
        tuning.run(ids, index_training.draw_positions(len(ids), design, tuning.step).to(device))
