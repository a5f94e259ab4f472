"""Training an index: a few small matrices an anchor learn to rank units as the attention of the layers it serves does.

Each step runs the frozen model over one sequence, takes what some of its positions attend to as the target
(targets.py) and lowers, for every anchor, KL(target ‖ softmax of unit scores), and later also the squared mass that a
top-k would miss. The anchors share nothing but the model's pass. A step depends only on the seed and its number, so that a run that
was interrupted ends like one that was not."""

import dataclasses
import math
import os
import pathlib

import torch
import torch.nn as nn
import torch.nn.functional as F

from . import index, replayed, targets
from .index import Anchor
from .model import Model, dense
from .sidecar import UNIT


@dataclasses.dataclass(frozen=True)
class Design:
    """What is trained, and how."""
    groups: tuple[int, ...]          # layers each anchor serves, in order; their sum is n_layers
    heads: int = 16
    width: int = 32                  # d: channels of a query head and of a key, a multiple of 4
    key_layers: int = 0              # attention inputs a key is made from: the first so many served layers; 0: all
    steps: int = 2000
    queries: int = 512               # positions of a sequence a step learns from
    rate: float = 1e-3               # for REFERENCE channels (see step_size)
    window: int = 128
    target: str = "mass"             # or "effect" (targets.py)
    peaked: float = 0.5              # of the target: the share of the root of squared masses, which heads that retrieve rule
    by_mass: float = 0.5             # a query weighs (its mass in the archive) to this power
    boundary: float = 2.0            # what the squared mass missed at a top-k weighs beside KL,
    boundary_from: float = 0.5       # from this part of the steps on
    budgets: tuple[int, ...] = (1024, 2048)
    seed: int = 0

    def anchors(self) -> list[tuple[int, int]]:
        """(first layer, layers served)"""
        return [(sum(self.groups[:i]), n) for i, n in enumerate(self.groups)]


REFERENCE = 576  # channels


def step_size(rate: float, dim: int) -> float:
    """A step of Adam moves every weight by about as much, so an output by as much times the number of channels. Where
    that is more than an output's own size, all heads are soon shut for all keys, and from there nothing leads back."""
    return rate * min(1.0, REFERENCE / dim)


