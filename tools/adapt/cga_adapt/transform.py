"""Statistics → the transform of each layer group, as the sidecar stores it.

First the eigenvectors of S·Cov·S, cut to the components that 2 bits a value (or the size limit) can use and rounded.
Then what that rounding and the two-pass encoding really make of tokens that were kept out of the covariance: the
components' variances are measured again and codebooks trained on them. Either is kept only if it lowers the error
on other kept-out tokens.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch

from . import bits, codebooks
from .codec import Codec
from .sidecar import ROWS, Group, round_narrow
from .statistics import Statistics

FULL_RATE = 2.0          # bits a value that the stored components must be enough for
RATES = (1.0, 1.5, 2.0)  # what codebooks are trained and judged at
SAMPLES = 1 << 20        # components kept for a codebook, at most


@dataclasses.dataclass
class Spectrum:
    """A whole decomposition, before any of it is cut or rounded."""
    mean: torch.Tensor      # [n], f64
    scale: torch.Tensor     # [n], f64
    variance: torch.Tensor  # [n], f64, not increasing
    vectors: torch.Tensor   # [n, n], f64: a component a row
    wanted: int             # components that have bits at FULL_RATE
    wide: int               # components that have 8

    def shares(self) -> list[float]:
        """Of the total variance, in the first 1, 2, 4, … components."""
        sums = self.variance.cumsum(0).cpu()
        counts = [2 ** i for i in range(int(math.log2(len(sums))) + 1)]
        return [round(float(sums[c - 1] / sums[-1]), 6) for c in counts]


def decompose(statistics: Statistics, g: int) -> Spectrum:
    mean, covariance, fisher = statistics.covariance(g)
    scale = fisher.sqrt()
    values, vectors = torch.linalg.eigh(covariance * scale * scale[:, None])
    values, vectors = values.flip(0), vectors.flip(1).T.contiguous()
    variance = values.clamp(min=float(values[0]) * 1e-12)
    vectors *= torch.where(vectors.sum(1, keepdim=True) < 0, -1.0, 1.0)  # one of the two signs, always the same
    widths = bits.allocate(variance.cpu().numpy(), len(mean), FULL_RATE)
    return Spectrum(mean, scale, variance, vectors, int((widths > 0).sum()), int((widths == 8).sum()))


def size(n: int, m: int, w: int) -> int:
    """Bytes of a stored group."""
    return 2 * w * n + (m - w) * (n + 2 * (n // ROWS)) + 4 * (2 * n + m) + 4 * (2 + 4 + 16)


def fit(spectra: list[Spectrum], max_bytes: int) -> list[int]:
    """Components to store of each group: what is wanted, less the least of all until everything fits."""
    kept = [s.wanted for s in spectra]
    total = lambda: sum(size(len(s.mean), m, min(s.wide, m)) for s, m in zip(spectra, kept))
    while total() > max_bytes:
        last = [float(s.variance[m - bits.BLOCK:m].mean()) if m > bits.BLOCK else math.inf for s, m in zip(spectra, kept)]
        least = min(range(len(kept)), key=last.__getitem__)
        if math.isinf(last[least]):
            raise ValueError(f"the transforms need {total()} bytes at least; the limit is {max_bytes}")
        kept[least] -= bits.BLOCK
    return kept


def rounded(spectrum: Spectrum, m: int) -> Group:
    w = min(spectrum.wide, m)
    codes, scales = round_narrow(spectrum.vectors[w:m])
    books = {b: codebooks.gaussian(b).to(codes.device) for b in (1, 2, 4)}
    return Group(spectrum.mean.float(), spectrum.scale.float(), spectrum.variance[:m].float(),
                 spectrum.vectors[:w].half(), codes, scales, books)


class Source(Protocol):
    """Channels of some sequences, a list of groups' [t, n] each; may be gone through again and again."""
    n_tokens: int

    def __iter__(self) -> Iterator[list[torch.Tensor]]: ...


