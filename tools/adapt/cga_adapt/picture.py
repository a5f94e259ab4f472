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


def draw_losses(path: str | os.PathLike, title: str, losses: np.ndarray, layers: list[int]) -> bool:
    """Writes a PNG of an index's training; False where matplotlib is missing. losses: [steps, anchors], by anchor layer."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(8, 4.2), constrained_layout=True)
    span = max(1, len(losses) // 200)
    steps = np.arange(span, len(losses) + 1, span)
    for a, layer in enumerate(layers):
        means = losses[:len(steps) * span, a].reshape(-1, span).mean(1)
        axes.semilogy(steps, means, lw=1, label=f"layer {layer}")
    axes.set(title=title, xlabel="step", ylabel="KL of unit scores from attention mass")
    axes.legend(title="anchor", ncols=2)
    temporary = pathlib.Path(f"{path}.tmp")
    figure.savefig(temporary, format="png", dpi=130)
    pyplot.close(figure)
    os.replace(temporary, path)
    return True
