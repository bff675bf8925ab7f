"""Sphere pictures, and the figures beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qxmix.report.look import QUANTITY, pyplot, save_picture
from qxmix.report.text import table

if TYPE_CHECKING:
    from qxmix.sphere import Sphere

_DPI = 96
_TITLE, _GAP, _BAR = 0.5, 0.15, 1.6
"""Inches above each picture, between pictures, and for the colour bar."""


def sphere_text(spheres: Sequence[Sphere], *, terminal: bool) -> str:
    """A table: least, mean and greatest cosine of each picture."""
    rows = [[s.type, s.search, *(f"{value:.6f}" for value in (s.least, s.mean, s.most))] for s in spheres]
    return table(["type", "search", ">min cosine", ">mean", ">max"], rows, terminal=terminal)


def sphere_json(spheres: Sequence[Sphere]) -> list[dict[str, object]]:
    """One object for each picture, as in ``schemas/sphere.schema.json``."""
    return [
        {"type": s.type, "search": s.search, "width": s.cosines.shape[1], "min": s.least, "mean": s.mean, "max": s.most}
        for s in spheres
    ]


def draw_spheres(spheres: Sequence[Sphere], n_across: int, path: Path) -> None:
    """Draw pictures ``n_across`` in a row, pixel for pixel, all on one colour scale.

    Raises:
        RunError: matplotlib is missing, or the file cannot be written.

    """
    plt = pyplot()
    height, width = (n / _DPI for n in spheres[0].cosines.shape)
    n_down = -(-len(spheres) // n_across)
    # A small picture still has to hold its title and the bar's numbers.
    cell = max(width, 3.0)
    size = (n_across * cell + (n_across - 1) * _GAP + _BAR, n_down * (height + _TITLE))
    figure = plt.figure(figsize=size, dpi=_DPI)
    lowest, highest = min(s.least for s in spheres), max(s.most for s in spheres)
    image = None
    for i, s in enumerate(spheres):
        left, top = i % n_across * (cell + _GAP) + (cell - width) / 2, i // n_across * (height + _TITLE) + _TITLE
        box = (left / size[0], 1 - (top + height) / size[1], width / size[0], height / size[1])
        axes = figure.add_axes(box)
        axes.set_axis_off()
        image = axes.imshow(s.cosines, cmap=QUANTITY, vmin=lowest, vmax=highest, interpolation="nearest", aspect="auto")
        axes.set_title(f"{s.type} {s.search}\nmin {s.least:.6f}  mean {s.mean:.6f}", fontsize=8)
    bar = figure.add_axes(((size[0] - _BAR + 0.25) / size[0], 0.05, 0.2 / size[0], 0.8))
    figure.colorbar(image, cax=bar, label="cosine to the vector")
    save_picture(figure, path, dpi=_DPI)
    plt.close(figure)
