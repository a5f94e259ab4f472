"""The picture beside a sidecar: the spectra of its groups, and KL divergence against bits a value."""

import os
import pathlib

import numpy as np

from .quality import EXACT, Score


def draw(path: str | os.PathLike, title: str, variances: list[np.ndarray], stored: list[int], scores: list[Score]) -> bool:
    """Writes a PNG; False where matplotlib is missing. variances: [n] a group, of which the first `stored` are kept."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), constrained_layout=True)
    figure.suptitle(title)
    for g, (variance, m) in enumerate(zip(variances, stored)):
        line = left.semilogy(np.arange(1, len(variance) + 1), variance, lw=1, label=f"group {g}")[0]
        left.axvline(m, color=line.get_color(), lw=0.6, ls=":")
    left.set(xlabel="component (dotted: the last one stored)", ylabel="variance, in units of sensitivity")
    left.legend()
    floors = {s.text: s.kl for s in scores if s.kv_bits == EXACT}
    for text in dict.fromkeys(s.text for s in scores):
        points = sorted((s.kv_bits, s.kl) for s in scores if s.text == text and s.kv_bits != EXACT)
        line = right.semilogy(*zip(*points), marker="o", label=text)[0]
        if floors[text] > 0:
            right.axhline(floors[text], color=line.get_color(), lw=0.6, ls=":")
    right.set(xlabel="bits a value", ylabel="KL from the uncompressed model (dotted: floor)")
    if scores:
        right.legend()
    temporary = pathlib.Path(f"{path}.tmp")
    figure.savefig(temporary, format="png", dpi=130)
    pyplot.close(figure)
    os.replace(temporary, path)
    return True
