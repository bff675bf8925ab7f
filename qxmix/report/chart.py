"""Size against loss, laid out once: as coordinates that a page's template and a picture both draw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from qxmix.report.look import FONT_SIZE
from qxmix.report.text import human_nbytes

WIDTH, HEIGHT = 860, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 15, 45
_MARGIN = 15
"""Between the outermost points and the frame."""
_N_TICKS = 6
_FEWEST_TICKS = 3
_UNITS = (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
_CHARACTER = 0.62 * FONT_SIZE
"""Width of a character, on the wide side."""
_LINE = 1.25 * FONT_SIZE
_BESIDE = 10
"""From a point to its label."""
_RADIUS = 6
_THIN = 2
"""Half the width of an interval's line, and what is to be free beside it."""


@dataclass(frozen=True, slots=True)
class Point:
    """Something of a size, and what it loses."""

    label: str
    nbytes: int
    loss: float
    low: float | None = None
    """The interval of the loss, if one is known."""
    high: float | None = None
    predicted: bool = False
    """Whether nobody measured it."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A point where it is drawn."""

    x: float
    y: float
    label: str
    text: str
    """What it says when it is hovered."""
    label_x: float
    label_y: float
    """The baseline of the label."""
    at_left: bool
    """Whether its label ends there rather than begins."""
    bar: tuple[float, float] | None
    """Ends of the interval of the loss, as ``y``."""
    predicted: bool