class Scorer(nn.Module):
    """One anchor's matrices. Its heads begin with little weight, so that the first thing learned is not to shut them for
    the noise they make. Inputs are divided by `spread`, the root mean square of each channel, which makes all
    weights alike to the optimiser; on the way to the file it is multiplied in."""

    def __init__(self, dim: int, design: Design, layer: int, n_layers: int, generator: torch.Generator):
        super().__init__()
        new = lambda *shape: nn.Parameter(torch.randn(*shape, generator=generator) / math.sqrt(dim))
        self.layer, self.n_layers = layer, n_layers
        self.reads = min(n_layers, design.key_layers or n_layers)
        self.query = new(design.heads, design.width, dim)
        self.key = nn.Parameter(new(self.reads, design.width, dim).data / math.sqrt(self.reads))
        self.weight = nn.Parameter(0.1 * new(design.heads, dim).data)
        self.bias = nn.Parameter(torch.full((design.heads,), 0.1))
        self.register_buffer("spread", torch.ones(self.reads, dim))

    def measure(self, inputs: list[torch.Tensor]) -> None:
        for i in range(self.reads):
            self.spread[i] = inputs[self.layer + i].float().square().mean(0).sqrt().clamp(min=1e-3)

    def take(self, anchor: Anchor) -> None:
        """Goes on from an index that is there, behind measure()."""
        stored = {"query": anchor.query, "key": anchor.key, "weight": anchor.weight}
        for name, values in stored.items():
            own = getattr(self, name)
            spread = self.spread[:, None] if name == "key" else self.spread[0]
            own.data.copy_(values.to(own.device).float() * spread)
        self.bias.data.copy_(anchor.bias)

    def products(self, inputs: list[torch.Tensor], positions: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor,
                 h: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """inputs: attention inputs [n, dim] of all layers → inner products [t, H, n] of the queries at `positions` with all
        keys, and weights [t, H]. h: the queries' own attention inputs [t, dim] at this layer, where they are not among
        `inputs`."""
        own = [inputs[self.layer + i] for i in range(self.reads)]
        dtype = own[0].dtype
        scaled = lambda w, i: (w / self.spread[i]).to(dtype)
        h = own[0][positions] if h is None else h
        k = sum(F.linear(x, scaled(self.key[i], i)) for i, x in enumerate(own))
        q = F.linear(h, scaled(self.query, 0).flatten(0, 1)).unflatten(1, self.query.shape[:2])
        w = F.linear(h, scaled(self.weight, 0)).float() + self.bias
        k = index.rotate_half(k.float(), cos, sin).to(dtype)
        q = index.rotate_half(q.float(), cos[positions], sin[positions]).to(dtype)
        return (q.flatten(0, 1) @ k.T).unflatten(0, q.shape[:2]), w

    def forward(self, *arguments, h: torch.Tensor | None = None) -> torch.Tensor:
        """As products() → scores [t, ⌈n / 16⌉]."""
        s, w = self.products(*arguments, h=h)
        s = torch.bmm((w / math.sqrt(self.query.shape[1])).to(s.dtype)[:, None], torch.relu(s))[:, 0]
        return F.pad(s.float(), (0, -s.shape[1] % UNIT), value=-1e4).unflatten(1, (-1, UNIT)).amax(-1)

    def open_heads(self, *arguments) -> int:
        """How many heads see anything: inner products above 0 for one key in a thousand."""
        return int(((self.products(*arguments)[0] > 0).float().mean((0, 2)) > 1e-3).sum())

    def wanted(self, h: torch.Tensor, budget: int) -> None:
        """How many units each query has (index.wanted): all as many. What they need is found when an index is finished."""

    def anchor(self) -> Anchor:
        """As it is stored."""
        half = lambda w, s: (w.detach() / s).half().cpu()
        return Anchor(self.layer, self.n_layers, half(self.query, self.spread[0]), half(self.key, self.spread[:, None]),
                      half(self.weight, self.spread[0]), self.bias.detach().float().cpu())


def missed(scores: torch.Tensor, mass: torch.Tensor, allowed: torch.Tensor, budget: int, softness: float = 0.5) -> torch.Tensor:
    """A smooth form of the mass outside the best budget / 16 units: [t]. The threshold moves with the scores so
    that the number of chosen units does not change."""
    count = min(budget // UNIT, scores.shape[1] - 1)
    best = scores.detach().masked_fill(~allowed, -1e4).topk(count + 1, -1).values[:, -2:]
    threshold = best.mean(-1, keepdim=True)
    chosen = torch.sigmoid((scores.detach() - threshold) / softness) * allowed
    slope = chosen * (1 - chosen)
    slope = slope / slope.sum(-1, keepdim=True).clamp(min=1e-6)
    threshold = threshold + (slope * (scores - scores.detach())).sum(-1, keepdim=True)
    kept = torch.sigmoid((scores - threshold) / softness)
    return (mass * (1 - kept)).sum(-1) * (allowed.sum(-1) > count)


class Training:
    """A design's scorers, their optimiser, and where they are."""

    def __init__(self, model: Model, design: Design, start: list[Anchor] | None = None):
        """start: an index of the same shape to begin with, instead of noise."""
        generator = torch.Generator().manual_seed(design.seed)
        self.design, self.model, self.start, self.step, self.history = design, model, start, 0, []
        self.scorers = nn.ModuleList(Scorer(model.config.dim, design, a, n, generator) for a, n in design.anchors())
        self.scorers.to(model.device)
        self.rate = step_size(design.rate, model.config.dim)
        self.optimiser = replayed.adam(self.scorers.parameters(), self.rate, model.device)
        self._learn = replayed.Replayed(self.learn)

    def run(self, ids: torch.Tensor, positions: torch.Tensor) -> None:
        """One step on a sequence."""
        d = self.design
        if self.step == 0:
            inputs, _ = observe(self.model, ids, positions, d)
            for scorer in self.scorers:
                scorer.measure(inputs)
            for scorer, anchor in zip(self.scorers, self.start or []):
                scorer.take(anchor)
        done = self.step / d.steps
        replayed.set_rate(self.optimiser, self.rate * min(1.0, (self.step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * done)))
        self.history.append(self._learn(d.boundary > 0 and done >= d.boundary_from, ids, positions))
        self.step += 1

    def learn(self, at_boundary: bool, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """A gradient step. @return KL of each anchor. mass: [n_layers, 2, t, units] of every layer at `positions`, as
        targets.measure gives it."""
        d = self.design
        inputs, mass = observe(self.model, ids, positions, d)
        cos, sin = (a / self.model.config.rope_magnitude
                    for a in self.model.angles(torch.arange(len(ids), device=ids.device)))
        allowed = index.eligible(positions, mass.shape[-1], d.window)
        losses = []
        for scorer in self.scorers:
            plain, squared = mass[scorer.layer:scorer.layer + scorer.n_layers].sum(0)
            root = squared.sqrt()
            share = torch.lerp(targets.shares(plain), targets.shares(root), d.peaked)
            total = torch.lerp(plain.sum(-1), root.sum(-1), d.peaked)
            weight = (total / total.mean()).clamp(min=1e-3).pow(d.by_mass)
            squared = squared / squared.sum(-1).mean()
            with torch.enable_grad():
                scores = scorer(inputs, positions, cos, sin)
                logs = scores.masked_fill(~allowed, -torch.inf).log_softmax(-1).masked_fill(~allowed, 0)
                kl = (torch.xlogy(share, share) - share * logs).sum(-1)
                loss = (weight * kl).mean()
                if at_boundary:
                    loss = loss + d.boundary * sum(missed(scores, squared, allowed, b).mean() for b in d.budgets) / len(d.budgets)
                loss.backward()
            losses.append(kl.detach().mean())
        torch.nn.utils.clip_grad_norm_(self.scorers.parameters(), 10.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return torch.stack(losses)

    def losses(self) -> torch.Tensor:
        """KL of every step and anchor, f32 [steps, anchors]."""
        return torch.stack(self.history).cpu() if self.history else torch.zeros(0, len(self.scorers))

    def anchors(self) -> list[Anchor]:
        return [scorer.anchor() for scorer in self.scorers]

    def save(self, path: str | os.PathLike, identity: str) -> None:
        write_state(path, {"identity": identity, "step": self.step, "losses": self.losses(),
                           "scorers": self.scorers.state_dict(), "optimiser": self.optimiser.state_dict()})

    def resume(self, path: str | os.PathLike, identity: str) -> None:
        saved = read_state(path, identity, self.model.device)
        self.scorers.load_state_dict(saved["scorers"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.step, self.history = saved["step"], list(saved["losses"].to(self.model.device).unbind(0))


def write_state(path: str | os.PathLike, state: dict) -> None:
    temporary = pathlib.Path(f"{path}.tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def read_state(path: str | os.PathLike, identity: str, device: torch.device) -> dict:
    saved = torch.load(path, map_location=device, weights_only=True)
    if saved["identity"] != identity:
        raise ValueError(f"{path}: saved by a run of other texts or settings; name another file or remove it")
    return saved


@torch.no_grad()
def observe(model: Model, ids: torch.Tensor, positions: torch.Tensor, design: Design) -> tuple[list[torch.Tensor], torch.Tensor]:
    """One pass of the uncompressed model: the attention inputs of all layers and the target [n_layers, 2, t, units]."""
    inputs, found = [], []

    def attend(layer, q, k, v):
        own = q[positions]
        found.append(targets.measure(design.target, own, k, v, positions, design.window))
        return dense(layer, q, k, v)
    model.hidden(ids, attend, lambda layer, h: inputs.append(h))
    return inputs, torch.stack(found)


def draw_positions(n: int, design: Design, step: int) -> torch.Tensor:
    """Positions of a sequence of n tokens with something to choose from, sorted."""
    generator = torch.Generator().manual_seed(design.seed * 1_000_003 + step)
    first = min(n - 1, design.window + 2 * 64 if n < 2048 else 512)
    return (first + torch.randperm(n - first, generator=generator)[:design.queries]).sort().values


def run(model: Model, training: Training, sequence, until: int) -> None:
    """Steps up to `until`. sequence(step) → ids, int array."""
    while training.step < until:
        ids = torch.as_tensor(sequence(training.step), dtype=torch.long).to(model.device)
        positions = draw_positions(len(ids), training.design, training.step).to(model.device)
        training.run(ids, positions)
