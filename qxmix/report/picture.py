"""A chart drawn to a file, as the pages draw it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qxmix.errors import RunError
from qxmix.report.chart import Chart, Mark
from qxmix.report.look import BAR, FAINT, FONT_SIZE, INK, PAPER, pyplot, save_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PER_INCH = 96
"""Units of the layout: pixels of a page."""
_POINTS = 72 / _PER_INCH
_TITLES = 22
"""Height of a line for the title of an axis."""


def draw_losses(chart: Chart | None, quantity: str, path: Path) -> None:
    """Draw ``chart`` to a PNG, SVG or PDF.

    Args:
        chart: What is drawn, or None.
        quantity: What grows upward.
        path: The file; :func:`qxmix.report.look.check_picture` knows which.

    Raises:
        RunError: there is nothing to draw, matplotlib is missing, or the file cannot be written.

    """
    if chart is None:
        raise RunError(f"{path}: there is nothing to draw: no file has a {quantity} above 0")
    plt = pyplot()
    height = chart.height + 2 * _TITLES
    figure = plt.figure(figsize=(chart.width / _PER_INCH, height / _PER_INCH))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, chart.width), ylim=(chart.height + _TITLES, -_TITLES))
    axes.set_axis_off()
    size = FONT_SIZE * _POINTS
    axes.text(chart.left, chart.top - 12, _title(chart, quantity), size=size)
    axes.text((chart.left + chart.right) / 2, chart.height + 4, "size", size=size, ha="center")
    _draw_grid(axes, chart, size)
    if chart.line:
        axes.plot(*zip(*chart.line, strict=True), color=BAR, lw=2 * _POINTS)
    for mark in chart.marks:
        _draw_mark(axes, mark, size)
    save_picture(figure, path)
    plt.close(figure)


def _title(chart: Chart, quantity: str) -> str:
    kinds = {mark.predicted for mark in chart.marks}
    how = {1: ", predicted" if True in kinds else "", 2: " (filled: measured, open: predicted)"}[len(kinds)]
    return (quantity if quantity == chart.unit else f"{quantity}, {chart.unit}") + how


def _draw_grid(axes: Axes, chart: Chart, size: float) -> None:
    for tick in chart.losses:
        axes.plot((chart.left, chart.right), (tick.at, tick.at), color=FAINT, lw=_POINTS, zorder=0)
        axes.text(chart.left - 8, tick.at + 5, tick.label, size=size, ha="right")
    for tick in chart.sizes:
        axes.plot((tick.at, tick.at), (chart.top, chart.bottom), color=FAINT, lw=_POINTS, zorder=0)
        axes.text(tick.at, chart.bottom + 20, tick.label, size=size, ha="center")


def _draw_mark(axes: Axes, mark: Mark, size: float) -> None:
    """Filled where it was measured, open where it is predicted."""
    if mark.bar:
        axes.plot((mark.x, mark.x), mark.bar, color=BAR, lw=2 * _POINTS)
    face = PAPER if mark.predicted else BAR
    axes.plot(mark.x, mark.y, "o", ms=10 * _POINTS, mfc=face, mec=BAR, mew=2 * _POINTS, zorder=3)
    at = "right" if mark.at_left else "left"
    axes.text(mark.label_x, mark.label_y, mark.label, size=size, ha=at, color=INK, parse_math=False, zorder=4)