@dataclass(frozen=True, slots=True)
class Tick:
    """A line of the grid and what it stands for."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """All that is drawn; sizes grow to the right, losses upward on a scale of logarithms."""

    line: tuple[tuple[float, float], ...]
    """The best there is at each size, as a polyline; empty for none."""
    marks: tuple[Mark, ...]
    """In the order of the points."""
    sizes: tuple[Tick, ...]
    losses: tuple[Tick, ...]
    unit: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM


def chart(points: Sequence[Point], curve: Sequence[Point], unit: str, *, fewest: int = 2) -> Chart | None:
    """Lay out a chart.

    Args:
        points: What is marked.  Those without a loss have no place on a scale of logarithms and are left out.
        curve: The best there is at each size, by rising size; empty for none.
        unit: Of the losses.
        fewest: Points that make a chart.

    Returns:
        None with fewer points.

    """
    shown, line = [[p for p in some if p.loss > 0] for some in (points, curve)]
    if len(shown) + len(line) < fewest:
        return None
    sizes = [p.nbytes for p in (*shown, *line)]
    logs = [log10(v) for p in (*shown, *line) for v in (p.loss, p.low, p.high) if v is not None and v > 0]
    across = _Scale(min(sizes), max(sizes), _LEFT + _MARGIN, WIDTH - _RIGHT - _MARGIN)
    up = _Scale(min(logs), max(logs), HEIGHT - _BOTTOM - _MARGIN, _TOP + _MARGIN)
    at = [(across.at(p.nbytes), up.at(log10(p.loss))) for p in shown]
    labels, bars = _first_only([p.label for p in shown]), [_bar(p, up) for p in shown]
    placed = _placed(labels, at, bars)
    marks = tuple(
        Mark(x, y, label, _told(p, unit), label_x, label_y, at_left, bar, p.predicted)
        for p, (x, y), label, bar, (label_x, label_y, at_left) in zip(shown, at, labels, bars, placed, strict=True)
    )
    best = tuple((across.at(p.nbytes), up.at(log10(p.loss))) for p in line)
    return Chart(best, marks, _size_ticks(across), _loss_ticks(up), unit)


def _first_only(labels: Sequence[str]) -> list[str]:
    """What is both measured and predicted is named once."""
    return ["" if label in labels[:i] else label for i, label in enumerate(labels)]


def _told(point: Point, unit: str) -> str:
    interval = f" ({point.low:.4g} to {point.high:.4g})" if point.low is not None and point.high is not None else ""
    how = ", predicted" if point.predicted else ""
    return f"{point.label}: {human_nbytes(point.nbytes)}, {point.loss:.4g}{interval} {unit}{how}"


def _bar(point: Point, up: _Scale) -> tuple[float, float] | None:
    """Down to the frame where the interval begins at nothing."""
    if point.low is None or point.high is None:
        return None
    return up.at(log10(point.low)) if point.low > 0 else float(HEIGHT - _BOTTOM), up.at(log10(point.high))


@dataclass(frozen=True, slots=True)
class _Box:
    """What is covered already."""

    left: float
    right: float
    top: float
    bottom: float

    def meets(self, other: _Box) -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom


def _placed(
    labels: Sequence[str], at: Sequence[tuple[float, float]], bars: Sequence[tuple[float, float] | None]
) -> Iterator[tuple[float, float, bool]]:
    """Where each label begins, its baseline, and whether it ends there instead: the nearest place that is free.

    Where none is, it may lie on an interval or on the values at the left.
    """
    taken = [_Box(x - _RADIUS, x + _RADIUS, y - _RADIUS, y + _RADIUS) for x, y in at]
    lines = [_Box(x - _THIN, x + _THIN, b[1], b[0]) for (x, _), b in zip(at, bars, strict=True) if b is not None]
    for label, (x, y) in zip(labels, at, strict=True):
        width = _CHARACTER * len(label)
        places = [(box, place) for place in _places(x, y) if (box := _box(place, width)) is not None]
        free = [(box, place) for box, place in places if not any(box.meets(other) for other in taken)]
        clear = ((b, place) for b, place in free if b.left >= _LEFT and not any(b.meets(line) for line in lines))
        box, place = next(clear, (free or places or [(_Box(x, x, y, y), (x + _BESIDE, y, False))])[0])
        taken.append(box)
        yield place


def _places(x: float, y: float) -> Iterator[tuple[float, float, bool]]:
    """Above first, then below, at the right before the left, and then further and further away."""
    for away in range(5):
        for below in (False, True):
            for at_left in (False, True):
                dy = (1.1 + away) * _LINE if below else -0.4 * _LINE - away * _LINE
                yield x + (-_BESIDE if at_left else _BESIDE), y + dy, at_left


def _box(place: tuple[float, float, bool], width: float) -> _Box | None:
    """None outside the picture."""
    x, y, at_left = place
    box = _Box(x - width if at_left else x, x if at_left else x + width, y - _LINE * 0.8, y + _LINE * 0.2)
    inside = box.left >= 0 and box.right <= WIDTH and box.top >= 0 and box.bottom <= HEIGHT - _BOTTOM
    return box if inside else None


@dataclass(frozen=True, slots=True)
class _Scale:
    """From values to coordinates."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        span = self.high - self.low
        return self.start + (self.end - self.start) * ((value - self.low) / span if span else 0.5)


def _round_values(low: float, high: float, n: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, about ``n`` of them; the one value there is, if it is one."""
    rough = (high - low) / n
    if rough <= 0:
        return [low]
    power = 10.0 ** floor(log10(rough))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= rough)
    return [i * step for i in range(ceil(low / step), floor(high / step) + 1)]


def _size_ticks(scale: _Scale) -> tuple[Tick, ...]:
    """At round sizes in the unit of the largest."""
    name, unit = next(((n, u) for n, u in _UNITS if scale.high >= u), _UNITS[-1])
    values = _round_values(scale.low / unit, scale.high / unit, _N_TICKS)
    return tuple(Tick(scale.at(v * unit), f"{v:.8g} {name}") for v in values)


def _loss_ticks(scale: _Scale) -> tuple[Tick, ...]:
    """At 1, 2 and 5 of each power of ten; over less than a power at round values, so that there are some."""
    powers = range(floor(scale.low), ceil(scale.high) + 1)
    values = [k * 10.0**p for p in powers for k in (1, 2, 5) if scale.low <= log10(k * 10.0**p) <= scale.high]
    if len(values) < _FEWEST_TICKS:
        values = _round_values(10**scale.low, 10**scale.high, _N_TICKS)
    return tuple(Tick(scale.at(log10(v)), f"{v:.8g}") for v in values)
