#!/usr/bin/env python3
"""Writes tests/vectors/quant/<type>.bin: random blocks, then what the Python package gguf reads from them.

A file holds n blocks as they lie in a model file, followed by n * block_values little-endian f32. The test
works out n from the size. Needs numpy and gguf; run again only when a type is added.
"""
import pathlib

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf.quants import dequantize

# type, block bytes, byte offsets of f16 fields (which must be finite), blocks
TYPES = [
    (T.F32, 4, [], 256),
    (T.F16, 2, [0], 512),
    (T.BF16, 2, [], 512),
    (T.Q4_0, 18, [0], 20),
    (T.Q4_1, 20, [0, 2], 20),
    (T.Q5_0, 22, [0], 20),
    (T.Q5_1, 24, [0, 2], 20),
    (T.Q8_0, 34, [0], 20),
    (T.Q4_K, 144, [0, 2], 7),
    (T.Q5_K, 176, [0, 2], 7),
    (T.Q6_K, 210, [208], 7),
]


def finite_f16(rng, n):
    """Any finite pattern: zeros, subnormals and negative values among them."""
    bits = rng.integers(0, 1 << 16, n, dtype=np.uint16)
    bits[(bits & 0x7C00) == 0x7C00] ^= 0x4000
    return bits


def random_blocks(rng, kind, block_bytes, halves, n):
    if kind == T.F32:
        return rng.standard_normal(n).astype("<f4").view(np.uint8).reshape(n, 4)
    if kind == T.BF16:
        return (rng.standard_normal(n).astype("<f4").view("<u4") >> 16).astype("<u2").view(np.uint8).reshape(n, 2)
    blocks = rng.integers(0, 256, (n, block_bytes), dtype=np.uint8)
    for offset in halves:
        blocks[:, offset:offset + 2] = finite_f16(rng, n).astype("<u2").view(np.uint8).reshape(n, 2)
    return blocks


def main():
    folder = pathlib.Path(__file__).parent / "quant"
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(20261125)
    for kind, block_bytes, halves, n in TYPES:
        blocks = random_blocks(rng, kind, block_bytes, halves, n)
        values = np.concatenate([np.asarray(dequantize(block, kind), dtype="<f4").ravel() for block in blocks])
        (folder / f"{kind.name.lower()}.bin").write_bytes(blocks.tobytes() + values.tobytes())


main()
