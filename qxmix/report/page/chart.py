"""Size against predicted divergence, as coordinates that a template draws."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, floor, log10
from typing import TYPE_CHECKING

from qxmix.report.text import human_nbytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDTH, HEIGHT = 860, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 15, 45
_N_SIZES = 6
_UNITS = (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20))
_LABEL_WIDTH, _LABEL_HEIGHT = 90, 18


@dataclass(frozen=True, slots=True)
class Point:
    """Something of a size, and what it loses."""

    label: str
    nbytes: int
    loss: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A point where it is drawn."""

    x: float
    y: float
    label: str
    text: str
    """What it says when it is hovered."""
    at_left: bool
    """Whether its label stands at its left, as there is no room at its right."""
    below: bool = False
    """Whether its label stands below, as another's is above."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A line of the grid and what it stands for."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """All that is drawn; sizes grow to the right, divergences upward on a scale of logarithms."""

    line: str
    """The best there is at each size, as the points of a polyline; empty for none."""
    marks: tuple[Mark, ...]
    """The plan itself first, then what it is compared with."""
    sizes: tuple[Tick, ...]
    losses: tuple[Tick, ...]
    unit: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM


def chart(points: Sequence[Point], curve: Sequence[Point], unit: str) -> Chart | None:
    """Lay out a chart; None where there is nothing to compare with."""
    drawn = [p for p in (*points, *curve) if p.loss > 0]
    if len(drawn) < 2:  # noqa: PLR2004 - one point is no chart
        return None
    sizes, logs = [p.nbytes for p in drawn], [log10(p.loss) for p in drawn]
    across = _Scale(min(sizes), max(sizes), _LEFT + 15, WIDTH - _RIGHT - 15)
    up = _Scale(min(logs), max(logs), HEIGHT - _BOTTOM - 15, _TOP + 15)
    line = " ".join(f"{across.at(p.nbytes):.1f},{up.at(log10(p.loss)):.1f}" for p in curve if p.loss > 0)
    marks = _apart(
        Mark(
            across.at(p.nbytes),
            up.at(log10(p.loss)),
            p.label,
            f"{p.label}: {human_nbytes(p.nbytes)}, {p.loss:.4g} {unit}",
            across.at(p.nbytes) > WIDTH * 3 / 4,
        )
        for p in points
        if p.loss > 0
    )
    return Chart(line, marks, _size_ticks(across), _loss_ticks(up), unit)


def _apart(marks: Iterable[Mark]) -> tuple[Mark, ...]:
    """Labels below where one that was placed before stands above."""
    placed: list[Mark] = []
    for mark in marks:
        crowded = any(abs(m.x - mark.x) < _LABEL_WIDTH and abs(m.y - mark.y) < _LABEL_HEIGHT for m in placed)
        placed.append(replace(mark, below=crowded))
    return tuple(placed)


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


def _size_ticks(scale: _Scale) -> tuple[Tick, ...]:
    """At round sizes, about six of them, in the unit of the largest."""
    name, unit = next(((n, u) for n, u in _UNITS if scale.high >= u), _UNITS[-1])
    rough = max((scale.high - scale.low) / unit / _N_SIZES, 1e-9)
    power = 10.0 ** floor(log10(rough))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= rough)
    first, last = ceil(scale.low / unit / step), floor(scale.high / unit / step)
    return tuple(Tick(scale.at(i * step * unit), f"{i * step:.6g} {name}") for i in range(first, last + 1))


def _loss_ticks(scale: _Scale) -> tuple[Tick, ...]:
    """At 1, 2 and 5 of each power of ten."""
    powers = range(floor(scale.low), ceil(scale.high) + 1)
    values = [k * 10.0**p for p in powers for k in (1, 2, 5)]
    return tuple(Tick(scale.at(log10(v)), f"{v:g}") for v in values if scale.low <= log10(v) <= scale.high)