def refine(groups: list[Group], fitting: Source, judging: Source) -> tuple[list[Group], list[str]]:
    """Groups with measured variances and trained codebooks where these help, and a line on each."""
    measured = [with_variance(g, v) for g, v in zip(groups, measure(groups, fitting))]
    candidates = {"eigenvalues, Gaussian codebooks": groups,
                  "measured variances, Gaussian codebooks": measured,
                  "eigenvalues, trained codebooks": train(groups, fitting),
                  "measured variances, trained codebooks": train(measured, fitting)}
    errors = {name: judge(option, judging) for name, option in candidates.items()}  # [groups] each
    names = [min(candidates, key=lambda name: errors[name][g]) for g in range(len(groups))]
    first = next(iter(candidates))
    report = [f"group {g}: {name}: error {errors[name][g] / errors[first][g]:.4f} of what {first} leave"
              for g, name in enumerate(names)]
    return [candidates[name][g] for g, name in enumerate(names)], report


def measure(groups: list[Group], source: Source) -> list[torch.Tensor]:
    """Mean squares of what is coded, f64 [m] a group."""
    coders = [Codec(g, FULL_RATE) for g in groups]
    sums = [torch.zeros(g.n_components, dtype=torch.float64, device=g.mean.device) for g in groups]
    for xs in source:
        for total, coder, x in zip(sums, coders, xs):
            total += coder.components(x)[1].double().square().sum(0)
    return [s / source.n_tokens for s in sums]


def with_variance(group: Group, variance: torch.Tensor) -> Group:
    """The group with its wide and its other components each sorted by `variance`."""
    w = group.n_wide
    order = torch.cat([variance[:w].argsort(descending=True, stable=True),
                       w + variance[w:].argsort(descending=True, stable=True)])
    floor = float(variance.max()) * 1e-12
    return dataclasses.replace(group, variance=variance[order].cummin(0).values.clamp(min=floor).float(),
                               basis_wide=group.basis_wide[order[:w]].clone(),
                               basis=group.basis[order[w:] - w].clone(), basis_scale=group.basis_scale[order[w:] - w].clone())


def train(groups: list[Group], source: Source) -> list[Group]:
    """Lloyd's algorithm on normalised components at all RATES together, weighted by what an error costs: σ²."""
    coders = [[Codec(g, rate) for rate in RATES] for g in groups]
    samples = [{b: ([], []) for b in (1, 2, 4)} for _ in groups]
    for xs in source:
        for coder_list, kept, x in zip(coders, samples, xs):
            for coder in coder_list:
                y = coder.components(x)[1] / coder.sigma
                for width, (values, weights) in kept.items():
                    chosen = coder.bits == width
                    count = int(chosen.sum()) * source.n_tokens * len(RATES)
                    part = y[::max(1, math.ceil(count / SAMPLES)), chosen.to(y.device)].cpu()
                    values.append(part.flatten())
                    weights.append(coder.group.variance[chosen.to(y.device)].cpu().expand_as(part).flatten())
    out = []
    for group, kept in zip(groups, samples):
        books = {}
        for width, (values, weights) in kept.items():
            values, weights = torch.cat(values), torch.cat(weights)
            start = codebooks.gaussian(width)
            trained = codebooks.train(start, values, weights) if len(values) > 100 * 2 ** width else start
            books[width] = trained.to(group.mean.device)
        out.append(dataclasses.replace(group, codebooks=books))
    return out


def judge(groups: list[Group], source: Source, rates: tuple[float, ...] = RATES) -> np.ndarray:
    """Squared error in the metric s·x, summed over all rates: [groups]."""
    coders = [[Codec(g, rate) for rate in rates] for g in groups]
    errors = np.zeros((len(groups), len(rates)))
    for xs in source:
        for g, (coder_list, x) in enumerate(zip(coders, xs)):
            for r, coder in enumerate(coder_list):
                error = (coder.decode(coder.encode(x)) - x) * coder.group.scale
                errors[g, r] += float(error.double().square().sum())
    return errors.sum(axis=1)
