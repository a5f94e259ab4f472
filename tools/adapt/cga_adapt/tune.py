"""Tuning: gradient steps on the transforms with the codec in the loop.

The decomposition minimises a squared error weighted by sensitivities, which stands for what is wanted: a model that, reading
its past from codes, says what it would have said. Here that itself is lowered, on calibration text: KL divergence from the
uncompressed model, and with a small weight the text's own next tokens. What quantisers lose is not only noise: their levels
are means, so what they restore is smaller than what was coded, and the model reads its past less than it should. Divergence
hardly shows that (it is of second order), the text does (of first).

Learned of each group: a gain a component and a gain a channel, both multiplied into the basis, the scale, and the mean. These are
few numbers and generalise; correcting the basis itself did not help. Variances stay, and so does the allocation of bits. Rounding to
levels passes gradients on with the slope of the best line through the quantiser, 1 - its distortion.
"""

import math

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint as recompute

from . import bits, codebooks, quality
from .codec import Codec
from .model import Channels, Model, capture
from .progress import progress
from .sidecar import Group, round_narrow

RATES = (1.5, 1.0, 1.5, 2.0)  # in turns: the default rate twice
TEXT_WEIGHT = 0.015           # of the text's own tokens in the loss; the rest is KL divergence. More fits the text's domain
STEPS_OF = {"component": 1.5e-3, "channel": 1e-3, "scale": 4e-3, "mean": 3e-3}  # Adam's step sizes
LENGTH = 4096                 # tokens of a step
FIRST = 256                   # positions before this one are nearly all exact: not in the loss
QUERIES, HEAD_ROWS = 1024, 1024


class Tunable(torch.nn.Module):
    """One group's transform as parameters around the group it started from."""

    def __init__(self, group: Group):
        super().__init__()
        self.group = group
        zeros = lambda *shape: torch.nn.Parameter(torch.zeros(*shape, device=group.mean.device))
        self.register_buffer("start", group.basis_matrix())  # [m, n]
        self.component, self.channel = zeros(group.n_components), zeros(group.n_channels)  # logarithms of gains
        self.scale, self.mean = zeros(group.n_channels), zeros(group.n_channels)
        spread = (self.start.square() * group.variance[:, None]).sum(0).sqrt()  # of z, by channel
        self.register_buffer("unit", spread / group.scale)  # what a step of the mean is counted in
        self.plans = {}

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """basis [m, n], scale [n], mean [n], as learned so far."""
        basis = self.start * self.component.exp()[:, None] * self.channel.exp()
        return basis, self.group.scale * self.scale.exp(), self.group.mean + self.mean * self.unit

    def _plan(self, rate: float) -> tuple[list[tuple[int, int, int]], int]:
        if rate not in self.plans:
            codec, g = Codec(self.group, rate), self.group
            runs = codec._runs(0, g.n_wide) + codec._runs(g.n_wide, g.n_components)
            self.plans[rate] = runs, runs[-1][1]
        return self.plans[rate]

    def forward(self, x: torch.Tensor, rate: float) -> torch.Tensor:
        """x: [t, n] → x̂ [t, n], as Codec, with gradients for the parameters."""
        (runs, live), g = self._plan(rate), self.group
        basis, scale, mean = self.tensors()
        basis = basis[:live]
        z, w = (x - mean) * scale, min(g.n_wide, live)
        sigma = g.variance.sqrt()
        restored, first = [], 0
        for last in (w, live):
            y = z @ basis[first:last].T
            part = [quantise(y[:, a - first:b - first] / sigma[a:b], width, g) * sigma[a:b]
                    for a, b, width in runs if first <= a < last]
            restored.append(torch.cat(part, 1) if part else y)
            z = z - restored[-1] @ basis[first:last]
            first = last
        return mean + (torch.cat(restored, 1) @ basis) / scale

    @torch.no_grad()
    def rounded(self) -> Group:
        basis, scale, mean = self.tensors()
        w = self.group.n_wide
        codes, scales = round_narrow(basis[w:])
        return Group(mean.clone(), scale.clone(), self.group.variance, basis[:w].half(), codes, scales, self.group.codebooks)


def quantise(y: torch.Tensor, width: int, group: Group) -> torch.Tensor:
    """Nearest levels of y (unit variance); gradients pass with the slope of a line."""
    levels = codebooks.UNIFORM_8.to(y.device) if width == 8 else group.codebooks[width]
    fixed = y.detach()
    return levels[codebooks.nearest(fixed, levels)] + (1 - bits.DISTORTION[width]) * (y - fixed)


