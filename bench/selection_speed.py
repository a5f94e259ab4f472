#!/usr/bin/env python3
"""Draws what bench/selection_speed.sh measured: decode speed against context, a line a setting. Needs matplotlib.

    bench/selection_speed.py RESULTS.jsonl OUT.png
"""
import collections
import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


def main() -> None:
    lines = collections.defaultdict(list)
    for line in open(sys.argv[1]):
        row = json.loads(line)
        lines[row["setting"]].append((row["depth"], row["tokens_per_s"]))
    figure, axes = plt.subplots(figsize=(7, 4))
    for setting, points in lines.items():
        axes.plot(*zip(*sorted(points)), marker="o", label=setting)
    axes.set_xticks(range(0, 1 + max(d for points in lines.values() for d, _ in points), 4096))
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("tokens in the context")
    axes.set_ylabel("decoded tokens a second")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(sys.argv[2], dpi=110)


if __name__ == "__main__":
    main()
