"""Slow error feedback for the types of super-blocks; see ``feedback`` for the loop, ``naive`` for the searches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from tests.quants.naive import levels
from tests.quants.naive.affine import qkx2, qkx3
from tests.quants.naive.feedback import fed_back, linear, weights
from tests.quants.naive.four_levels import TABLES as FOUR
from tests.quants.naive.four_levels import best_split, weigh
from tests.quants.naive.scalar import IQ4, F, extreme, iq4_scale, make_qx, near, nint, sigma2

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tests.quants.naive.feedback import Floats, Rounding

ROOM = F(1.05)


def half(x: np.float32) -> np.float32:
    return F(np.float16(x))


def widest(row: Floats, block: int, n: int) -> list[slice]:
    """The n blocks with the largest magnitudes, the largest first; of equals the first."""

    def size(part: slice) -> np.float32:
        return max(abs(x) for x in row[part])

    parts = [slice(at, at + block) for at in range(0, len(row), block)]
    return sorted(parts, key=size, reverse=True)[:n]


def multiple(x: np.float32, unit: np.float32, low: int, high: int) -> np.float32:
    return F(max(low, min(high, nint(F(x / unit))))) if unit else F(max(low, min(high, 0)))


def at_level(table: Floats, step: np.float32, decoded: Callable[[int], np.float32] | None = None) -> Rounding:
    """The nearest level of a table times a step; ``decoded(code)`` where a decoder takes another level."""
    inverse = F(F(1) / step) if step else F(0)

    def rounding(x: np.float32) -> tuple[np.float32, np.float32]:
        code = near(table, F(inverse * x))
        return F(step * table[code]), F(step * (decoded(code) if decoded else table[code]))

    return rounding


@dataclass(frozen=True)
class Scaled:
    """A half and a whole multiple of it for each block."""

    block: int
    low: int
    n_searched: int
    variance: float | None
    scale: Callable[..., np.float32]
    rounding: Callable[[np.float32], Rounding]

    def decoded(self, row: Floats, importance: Floats, factors: NDArray[np.float32]) -> list[np.float32]:
        ws = list(importance) if self.variance is None else weights(row, row, importance, self.variance)
        found = [self.scale(row[p], ws[p], gradient=False) for p in widest(row, self.block, self.n_searched)]
        unit = half(F(F(ROOM * extreme(found)) / F(self.low)))

        def find(j: int, now: Floats) -> Rounding:
            scale = self.scale(now, ws[self.block * j : self.block * (j + 1)], gradient=True)
            return self.rounding(F(unit * multiple(scale, unit, self.low, -self.low - 1)))

        return fed_back(row, factors[0], self.block, find)


def linear_scale(xs: Floats, ws: Floats, *, nmax: int, gradient: bool) -> np.float32:
    return make_qx(xs, ws, nmax, gradient=gradient)[0]


@dataclass(frozen=True)
class Affine:
    """Two halves, and multiples of both for each block."""

    block: int
    nmax: int
    top: int
    variance: float

    def decoded(self, row: Floats, importance: Floats, factors: NDArray[np.float32]) -> list[np.float32]:
        ws = weights(row, row, importance, self.variance)
        parts = [slice(at, at + self.block) for at in range(0, 256, self.block)]
        found = [qkx2(row[p], ws[p], self.nmax, -0.6, 6, absolute=False)[:2] for p in parts]
        most = max(F(0), *(scale for scale, _ in found)), max(F(0), *(F(-low) for _, low in found))
        d, dmin = (half(F(F(ROOM * m) / F(self.top))) for m in most)

        def find(j: int, now: Floats) -> Rounding:
            return self.rounding(*self.multiples(now, ws[parts[j]], d, dmin))

        return fed_back(row, factors[0], self.block, find)

    def multiples(self, xs: Floats, ws: Floats, d: np.float32, dmin: np.float32) -> tuple[np.float32, np.float32]:
        """Step and offset of a block, of nine pairs near what its search finds."""
        scale, low, _ = qkx3(xs, ws, self.nmax)
        middle, best, kept = multiple(scale, d, 0, self.top), F(np.inf), (F(0), F(0))
        for i in (0, 1, -1):
            step = F(d * max(F(0), min(F(self.top), F(middle + F(i)))))
            center = multiple(F(-self.fitted(xs, ws, step, low)), dmin, 0, self.top)
            for j in (0, 1, -1):
                offset = F(-F(dmin * max(F(0), min(F(self.top), F(center + F(j))))))
                rounding, error = self.rounding(step, offset), F(0)
                for x, w in zip(xs, ws, strict=True):
                    miss = F(x - rounding(x)[0])
                    error = F(error + F(w * F(miss * miss)))
                if error < best:
                    best, kept = error, (step, offset)
        return kept

    def rounding(self, step: np.float32, offset: np.float32) -> Rounding:
        inverse = F(F(1) / step) if step else F(0)

        def rounding(x: np.float32) -> tuple[np.float32, np.float32]:
            code = max(0, min(self.nmax, nint(F(inverse * F(x - offset)))))
            value = F(F(step * F(code)) + offset)
            return value, value

        return rounding

    def fitted(self, xs: Floats, ws: Floats, step: np.float32, low: np.float32) -> np.float32:
        """The offset that fits best to the codes of this step and minimum."""
        total = weight = F(0)
        rounding = self.rounding(step, F(0))
        for x, w in zip(xs, ws, strict=True):
            total, weight = F(total + F(w * F(x - rounding(F(x - low))[0]))), F(weight + w)
        return min(F(total / weight), F(0)) if weight > 0 and step else low


@dataclass(frozen=True)
class Tables:
    """Two level tables, and a scale for each super-block or for each row."""

    block: int
    n_searched: int
    half: bool
    tables: Sequence[Floats]
    search: Callable[[Floats, Floats], tuple[np.float32, int]]
    weigh: Callable[[Floats, Floats], list[Floats]]
    unit: Callable[[Sequence[np.float32]], np.float32]
    level: Callable[[np.float32], int]
    exact: Callable[[int], np.float32] | None = None
    n_tried: int = 1
    """How many multiples around the nearest one; with several, the largest scale is a whole multiple."""

    def step(self, multiple: np.float32, unit: np.float32, side: int, xs: Floats, ws: Floats) -> np.float32:
        """The step of the multiple with the least error."""
        steps = [F(unit * F(self.level(F(multiple + F(i))))) for i in (0, 1, -1)[: self.n_tried]]
        errors = []
        for step in steps:
            rounding, error = at_level(self.tables[side], step), F(0)
            for x, w in zip(xs, ws, strict=True):
                miss = F(x - rounding(x)[0])
                error = F(error + F(w * F(miss * miss)))
            errors.append(error)
        return steps[errors.index(min(errors))]

    def units(self, row: Floats, importance: Floats) -> tuple[np.float32, list[Floats]]:
        ws, found = [], []
        for at in range(0, len(row), 256):
            part = slice(at, at + 256)
            own = self.weigh(row[part], importance[part])
            ws += own
            found += [
                self.search(row[part][p], own[p.start // self.block])[0]
                for p in widest(row[part], self.block, self.n_searched)
            ]
        d = F(ROOM * self.unit(found))
        if self.n_tried > 1 and d:
            d = F(extreme(found) / F(self.level(F(extreme(found) / d))))
        return half(d) if self.half else d, ws

    def decoded(self, row: Floats, importance: Floats, factors: NDArray[np.float32]) -> list[np.float32]:
        unit, ws = self.units(row, importance)
        n, done = 256 // self.block, []
        for i, table in enumerate(factors):

            def find(j: int, now: Floats, own: Sequence[Floats] = ws[n * i : n * i + n]) -> Rounding:
                scale, side = self.search(now, own[j])
                step = self.step(F((F(F(1) / unit) if unit else F(0)) * scale), unit, side, now, own[j])
                exact = None if self.exact is None else lambda code: F(self.exact(code) + F(side))  # type: ignore[misc]
                return at_level(self.tables[side], step, exact)

            done += fed_back(row[256 * i : 256 * i + 256], table, self.block, find)
        return done


def two_tables(name: str) -> Tables:
    kind = levels.KINDS[name]

    def search(xs: Floats, ws: Floats) -> tuple[np.float32, int]:
        return levels.search(kind, np.array(xs, F), np.array(ws, F))

    def weighed(row: Floats, importance: Floats) -> list[Floats]:
        return levels.weigh(kind, np.array(row, F), np.array(importance, F))

    return Tables(
        kind.block, 2 if name.endswith("S") else 6, name not in {"IQ4_KS", "IQ5_KS"}, kind.tables,
        search, weighed, partial(levels.unit, name), partial(levels.level, name),
        levels.cubic if name == "IQ6_K" else None, 3 if name == "IQ5_K" else 1,
    )  # fmt: skip


def four_levels(block: int, nmax: int, first_end: int, third_start: int, n_searched: int) -> Tables:
    def weighed(row: Floats, importance: Floats) -> list[Floats]:
        variance = F(F(1.5) * sigma2(row))
        parts = [slice(at, at + block) for at in range(0, 256, block)]
        return [weigh(row[p], importance[p], variance) for p in parts]

    return Tables(
        block, n_searched, True, FOUR, lambda xs, ws: best_split(xs, ws, first_end, third_start), weighed,
        lambda scales: F(-extreme(scales) / F(nmax)), lambda x: max(-nmax, min(nmax - 1, nint(x))),
    )  # fmt: skip


KINDS: dict[str, Scaled | Affine | Tables] = {
    "Q3_K": Scaled(16, -32, 8, 2.0, partial(linear_scale, nmax=4), lambda step: linear(step, -4, 3)),
    "Q6_K": Scaled(16, -128, 8, None, partial(linear_scale, nmax=32), lambda step: linear(step, -32, 31)),
    "IQ4_XS": Scaled(32, -32, 1, 2.0, iq4_scale, lambda step: at_level(IQ4, step)),
    "Q2_K": Affine(16, 3, 15, 0.75),
    "Q4_K": Affine(32, 15, 63, 2.0),
    "Q5_K": Affine(32, 31, 63, 2.0),
    "IQ2_K": four_levels(16, 8, 16, 0, 6),
    "IQ2_KS": four_levels(32, 16, 24, 8, 2),
    **{name: two_tables(name) for name in levels.KINDS},
}
"""Each with ``decoded(row, importance, factors)``: what a decoder makes of a row, of a super-block where it has the
scale."""
