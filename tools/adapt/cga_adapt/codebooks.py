"""Quantiser levels for components of unit variance: the Gaussian's best (Lloyd-Max), and their training on data."""

import math

import numpy as np
import torch

UNIFORM_8 = (torch.arange(256, dtype=torch.float32) - 127.5) * (11 / 255)  # the format's 8-bit levels


def gaussian(width: int) -> torch.Tensor:
    """Lloyd-Max levels for a unit Gaussian, f32 [2 ** width], from the density itself rather than from samples."""
    k = 2 ** width
    levels = np.linspace(-1.0, 1.0, k) * (0.8 if width == 1 else 2.0 * math.sqrt(width / 2))
    cdf = lambda x: 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    pdf = lambda x: np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    for _ in range(3000):
        edges = np.concatenate([[-40.0], (levels[1:] + levels[:-1]) / 2, [40.0]])
        levels_next = -np.diff(pdf(edges)) / np.diff(cdf(edges))
        moved, levels = np.abs(levels_next - levels).max(), levels_next
        if moved < 1e-12:
            break
    return torch.from_numpy((levels - levels[::-1]) / 2).float()


def nearest(values: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Index of the nearest of increasing `levels`, ties to the lower."""
    return torch.bucketize(values.contiguous(), (levels[1:] + levels[:-1]) / 2)


def train(levels: torch.Tensor, values: torch.Tensor, weights: torch.Tensor, sweeps: int = 50) -> torch.Tensor:
    """Lloyd's algorithm from `levels` on samples [n] whose squared errors weigh `weights` [n]. A level that loses its
    samples stays where it is."""
    values, order = values.double().sort()
    weights = weights.double()[order]
    zero = torch.zeros(1, dtype=torch.float64, device=values.device)
    mass, moment = torch.cat([zero, weights.cumsum(0)]), torch.cat([zero, (weights * values).cumsum(0)])
    levels = levels.double().to(values.device)
    for _ in range(sweeps):
        cuts = torch.searchsorted(values, (levels[1:] + levels[:-1]) / 2)
        ends = torch.cat([cuts.new_zeros(1), cuts, cuts.new_full((1,), len(values))])
        inside, sums = mass[ends].diff(), moment[ends].diff()
        levels = torch.where(inside > 0, sums / inside.clamp(min=1e-300), levels)
    return levels.float()
