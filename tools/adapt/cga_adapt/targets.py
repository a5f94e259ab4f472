"""What the index learns from: what the layers of a model read of each 16-token unit of the archive, as attention mass or as
what it does to their outputs. Computed from queries, keys and values as they pass, never stored."""

import math

import torch
import torch.nn.functional as F

from .index import eligible
from .sidecar import UNIT


def _probabilities(q: torch.Tensor, k: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Over all a query sees, by units: f32 [n_heads, t, ⌈n / 16⌉, 16]."""
    t, n_heads, d = q.shape
    n, n_kv = k.shape[:2]
    rows = (q / math.sqrt(d)).unflatten(1, (n_kv, -1)).permute(1, 2, 0, 3).reshape(n_kv, -1, d)
    s = torch.bmm(rows, k.permute(1, 2, 0)).view(n_heads, t, n)
    future = torch.arange(n, device=q.device) > positions[:, None]
    p = s.masked_fill_(future, -torch.inf).softmax(-1, dtype=torch.float32)
    return F.pad(p, (0, -n % UNIT)).unflatten(-1, (-1, UNIT))


def unit_mass(q: torch.Tensor, k: torch.Tensor, positions: torch.Tensor, window: int) -> torch.Tensor:
    """Softmax probability over all a query sees, summed over the tokens of each unit; 0 for units that it cannot choose.
    q: [t, n_heads, d], rows at `positions`; k: [n, n_kv_heads, d] → f32 [2, t, ⌈n / 16⌉]: summed over heads, and its
    squares summed over heads. A head that looks for one place weighs much in the second and little in the first."""
    p = _probabilities(q, k, positions).sum(-1)
    return torch.stack([p.sum(0), p.square().sum(0)]) * eligible(positions, p.shape[-1], window)


def unit_effect(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, positions: torch.Tensor, window: int) -> torch.Tensor:
    """As unit_mass, of another measure: how far a head's output o is moved by what a unit adds to it, |Σ_s p_s (v_s - o)|
    over the unit's tokens s, in parts of the outputs' mean length. A head that reads the same everywhere moves little by
    any of it, however much mass it puts there. v: [n, n_kv_heads, d]."""
    p = _probabilities(q, k, positions)
    n_kv = v.shape[1]
    values = F.pad(v.transpose(0, 1), (0, 0, 0, -len(v) % UNIT)).unflatten(1, (-1, UNIT))  # [n_kv, units, 16, d]
    moved, lengths = [], []
    for head, own in enumerate(p):  # one at a time: [t, units, d] is large
        parts = torch.einsum("tus,usd->tud", own.to(v.dtype), values[head // (len(p) // n_kv)]).float()
        out = parts.sum(1)
        moved.append((parts - own.sum(-1, keepdim=True) * out[:, None]).norm(dim=-1))
        lengths.append(out.norm(dim=-1))
    moved = torch.stack(moved) / torch.stack(lengths).mean().clamp(min=1e-9)
    return torch.stack([moved.sum(0), moved.square().sum(0)]) * eligible(positions, moved.shape[-1], window)


def shares(mass: torch.Tensor) -> torch.Tensor:
    """[t, units] → each query's mass, renormalised to 1 (0 where there is none)."""
    return mass / mass.sum(-1, keepdim=True).clamp(min=1e-9)
