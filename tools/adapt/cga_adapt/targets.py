"""What the index learns from: the attention mass that the layers of a model put on each 16-token unit of the archive.
Computed from queries and keys as they pass, never stored."""

import math

import torch

from .index import eligible
from .sidecar import UNIT


def unit_mass(q: torch.Tensor, k: torch.Tensor, positions: torch.Tensor, window: int) -> torch.Tensor:
    """Softmax probability over all a query sees, summed over the tokens of each unit; 0 for units that it cannot choose.
    q: [t, n_heads, d], rows at `positions`; k: [n, n_kv_heads, d] → f32 [2, t, ⌈n / 16⌉]: summed over heads, and its
    squares summed over heads. A head that looks for one place weighs much in the second and little in the first."""
    t, n_heads, d = q.shape
    n, n_kv = k.shape[:2]
    rows = (q / math.sqrt(d)).unflatten(1, (n_kv, -1)).permute(1, 2, 0, 3).reshape(n_kv, -1, d)
    s = torch.bmm(rows, k.permute(1, 2, 0)).view(n_heads, t, n)
    future = torch.arange(n, device=q.device) > positions[:, None]
    p = s.masked_fill_(future, -torch.inf).softmax(-1, dtype=torch.float32)
    p = torch.nn.functional.pad(p, (0, -n % UNIT)).unflatten(-1, (-1, UNIT)).sum(-1)
    return torch.stack([p.sum(0), p.square().sum(0)]) * eligible(positions, p.shape[-1], window)


def shares(mass: torch.Tensor) -> torch.Tensor:
    """[t, units] → each query's mass, renormalised to 1 (0 where there is none)."""
    return mass / mass.sum(-1, keepdim=True).clamp(min=1e-9)
