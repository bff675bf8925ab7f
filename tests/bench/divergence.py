"""Predicted against measured divergence of recipes of three sizes: ``python -m tests.bench.divergence [POINTS.json]``.

The points come from ``qxmix solve --against random:20``, ``apply``, ``eval --base`` and ``compare -m``; beside their
file this draws ``divergence.svg``, which the README shows, and prints the rank correlations.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr

from qxmix.report.look import ASKED, BAR, FAINT, pyplot, save_picture

POINTS = Path(__file__).with_suffix(".json")
_MARKERS = ("o", "s", "^")


def correlation(points: list[dict[str, Any]]) -> float:
    """Spearman's, of predicted with measured divergence."""
    return float(spearmanr([p["predicted"] for p in points], [p["measured"] for p in points]).statistic)


def by_size(points: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    """The points of each size in bytes, ascending."""
    return {size: [p for p in points if p["size"] == size] for size in sorted({p["size"] for p in points})}


def draw(found: dict[str, Any], path: Path) -> None:
    """Predicted across, measured upward; solved recipes are filled."""
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    ends = [0.012, 0.8]
    axes.plot(ends, ends, color=FAINT, lw=2, label="as predicted")
    for (size, points), marker in zip(by_size(found["recipes"]).items(), _MARKERS, strict=True):
        for kind, colour, face in (("random", BAR, "none"), ("solved", ASKED, ASKED)):
            some = [p for p in points if p["kind"] == kind]
            x, y, e = ([p[key] for p in some] for key in ("predicted", "measured", "error"))
            label = f"{kind}, {size / 1e6:.1f} MB"
            axes.errorbar(x, y, e, color=colour, mfc=face, marker=marker, ls="none", lw=1, label=label)
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    ticks = [0.02, 0.05, 0.1, 0.2, 0.5]
    axes.set_xticks(ticks, map(str, ticks))
    axes.set_yticks(ticks, map(str, ticks))
    axes.minorticks_off()
    axes.set_xlabel(f"predicted divergence, {found['unit']}")
    axes.set_ylabel("measured, with its standard error")
    axes.legend(frameon=False)
    save_picture(figure, path)


def main(path: Path = POINTS) -> None:
    """Draw and print."""
    found = json.loads(path.read_text())
    draw(found, path.with_suffix(".svg"))
    print(f"{len(found['recipes'])} recipes: rank correlation {correlation(found['recipes']):.2f}")
    for size, points in by_size(found["recipes"]).items():
        ratios = [p["measured"] / p["predicted"] for p in points]
        least = {kind: min(p["measured"] for p in points if p["kind"] == kind) for kind in ("solved", "random")}
        print(
            f"{size:,} bytes: rank correlation {correlation(points):.2f}, measured {min(ratios):.2f} "
            f"to {max(ratios):.2f} times predicted, solved {least['solved']}, best at random {least['random']}"
        )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
