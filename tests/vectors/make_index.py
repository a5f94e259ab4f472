"""Writes tests/vectors/index: sidecars with a random index for the tiny qwen2-mixed model, and what tools/adapt chooses
by one of them.

    python make_index.py        # needs requirements.txt

  one.cga, two.cga     sidecars (docs/sidecar.md) whose transform and index are random: one anchor for both layers, with
                       keys from both; two anchors, each for its own
  adapted.cga          two.cga with random adapters of rank 8, and queries that need more or less
  one.safetensors      h.<l> F32 [t, dim]          attention inputs of layer l
                       chosen.<k> I32 [rows, k]    units that the last 64 of the t tokens choose among units 1 to 20, the best k
"""
import dataclasses
import pathlib

import numpy as np
import torch

from make_codec import HERE, checkpoint, random_group, safetensors_file, sidecar
from cga_adapt import index
from cga_adapt.adapter import Adapter
from cga_adapt.sidecar import Sidecar

HEADS, WIDTH, N_TOKENS, ROWS, LAST = 5, 24, 400, 64, 21


def random_anchor(rng: np.random.Generator, dim: int, layer: int, n_layers: int) -> index.Anchor:
    normal = lambda *shape: torch.from_numpy(rng.normal(size=shape) / np.sqrt(dim))
    return index.Anchor(layer, n_layers, normal(HEADS, WIDTH, dim).half(), normal(n_layers, WIDTH, dim).half(),
                        normal(HEADS, dim).half(), torch.from_numpy(rng.normal(size=HEADS).astype(np.float32)))


def make(name: str, seed: int, source: checkpoint.Checkpoint, select: list[int]) -> Sidecar:
    rng = np.random.default_rng(seed)
    c = source.config
    group, _ = random_group(rng, 2 * c.n_layers * c.kv_channels, 128, 64)
    metadata = {
        "format": "cga-sidecar", "format_version": 1, "architecture": c.architecture, "n_layers": c.n_layers,
        "n_heads": c.n_heads, "n_kv_heads": c.n_kv_heads, "head_dim": c.head_dim, "dim": c.dim,
        "rope_theta": c.rope_theta, "rope_magnitude": c.rope_magnitude, "fingerprint": source.fingerprint(),
        "page": 64, "unit": 16, "group_layers": [c.n_layers],
        "defaults": {"kv_bits": 1.5, "kv_window": 64, "kv_sparse_from": 128, "kv_budget": 64},
        "calibration": [{"text": "random", "tokens": 0}], "quality": [], "spectra": [[]], "tool": sidecar.tool(),
        "select_layers": select, "index_heads": HEADS, "index_width": WIDTH, "index_training": {},
        "index_quality": [{"text": "random", "tokens": 0, "select": "index", "budget": 64, "recall": 0.5, "kv_bits": 1.5,
                           "kl": 0.1, "ppl_change": 0.01, "ppl_interval": 0.001, "top1": 0.9}]}
    anchors = [random_anchor(rng, c.dim, sum(select[:i]), n) for i, n in enumerate(select)]
    made = Sidecar(metadata, [group], anchors)
    made.write(HERE / "index" / f"{name}.cga")
    return made


def adapt(made: Sidecar, source: checkpoint.Checkpoint) -> None:
    rng = np.random.default_rng(4)
    c, rank = source.config, 8
    random = lambda rows, cols: torch.from_numpy(rng.normal(size=(rows, cols)) * 0.5 / np.sqrt(cols)).half()
    made.adapters = [Adapter(**{field: random(*shape) for field, shape in
                                Adapter.shapes(rank, c.dim, c.n_heads * c.head_dim).items()}) for _ in range(c.n_layers)]
    made.metadata["lora"] = {"rank": rank}
    need = lambda: torch.from_numpy(rng.normal(size=(1, c.dim)) * 0.6 / np.sqrt(c.dim)).half()
    made.anchors = [dataclasses.replace(a, need=need(), need_bias=torch.ones(1)) for a in made.anchors]
    made.write(HERE / "index" / "adapted.cga")


def choices(made: Sidecar, source: checkpoint.Checkpoint) -> None:
    rng = np.random.default_rng(9)
    c, anchor = source.config, made.anchors[0]
    inputs = [torch.from_numpy(rng.normal(size=(N_TOKENS, c.dim)).astype(np.float32)) for _ in range(c.n_layers)]
    angle = torch.arange(N_TOKENS).float()[:, None] * c.frequencies()
    k = index.keys(anchor, inputs, angle.cos(), angle.sin())
    rows = slice(N_TOKENS - ROWS, N_TOKENS)
    q, w = index.queries(anchor, inputs[0][rows], angle[rows].cos(), angle[rows].sin())
    scores = index.unit_scores(index.coded_scores(q, w, k))[:, :LAST]
    allowed = torch.ones_like(scores, dtype=torch.bool)
    allowed[:, 0] = False
    tensors = {f"h.{l}": h.numpy() for l, h in enumerate(inputs)}
    for count in (1, 5, 12):
        chosen = index.top_units(scores, allowed, 16 * count)
        tensors[f"chosen.{count}"] = chosen.nonzero()[:, 1].view(ROWS, count).int().numpy()
    safetensors_file.write(HERE / "index" / "one.safetensors", tensors, {})


if __name__ == "__main__":
    (HERE / "index").mkdir(exist_ok=True)
    tiny = checkpoint.load(HERE / "tiny" / "qwen2-mixed.gguf")
    choices(make("one", 1, tiny, [2]), tiny)
    adapt(make("two", 2, tiny, [1, 1]), tiny)
