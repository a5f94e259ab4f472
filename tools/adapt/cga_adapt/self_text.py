"""Text that the model writes itself, for calibration: it covers what the model knows better than any handful of books.

Sampled at temperature 1 from the beginning-of-text token on, many sequences at once, with a plain KV cache."""

import numpy as np
import torch
import torch.nn.functional as F

from .model import Model, rotate
from .progress import progress

BATCH = 256


@torch.no_grad()
def write(model: Model, begin: int, n_tokens: int, length: int, seed: int) -> list[np.ndarray]:
    """Sequences of `length` ids, int32, about n_tokens in all. A sequence in which the model ends its text goes on with
    the next one, as in training. The same seed and device give the same text."""
    generator = torch.Generator(model.device).manual_seed(seed)
    out = []
    rounds = -(-n_tokens // (BATCH * length))
    for _ in progress(range(rounds), "writing", rounds):
        ids = torch.full((BATCH, length), begin, dtype=torch.long, device=model.device)
        cache = Cache(model, BATCH, length)
        for t in range(length - 1):
            probabilities = model.logits(cache.step(ids[:, t], t)).softmax(-1)
            ids[:, t + 1] = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
        out += list(ids.to(torch.int32).cpu().numpy())
    return out[: -(-n_tokens // length)]


class Cache:
    """Keys and values of a batch, and the step that adds a token to each of its sequences."""

    def __init__(self, model: Model, batch: int, length: int):
        self.model, c = model, model.config
        shape = (batch, c.n_kv_heads, length, c.head_dim)
        self.keys, self.values = ([torch.zeros(shape, dtype=model.dtype, device=model.device) for _ in range(c.n_layers)]
                                  for _ in range(2))

    def step(self, ids: torch.Tensor, t: int) -> torch.Tensor:
        """ids: [batch], all at position t → normed last hidden states [batch, dim]."""
        model, c = self.model, self.model.config
        cos, sin = model.angles(torch.tensor([t]))
        x = model.weights["token_embd.weight"][ids]
        share = c.n_heads // c.n_kv_heads
        for l in range(c.n_layers):
            w = lambda role, kind="weight": model.weights.get(f"blk.{l}.{role}.{kind}")
            h = model.norm(x, w("attn_norm"))
            q, k, v = (F.linear(h, w(r), w(r, "bias")).unflatten(-1, (-1, c.head_dim)) for r in ("attn_q", "attn_k", "attn_v"))
            self.keys[l][:, :, t], self.values[l][:, :, t] = rotate(k, cos, sin), v
            q = rotate(q, cos, sin).unflatten(1, (c.n_kv_heads, share))  # [batch, n_kv, share, d]
            o = F.scaled_dot_product_attention(q, self.keys[l][:, :, : t + 1], self.values[l][:, :, : t + 1])
            x = x + F.linear(o.flatten(1), w("attn_output"))
            h = model.norm(x, w("ffn_norm"))
            x = x + F.linear(F.silu(F.linear(h, w("ffn_gate"))) * F.linear(h, w("ffn_up")), w("ffn_down"))
        return model.norm(x, model.weights["output_norm.weight"])
