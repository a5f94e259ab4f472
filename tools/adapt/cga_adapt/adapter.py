"""What a model that reads a part of its archive adds to a layer: low-rank matrices beside attention's query and output
projections, which bring it nearer to the model that reads everything.

Of layer l, for a row that leaves units unread, with h its normed attention input and o its heads' outputs side by side:

    q = W_q h + b_q + q_up (q_down h)        y = W_o o + o_up (o_down o)

A row that reads all there is goes through the plain model, and so do keys and values: what is archived is the same
with and without. The index's queries have no matrices here; they see h, which the layers below have changed. Rows of q_up are
in half-split order, as keys are in docs/sidecar.md; q is rotated after the sum."""

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F

from .layout import UNIT


@dataclasses.dataclass
class Adapter:
    """Of one layer, r ranks; q_dim = n_heads * head_dim. Stored in f16, trained in f32."""
    q_down: torch.Tensor  # [r, dim]
    q_up: torch.Tensor    # [q_dim, r]
    o_down: torch.Tensor  # [r, q_dim]
    o_up: torch.Tensor    # [dim, r]

    FIELDS = ("q_down", "q_up", "o_down", "o_up")

    @staticmethod
    def shapes(rank: int, dim: int, q_dim: int) -> dict[str, tuple[int, int]]:
        return {"q_down": (rank, dim), "q_up": (q_dim, rank), "o_down": (rank, q_dim), "o_up": (dim, rank)}

    def map(self, change) -> "Adapter":
        return Adapter(*(change(getattr(self, f)) for f in self.FIELDS))

    def to(self, device: torch.device | str) -> "Adapter":
        return self.map(lambda x: x.to(device))

    def stored(self) -> "Adapter":
        return self.map(lambda x: x.detach().half().cpu())

    def tensors(self, layer: int) -> dict[str, np.ndarray]:
        return {f"lora.{layer}.{f}": getattr(self, f).cpu().numpy() for f in self.FIELDS}

    @staticmethod
    def from_tensors(tensors: dict[str, np.ndarray], layer: int, rank: int, dim: int, q_dim: int) -> "Adapter":
        found = {}
        for field, shape in Adapter.shapes(rank, dim, q_dim).items():
            name = f"lora.{layer}.{field}"
            if name not in tensors:
                raise ValueError(f"{name} is missing")
            array = tensors[name]
            if array.dtype != np.float16 or array.shape != shape:
                raise ValueError(f"{name} is {array.dtype} {list(array.shape)}, not float16 {list(shape)}")
            found[field] = torch.from_numpy(np.array(array))
        return Adapter(**found)


@dataclasses.dataclass
class Rows:
    """What a pass of the model adds (model.Added): the adapters', to the rows that leave something unread."""
    adapters: list[Adapter]  # a layer each
    unread: torch.Tensor     # bool [t, 1]

    def query(self, layer: int, h: torch.Tensor) -> torch.Tensor:
        """h: [t, dim] → [t, q_dim]"""
        return self._product(h, self.adapters[layer].q_down, self.adapters[layer].q_up)

    def output(self, layer: int, o: torch.Tensor) -> torch.Tensor:
        """o: [t, q_dim] → [t, dim]"""
        return self._product(o, self.adapters[layer].o_down, self.adapters[layer].o_up)

    def _product(self, x: torch.Tensor, down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        added = F.linear(F.linear(x, down.to(x.dtype)), up.to(x.dtype))
        return torch.where(self.unread, added, torch.zeros_like(added))


def leaves_unread(allowed: torch.Tensor, budget: int) -> torch.Tensor:
    """allowed: index.eligible's, [t, units] → bool [t, 1]: rows that may choose from more than the budget."""
    return allowed.sum(-1, keepdim=True) > budget // UNIT
