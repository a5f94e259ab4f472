"""How many layers share a latent, when nobody says: better codes against a smaller transform.

More layers a group find more that is common, but a transform's size grows with the square of its channels; under a limit of
bytes large groups lose their last components. So the choice is measured: each way of cutting the layers into even groups gets
transforms from a part of the calibration text, cut to the limit, and is judged by what coding at the default rate leaves on
kept-out text, in units of sensitivity. Of those within a few percent of the best, the smallest is taken.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from . import sidecar, statistics, transform
from .checkpoint import Config
from .model import Model

CHANNELS = (2048, 8192)  # of the largest group: fewer are never better, more take minutes to decompose
RATE = 1.5
PILOT = 8                # one in so many training sequences is used, two at least


@dataclasses.dataclass
class Candidate:
    group_layers: list[int]
    error: float  # squared, in units of sensitivity, over all groups
    bytes: int


def even_groups(n_layers: int, n_groups: int) -> list[int]:
    return [n_layers * (g + 1) // n_groups - n_layers * g // n_groups for g in range(n_groups)]


def candidates(config: Config) -> list[list[int]]:
    """Even cuts whose largest group has a sensible number of channels; for small models the one with the fewest groups."""
    channels = lambda layers: 2 * layers * config.kv_channels
    cuts = [even_groups(config.n_layers, n) for n in range(1, config.n_layers + 1)]
    fitting = [c for c in cuts if all(channels(layers) % sidecar.ROWS == 0 for layers in c)]
    sensible = [c for c in fitting if CHANNELS[0] <= channels(max(c)) <= CHANNELS[1]]
    small = [c for c in fitting if channels(max(c)) < CHANNELS[0]]
    large = [c for c in fitting if channels(max(c)) > CHANNELS[1]]
    if not fitting:
        raise ValueError(f"no even cut of {config.n_layers} layers gives groups of a multiple of {sidecar.ROWS} channels; "
                         "name --group-layers")
    return sensible or small[:1] or large[-1:]


def choose(model: Model, training: list[np.ndarray], source_of: Callable[[list[int]], transform.Source], max_bytes: int,
           within: float, seed: int) -> tuple[list[int], list[str]]:
    """The group sizes, and a line on each candidate. source_of: kept-out text as channels of such groups."""
    cuts = candidates(model.config)
    if len(cuts) == 1:
        return cuts[0], []
    pilot = training[:: PILOT] if len(training) >= 2 * PILOT else training
    tried = [Candidate(cut, *measure(model, pilot, cut, source_of(cut), max_bytes, seed)) for cut in cuts]
    best = min(c.error for c in tried)
    chosen = min((c for c in tried if c.error <= best * (1 + within)), key=lambda c: (c.bytes, c.error))
    lines = [f"groups of {max(c.group_layers)} layers: error {c.error / best:.3f} of the best, {c.bytes:,} bytes"
             + (", chosen" if c is chosen else "") for c in tried]
    return chosen.group_layers, lines


def measure(model: Model, sequences: list[np.ndarray], group_layers: list[int], kept_out: transform.Source, max_bytes: int,
            seed: int) -> tuple[float, int]:
    gathered = statistics.gather(model, sequences, group_layers, seed, {})
    spectra = [transform.decompose(gathered, g) for g in range(len(group_layers))]
    kept = transform.fit(spectra, max_bytes)
    groups = [transform.rounded(s, m) for s, m in zip(spectra, kept)]
    error = float(transform.judge(groups, kept_out, (RATE,)).sum())
    return error, sum(transform.size(g.n_channels, g.n_components, g.n_wide) for g in groups)
