"""Means, covariances and sensitivities of every layer group's channels, streamed over calibration sequences.

The sensitivity is the diagonal of the Fisher information: E[(∂ log p / ∂x)²] with next tokens sampled from the model
itself, by one backward pass a sequence. The same pass gives the keys and values. Sums are kept in f64; they can be
saved and picked up again, and because a sequence's labels depend only on the seed and its place in the list, a run
that was interrupted ends with the numbers of one that was not.
"""

import dataclasses
import os
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F

from . import safetensors_file
from .model import Channels, Model, dense
from .progress import progress
from .sidecar import SINKS

CLIP = 10.0   # a token's gradient norm is cut to this many times the sequence's median
RIDGE = 0.1   # of the mean, added to the Fisher information
SAVE_EVERY = 60.0  # seconds
HEAD_ROWS = 1024   # tokens whose logits are held at a time


def sample_gradients(model: Model, ids: torch.Tensor, generator: torch.Generator) -> tuple[list, list, list, list]:
    """(keys, values, their gradients): a layer each, [t, n_kv_heads, d]; gradients of the summed log-likelihood."""
    keys, values, leaves = {}, {}, {}

    def attend(l, q, k, v):  # runs twice a layer: forward, and again on the way back
        if l not in leaves:
            keys[l], values[l] = k.detach(), v.detach()
            leaves[l] = tuple(torch.zeros_like(a, dtype=torch.float32, requires_grad=True) for a in (k, v))
        return dense(l, q, *((a.float() + leaf).to(a.dtype) for a, leaf in zip((k, v), leaves[l])))

    with torch.enable_grad():
        hidden = model.hidden(ids, attend)
        top = hidden.detach().requires_grad_(True)
        for i in range(0, len(ids), HEAD_ROWS):
            logits = model.logits(top[i:i + HEAD_ROWS])
            labels = torch.multinomial(logits.detach().softmax(-1), 1, generator=generator)[:, 0]
            F.cross_entropy(logits, labels, reduction="sum").backward()
        hidden.backward(top.grad)
    layers = range(model.config.n_layers)
    return ([keys[l] for l in layers], [values[l] for l in layers],
            [leaves[l][0].grad for l in layers], [leaves[l][1].grad for l in layers])


@dataclasses.dataclass
class Moments:
    """Sums over the tokens of one layer group, f64."""
    total: torch.Tensor   # [n]
    second: torch.Tensor  # [n, n]
    fisher: torch.Tensor  # [n]

    @staticmethod
    def zeros(n: int, device: torch.device) -> "Moments":
        new = lambda *shape: torch.zeros(*shape, dtype=torch.float64, device=device)
        return Moments(new(n), new(n, n), new(n))

    def add(self, x: torch.Tensor, gradient: torch.Tensor) -> None:
        """x, gradient: [t, n], f32, without the sinks."""
        x, gradient = x.double(), gradient.double()
        self.total += x.sum(0)
        self.second.addmm_(x.T, x)
        norm = gradient.norm(dim=1)
        clip = (CLIP * norm.median() / norm.clamp(min=1e-300)).clamp(max=1.0)
        self.fisher += (gradient * clip[:, None]).square().sum(0)


class Statistics:
    def __init__(self, sizes: list[int], device: torch.device, identity: dict[str, str]):
        """sizes: channels of each group. identity: what a saved file must agree with to be picked up."""
        self.identity, self.n_tokens, self.n_done = identity, 0, 0
        self.groups = [Moments.zeros(n, device) for n in sizes]

    def covariance(self, g: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(mean [n], covariance [n, n], Fisher information [n] with its ridge), f64."""
        moments = self.groups[g]
        mean, fisher = moments.total / self.n_tokens, moments.fisher / self.n_tokens
        return mean, moments.second / self.n_tokens - mean[:, None] * mean, fisher + RIDGE * fisher.mean()

    def save(self, path: str | os.PathLike) -> None:
        arrays = {f"{g}.{f.name}": getattr(m, f.name).cpu().numpy()
                  for g, m in enumerate(self.groups) for f in dataclasses.fields(m)}
        counts = {"n_tokens": str(self.n_tokens), "n_done": str(self.n_done)}
        safetensors_file.write(path, arrays, self.identity | counts)

    def resume(self, path: str | os.PathLike) -> None:
        arrays, text = safetensors_file.read(path)
        for key, value in self.identity.items():
            if text.get(key) != value:
                raise ValueError(f"{path}: saved statistics have {key} {text.get(key)}, this run has {value}; "
                                 "name another file or remove it")
        self.n_tokens, self.n_done = int(text["n_tokens"]), int(text["n_done"])
        for g, moments in enumerate(self.groups):
            for field in dataclasses.fields(moments):
                getattr(moments, field.name).copy_(torch.from_numpy(np.array(arrays[f"{g}.{field.name}"])))


def gather(model: Model, sequences: list[np.ndarray], group_layers: list[int], seed: int, identity: dict[str, str],
           path: str | None = None) -> Statistics:
    sizes = [2 * count * model.config.kv_channels for count in group_layers]
    statistics = Statistics(sizes, model.device, identity)
    if path and pathlib.Path(path).exists():
        statistics.resume(path)
    first, saved = statistics.n_done, time.monotonic()
    for i in progress(range(first, len(sequences)), "statistics", len(sequences), first):
        ids = torch.from_numpy(sequences[i].astype(np.int64)).to(model.device)
        generator = torch.Generator(model.device).manual_seed(seed * 1_000_003 + i)
        keys, values, key_gradients, value_gradients = sample_gradients(model, ids, generator)
        channels = Channels(model, group_layers, len(ids))
        gradients = channels.split_gradients(key_gradients, value_gradients)
        for moments, x, gradient in zip(statistics.groups, channels.split(keys, values), gradients):
            moments.add(x[SINKS:], gradient[SINKS:])
        statistics.n_tokens += max(0, len(ids) - SINKS)
        statistics.n_done = i + 1
        if path and (time.monotonic() - saved > SAVE_EVERY or i + 1 == len(sequences)):
            statistics.save(path)
            saved = time.monotonic()
    return statistics