def loss(model: Model, full: torch.Tensor, other: torch.Tensor, ids: torch.Tensor, text_weight: float) -> torch.Tensor:
    """Mean over positions from FIRST on; full and other are hidden states [t, dim]."""
    def part(p, q, following):
        p, q = model.logits(p).log_softmax(-1), model.logits(q).log_softmax(-1)
        kl = (p.exp() * (p - q)).sum(-1)
        more = (p - q).gather(1, following[:, None])[:, 0]  # how much less likely the text's own token became
        return ((1 - text_weight) * kl + text_weight * more).sum()

    first, last = min(FIRST, len(ids) // 4), len(ids) - 1
    cuts = [*range(first, last, HEAD_ROWS), last]
    parts = [recompute(part, full[a:b], other[a:b], ids[a + 1:b + 1], use_reentrant=False) for a, b in zip(cuts, cuts[1:])]
    return sum(parts) / (last - first)


def tune(model: Model, groups: list[Group], group_layers: list[int], sequences: list[np.ndarray], steps: int, seed: int = 0,
         text_weight: float = TEXT_WEIGHT, steps_of: dict[str, float] = STEPS_OF) -> list[Group]:
    """`steps` steps of Adam, a sequence and a rate each, the step sizes falling to nothing."""
    before, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, True  # gradients need no more
    try:
        return descend(model, [Tunable(g) for g in groups], group_layers, sequences, steps, seed, text_weight, steps_of)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def descend(model: Model, tunables: list[Tunable], group_layers: list[int], sequences: list[np.ndarray], steps: int,
            seed: int, text_weight: float, steps_of: dict[str, float]) -> list[Group]:
    optimiser = torch.optim.Adam([{"params": [getattr(t, name) for t in tunables], "lr": size, "size": size}
                                  for name, size in steps_of.items()], betas=(0.9, 0.98))
    order = np.random.default_rng(seed)
    turns = np.concatenate([order.permutation(len(sequences)) for _ in range(-(-steps // len(sequences)))])
    for step in progress(range(steps), "tuning", steps):
        warm, done = min(1.0, (step + 1) / 20), step / steps
        for part in optimiser.param_groups:
            part["lr"] = part["size"] * warm * 0.5 * (1 + math.cos(math.pi * done))
        ids = torch.from_numpy(sequences[turns[step]].astype(np.int64)).to(model.device)
        full, keys, values = capture(model, ids)
        channels = Channels(model, group_layers, len(ids))
        rate = RATES[step % len(RATES)]
        coded = [recompute(t, x, rate, use_reentrant=False) for t, x in zip(tunables, channels.split(keys, values))]
        ck, cv = channels.join(coded, model.dtype)
        other = model.hidden(ids, lambda l, q, k, v: quality.attend(q, k, v, ck[l], cv[l], queries=QUERIES))
        optimiser.zero_grad(set_to_none=True)
        loss(model, full, other, ids, text_weight).backward()
        optimiser.step()
    return [t.rounded() for t in tunables]


@torch.no_grad()
def judge(model: Model, groups: list[Group], group_layers: list[int], sequences: list[np.ndarray],
          rate: float) -> tuple[float, float, float]:
    """Over all positions of the sequences: mean KL, how much less likely the text became (nats a token) and the standard
    error of that."""
    coders, rows = [Codec(g, rate) for g in groups], []
    for sequence in sequences:
        ids = torch.from_numpy(sequence.astype(np.int64)).to(model.device)
        full, keys, values = capture(model, ids)
        channels = Channels(model, group_layers, len(ids))
        decoded = [c.decode(c.encode(x)) for c, x in zip(coders, channels.split(keys, values))]
        ck, cv = channels.join(decoded, model.dtype)
        other = model.hidden(ids, lambda l, q, k, v: quality.attend(q, k, v, ck[l], cv[l], queries=QUERIES))
        rows.append(quality.compare(model, full, other, ids, len(ids) // 4))
    kl, before, after, _ = np.concatenate(rows, 1)
    return float(kl.mean()), float((after - before).mean()), float((after - before).std()) / math.sqrt(len(kl))


def improve(model: Model, groups: list[Group], group_layers: list[int], training: list[np.ndarray],
            judging: list[np.ndarray], steps: int, seed: int) -> tuple[list[Group], str]:
    """Tunes and, on text kept out of it, judges; the transforms that are better there, and a line that says so."""
    pieces = lambda part: [s[i:i + LENGTH] for s in part for i in range(0, max(1, len(s) - LENGTH + 1), LENGTH)]
    tuned = tune(model, groups, group_layers, pieces(training), steps, seed)
    kept_out = pieces(judging)
    results = {name: judge(model, option, group_layers, kept_out, RATES[0])
               for name, option in (("as decomposed", groups), ("tuned", tuned))}
    score = lambda kl, text, _: (1 - TEXT_WEIGHT) * kl + TEXT_WEIGHT * text
    best = min(results, key=lambda name: score(*results[name]))
    lines = [f"{name}: KL {kl:.5f}, text {text:+.5f} ± {error:.5f} nats at {RATES[0]} bits on kept-out text"
             for name, (kl, text, error) in results.items()]
    return tuned if best == "tuned" else groups, "\n".join([*lines, f"kept: {best}"])
