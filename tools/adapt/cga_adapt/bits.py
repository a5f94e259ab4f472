"""Which component gets how many bits: docs/sidecar.md, "Bits". The engine computes the same at load from the stored
variances, so one sidecar serves every rate; this module is the oracle for that computation."""

import heapq
import math

import numpy as np

WIDTHS = (0, 1, 2, 4, 8)
# Mean squared error of a quantiser for a unit Gaussian. These numbers are part of the format.
DISTORTION = {0: 1.0, 1: 0.3634, 2: 0.1175, 4: 0.009497, 8: 0.000155}
BLOCK = 64


def allocate(variance: np.ndarray, n_channels: int, rate: float, n_wide: int | None = None) -> np.ndarray:
    """Widths, int64 [m], at `rate` bits a channel. variance: [m], m a multiple of 64. Blocks at or above `n_wide`
    components stop at 4 bits (None: no block does, which is how n_wide itself is chosen)."""
    means = np.asarray(variance, np.float64).reshape(-1, BLOCK).mean(axis=1)
    n_wide = len(variance) if n_wide is None else n_wide
    budget = math.floor(rate * n_channels)
    level = [0] * len(means)

    def step(block: int) -> tuple[float, int] | None:
        """(minus the gain a bit, block) of this block's next step, smallest first in a heap: ties to the lower block."""
        if level[block] + 1 == len(WIDTHS):
            return None
        low, high = WIDTHS[level[block]], WIDTHS[level[block] + 1]
        if high == 8 and block * BLOCK >= n_wide:
            return None
        return -means[block] * (DISTORTION[low] - DISTORTION[high]) / (high - low), block

    heap = [s for block in range(len(means)) if (s := step(block))]
    heapq.heapify(heap)
    while heap:
        _, block = heapq.heappop(heap)
        cost = BLOCK * (WIDTHS[level[block] + 1] - WIDTHS[level[block]])
        if cost > budget:
            continue  # this block has ended its growth
        budget -= cost
        level[block] += 1
        if s := step(block):
            heapq.heappush(heap, s)
    return np.repeat([WIDTHS[i] for i in level], BLOCK)
