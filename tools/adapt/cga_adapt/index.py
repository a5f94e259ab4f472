"""The index's arithmetic: which 16-token units of the archive a query reads. docs/sidecar.md is the format, and this is
the plain formula that the training and the engine are held to.

An anchor is the first layer of a selection group. Its queries come from that layer's normed attention input; its keys
are sums of projections of the attention inputs of all layers it serves, which a token has long passed when its page is
sealed."""

import dataclasses
import math

import numpy as np
import torch

from .layout import PAGE, SINKS, UNIT


@dataclasses.dataclass
class Anchor:
    layer: int
    n_layers: int           # served: layer, layer + 1, …
    query: torch.Tensor     # [H, d, dim], f16
    key: torch.Tensor       # [K, d, dim], f16: row i reads the attention input of layer + i
    weight: torch.Tensor    # [H, dim], f16
    bias: torch.Tensor      # [H], f32
    need: torch.Tensor | None = None       # [1, dim], f16: how much of the budget a query reads; or all read as much
    need_bias: torch.Tensor | None = None  # [1], f32

    ALWAYS = ("query", "key", "weight", "bias")
    BY_NEED = ("need", "need_bias")

    @property
    def fields(self) -> tuple[str, ...]:
        return self.ALWAYS if self.need is None else self.ALWAYS + self.BY_NEED

    @property
    def n_bytes(self) -> int:
        return sum(getattr(self, f).nbytes for f in self.fields)

    def to(self, device: torch.device | str) -> "Anchor":
        return dataclasses.replace(self, **{f: getattr(self, f).to(device) for f in self.fields})

    def tensors(self) -> dict[str, np.ndarray]:
        return {f"anchor.{self.layer}.{f}": getattr(self, f).cpu().numpy() for f in self.fields}

    @staticmethod
    def from_tensors(tensors: dict[str, np.ndarray], layer: int, n_layers: int) -> "Anchor":
        there = lambda f: torch.from_numpy(np.array(tensors[f"anchor.{layer}.{f}"]))
        fields = Anchor.ALWAYS + (Anchor.BY_NEED if f"anchor.{layer}.need" in tensors else ())
        return Anchor(layer, n_layers, **{f: there(f) for f in fields})


def rotate_half(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotates the second half of x's last dimension, d / 2 channels, by the slowest d / 4 frequencies; its channel i goes
    with i + d / 4. x: [t, ..., d]; cos, sin: [t, head_dim / 2], without a magnitude."""
    pairs = x.shape[-1] // 4
    shape = (len(x), *[1] * (x.dim() - 2), pairs)
    c, s = (a[:, -pairs:].to(x.dtype).view(shape) for a in (cos, sin))
    still, a, b = x.split((x.shape[-1] - 2 * pairs, pairs, pairs), -1)
    return torch.cat([still, a * c - b * s, b * c + a * s], -1)


def keys(anchor: Anchor, inputs: list[torch.Tensor], cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """inputs: the attention inputs [t, dim] of layer, layer + 1, … → rotated keys, f32 [t, d]."""
    k = sum(h.float() @ w.float().T for h, w in zip(inputs, anchor.key))
    return rotate_half(k, cos, sin)


def quantise(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[..., d] → int8 of the same shape and f32 scales [...]: scale = max |x| / 127, 1 where that is 0; ties to even."""
    peak = x.abs().amax(-1)
    scale = torch.where(peak > 0, peak / 127, torch.ones_like(peak))
    return torch.round(x / scale[..., None]).clamp(-127, 127).to(torch.int8), scale


def queries(anchor: Anchor, h: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """h: [t, dim] → rotated queries, f32 [t, H, d], and head weights, f32 [t, H]."""
    q = (h.float() @ anchor.query.float().flatten(0, 1).T).unflatten(1, anchor.query.shape[:2])
    return rotate_half(q, cos, sin), h.float() @ anchor.weight.float().T + anchor.bias


def token_scores(q: torch.Tensor, w: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Σ_j w_j · max(0, ⟨q_j, k_s⟩) / √d: q [t, H, d], w [t, H], k [n, d] → [t, n]."""
    s = torch.relu(torch.einsum("thd,nd->thn", q, k))
    return torch.einsum("th,thn->tn", w / math.sqrt(k.shape[1]), s)


def coded_scores(q: torch.Tensor, w: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """The same with queries and keys in int8, as the engine computes it: inner products are exact integers."""
    q8, q_scale = quantise(q)
    k8, k_scale = quantise(k)
    return token_scores(q8.float(), w * q_scale, k8.float()) * k_scale


def unit_scores(scores: torch.Tensor) -> torch.Tensor:
    """[t, n] → the largest of each unit's tokens, [t, ⌈n / 16⌉]."""
    return torch.nn.functional.pad(scores, (0, -scores.shape[1] % UNIT), value=-torch.inf).unflatten(1, (-1, UNIT)).amax(-1)


def sealed_end(positions: torch.Tensor, window: int) -> torch.Tensor:
    """What lies before this is archived for the query at each position (but for the sinks)."""
    return (positions - window).clamp(min=0) // PAGE * PAGE


def eligible(positions: torch.Tensor, n_units: int, window: int) -> torch.Tensor:
    """Units a query may choose: bool [t, n_units]. Unit 0 is always read exactly, and never chosen."""
    first = torch.arange(n_units, device=positions.device) * UNIT
    return (first >= SINKS) & (first < sealed_end(positions, window)[:, None])


def wanted(anchor: Anchor, h: torch.Tensor, budget: int) -> torch.Tensor | None:
    """How many units each query has, h: [t, dim] → int64 [t]; None where all have ⌊budget / 16⌋."""
    if anchor.need is None:
        return None
    mean = budget // UNIT
    share = h.float() @ anchor.need.float()[0] + anchor.need_bias
    return torch.round(mean * share).clamp(-(-mean // 4), 3 * mean).long()


def top_units(scores: torch.Tensor, allowed: torch.Tensor, budget: int, counts: torch.Tensor | None = None) -> torch.Tensor:
    """The ⌊budget / 16⌋ best allowed units of each query, or as many as `counts` says, ties to the lower position: bool, the
    shape of scores."""
    order = scores.float().masked_fill(~allowed, -torch.inf).sort(dim=-1, descending=True, stable=True).indices
    count = budget // UNIT if counts is None else counts[:, None]
    taken = (torch.arange(scores.shape[1], device=scores.device) < count).expand_as(order)
    return torch.zeros_like(allowed).scatter_(1, order, taken) & allowed
