"""A Llama-like model as plain PyTorch, one sequence at a time, with its attention pluggable: everything this package
measures or changes is the post-RoPE keys and the values between projection and attention."""

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint as recompute

from .checkpoint import Checkpoint
from .sidecar import PAGE

# (layer, q [t, n_heads, d], k [t, n_kv_heads, d], v like k) → [t, n_heads, d]; k and q are rotated
Attention = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
Watch = Callable[[int, torch.Tensor], None]  # (layer, normed attention input [t, dim]), before the layer's attention


class Added(Protocol):
    """What is added to a layer's queries, before their rotation, and to its attention's output."""

    def query(self, layer: int, h: torch.Tensor) -> torch.Tensor: ...   # h: [t, dim] → [t, n_heads * head_dim]

    def output(self, layer: int, o: torch.Tensor) -> torch.Tensor: ...  # o: [t, n_heads * head_dim] → [t, dim]


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """x: [t, h, d] in half-split order; cos, sin: [t, d / 2]. In f32, returned in x's type."""
    a, b = x.float().chunk(2, -1)
    c, s = cos[:, None], sin[:, None]
    return torch.cat([a * c - b * s, b * c + a * s], -1).to(x.dtype)


def dense(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Full causal attention."""
    share = q.shape[1] // k.shape[1]
    k, v = (x.transpose(0, 1).repeat_interleave(share, 0)[None] for x in (k, v))
    return F.scaled_dot_product_attention(q.transpose(0, 1)[None], k, v, is_causal=True)[0].transpose(0, 1)


class Model:
    def __init__(self, checkpoint: Checkpoint, device: torch.device | str, dtype: torch.dtype):
        self.config, self.device, self.dtype = checkpoint.config, torch.device(device), dtype
        self.weights = checkpoint.weights(device, dtype)
        self.head = self.weights["output.weight"]  # [n_vocab, dim]
        self.frequencies = self.config.frequencies().to(device)

    def angles(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin, f32 [t, d / 2]."""
        a = positions.to(self.device).float()[:, None] * self.frequencies
        return a.cos() * self.config.rope_magnitude, a.sin() * self.config.rope_magnitude

    def page_base(self, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin of the rotation by each token's page's first position, without the magnitude: [n, d / 2]."""
        a = (torch.arange(n, device=self.device) // PAGE * PAGE).float()[:, None] * self.frequencies
        return a.cos(), a.sin()

    def norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        y = x.float()
        return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + self.config.eps)).to(self.dtype) * weight

    def _layer(self, l: int, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, attend: Attention,
               watch: Watch | None, added: Added | None = None) -> torch.Tensor:
        c, w = self.config, lambda role, kind="weight": self.weights.get(f"blk.{l}.{role}.{kind}")
        h = self.norm(x, w("attn_norm"))
        if watch:
            watch(l, h)
        q, k, v = (F.linear(h, w(r), w(r, "bias")) for r in ("attn_q", "attn_k", "attn_v"))
        if added:
            q = q + added.query(l, h)
        q, k, v = (y.unflatten(-1, (-1, c.head_dim)) for y in (q, k, v))
        o = attend(l, rotate(q, cos, sin), rotate(k, cos, sin), v).flatten(1).to(self.dtype)
        y = F.linear(o, w("attn_output"))
        x = x + (y + added.output(l, o) if added else y)
        h = self.norm(x, w("ffn_norm"))
        return x + F.linear(F.silu(F.linear(h, w("ffn_gate"))) * F.linear(h, w("ffn_up")), w("ffn_down"))

    def hidden(self, ids: torch.Tensor, attend: Attention = dense, watch: Watch | None = None) -> torch.Tensor:
        """ids: [t] → normed last hidden states [t, dim]. Where gradients are wanted, each layer is computed again on the
        way back, so that a pass keeps one layer's activations."""
        cos, sin = self.angles(torch.arange(len(ids), device=self.device))
        x = self.weights["token_embd.weight"][ids]
        for l in range(self.config.n_layers):
            if torch.is_grad_enabled():
                x = recompute(self._layer, l, x, cos, sin, attend, watch, use_reentrant=False)
            else:
                x = self._layer(l, x, cos, sin, attend, watch)
        return self.norm(x, self.weights["output_norm.weight"])

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return F.linear(hidden, self.head).float()


class Channels:
    """Between the keys and values of all layers and the channels of layer groups, for sequences of n tokens."""

    def __init__(self, model: Model, group_layers: list[int], n: int):
        self.base = model.page_base(n)
        self.magnitude, self.head_dim = model.config.rope_magnitude, model.config.head_dim
        self.n_kv_heads, self.group_layers = model.config.n_kv_heads, group_layers
        first = [sum(group_layers[:g]) for g in range(len(group_layers))]
        self.layers = [range(a, a + count) for a, count in zip(first, group_layers)]

    def split(self, keys: list[torch.Tensor], values: list[torch.Tensor]) -> list[torch.Tensor]:
        """Post-RoPE keys and values [t, n_kv_heads, d], a layer each → f32 [t, n] a group, keys in the page's frame."""
        cos, sin = (a[:len(keys[0])] for a in self.base)
        local = lambda k: (rotate(k.float(), cos, -sin) / self.magnitude).flatten(1)
        return [torch.cat([local(keys[l]) for l in ls] + [values[l].float().flatten(1) for l in ls], 1)
                for ls in self.layers]

    def split_gradients(self, keys: list[torch.Tensor], values: list[torch.Tensor]) -> list[torch.Tensor]:
        """As split(), for gradients: the rotation is orthogonal, but a magnitude multiplies where it divided."""
        m = self.magnitude ** 2
        return self.split([k * m for k in keys], values)

    def join(self, groups: list[torch.Tensor], dtype: torch.dtype) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """The reverse of split(): (keys, values), rotated forward, then rounded to dtype."""
        cos, sin = (a[:len(groups[0])] for a in self.base)
        keys, values = [], []
        for x in groups:
            k, v = x.chunk(2, 1)
            layers = lambda part: part.unflatten(1, (-1, self.n_kv_heads, self.head_dim)).unbind(1)
            keys += [(rotate(a, cos, sin) * self.magnitude).to(dtype) for a in layers(k)]
            values += [a.to(dtype) for a in layers(v)]
        return keys, values


@torch.no_grad()
def capture(model: Model, ids: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """(hidden states, post-RoPE keys a layer, values a layer) of the uncompressed model."""
    keys, values = [], []

    def attend(l, q, k, v):
        keys.append(k)
        values.append(v)
        return dense(l, q, k, v)
    return model.hidden(ids, attend), keys, values
