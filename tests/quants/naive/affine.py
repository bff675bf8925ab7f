"""Slow scalar searches of a scale and a minimum, and of non-negative scales; see ``naive`` for what they are for."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from tests.quants.naive.scalar import F, nint

if TYPE_CHECKING:
    from collections.abc import Sequence

    Floats = Sequence[np.float32]
    Found = tuple[np.float32, np.float32, list[int]]

D = np.float64


def codes_of(xs: Floats, low: np.float32, inverse: np.float32, nmax: int) -> list[int]:
    return [max(0, min(nmax, nint(F(inverse * F(x - low))))) for x in xs]


def qkx2(xs: Floats, ws: Floats, nmax: int, first: float, n_steps: int, *, absolute: bool) -> Found:
    """Scale, minimum and codes, all in float32."""
    low, most = min(F(0), *xs), max(xs)
    if F(most - low) < F(1e-10):
        return F(0), low, [0] * len(xs)

    def error(scale: np.float32, minimum: np.float32, codes: list[int]) -> np.float32:
        total = F(0)
        for x, w, q in zip(xs, ws, codes, strict=True):
            e = F(F(F(scale * F(q)) + minimum) - x)
            total = F(total + F(w * (abs(e) if absolute else F(e * e))))
        return total

    sum_w = sum_x = F(0)
    for x, w in zip(xs, ws, strict=True):
        sum_w, sum_x = F(sum_w + w), F(sum_x + F(w * x))
    inverse = F(F(nmax) / F(most - low))
    scale, codes = F(F(1) / inverse), codes_of(xs, low, inverse, nmax)
    best = error(scale, low, codes)
    for i in range(n_steps + 1):
        trial = codes_of(xs, low, F(F(F(F(first) + F(F(0.1) * F(i))) + F(nmax)) / F(most - low)), nmax)
        sl = sl2 = sxl = F(0)
        for x, w, q in zip(xs, ws, trial, strict=True):
            wl = F(w * F(q))
            sl, sl2, sxl = F(sl + wl), F(sl2 + F(wl * F(q))), F(sxl + F(wl * x))
        det = F(F(sum_w * sl2) - F(sl * sl))
        if det > 0:
            t_scale = F(F(F(sum_w * sxl) - F(sum_x * sl)) / det)
            t_min = F(F(F(sl2 * sum_x) - F(sl * sxl)) / det)
            if t_min > 0:
                t_min, t_scale = F(0), F(sxl / sl2)
            e = error(t_scale, t_min, trial)
            if e < best:
                best, scale, low, codes = e, t_scale, t_min, trial
    return scale, low, codes


class Fit:
    """Sums over a block in float64, and what follows from them."""

    def __init__(self, xs: Floats, ws: Floats, codes: list[int]) -> None:
        self.w = self.x = self.xx = self.l = self.ll = self.xl = D(0)
        for x, w, q in zip(map(D, xs), map(D, ws), codes, strict=True):
            self.w, self.x, self.xx = self.w + w, self.x + w * x, self.xx + w * x * x
            self.l, self.ll, self.xl = self.l + w * q, self.ll + w * q * q, self.xl + w * q * x

    def move(self, x: np.float32, w: np.float32, code: int, way: int) -> None:
        self.l = self.l + D(w) * way
        self.ll = self.ll + D(w) * (2 * code * way + 1)
        self.xl = self.xl + D(w) * D(x) * way

    def best(self) -> tuple[np.float64, np.float64] | None:
        det = self.w * self.ll - self.l * self.l
        if not det > 0:
            return None
        scale, low = (self.w * self.xl - self.x * self.l) / det, (self.ll * self.x - self.l * self.xl) / det
        return (self.xl / self.ll, D(0)) if low > 0 else (scale, low)

    def error(self, s: np.float64, m: np.float64) -> np.float64:
        return self.xx - 2 * s * self.xl - 2 * m * self.x + 2 * s * m * self.l + s * s * self.ll + m * m * self.w

    def gain(self, s: np.float64, m: np.float64) -> np.float64:
        return 2 * s * self.xl + 2 * m * self.x - 2 * s * m * self.l - s * s * self.ll - m * m * self.w


def qkx3(xs: Floats, ws: Floats, nmax: int) -> Found:
    """Scale, minimum and codes with sums in float64: trials, then single moves."""
    low, most = min(F(0), *xs), max(xs)
    if F(most - low) < F(1e-10):
        return F(0), low, [0] * len(xs)
    inverse = F(F(nmax) / F(most - low))
    scale, codes = F(F(1) / inverse), codes_of(xs, low, inverse, nmax)
    best = D(0)
    for x, w, q in zip(xs, ws, codes, strict=True):
        e = D(scale) * q + D(low) - D(x)
        best = best + D(w) * (e * e)
    for i in range(37):
        trial = codes_of(xs, low, F(F(F(F(-0.9) + F(F(0.05) * F(i))) + F(nmax)) / F(most - low)), nmax)
        fit = Fit(xs, ws, trial)
        found = fit.best()
        if found and fit.error(*found) < best:
            best, codes = fit.error(*found), trial
            scale, low = F(found[0]), F(found[1])
    return *_moves(xs, ws, nmax, codes, scale, low), codes


def _moves(
    xs: Floats, ws: Floats, nmax: int, codes: list[int], scale: np.float32, low: np.float32
) -> tuple[np.float32, np.float32]:
    fit = Fit(xs, ws, codes)
    best, last = fit.gain(D(scale), D(low)), (-1, 0)
    for _ in range(nmax * len(xs)):
        chosen, largest, way = -1, F(0), 0
        for j, x in enumerate(xs):
            g = F(F(x - F(scale * F(codes[j]))) - low)
            if (g > 0 and codes[j] < nmax and g > largest) or (g < 0 and codes[j] > 0 and -g > largest):
                chosen, largest, way = j, abs(g), 1 if g > 0 else -1
        if chosen < 0 or last == (chosen, -way):
            break
        fit.move(xs[chosen], ws[chosen], codes[chosen], way)
        found = fit.best()
        if not found or found[0] < 0 or not fit.gain(*found) > best:
            break
        best, last = fit.gain(*found), (chosen, way)
        scale, low = F(found[0]), F(found[1])
        codes[chosen] += way
    return scale, low


def qp(xs: Floats, ws: Floats, nmax: int) -> tuple[np.float32, list[int]]:
    """Scale and codes of values that are not negative; a code is kept in an unsigned byte."""
    most = max(F(0), *xs)
    if most < F(1e-16):
        return F(0), [0] * len(xs)

    def error(inverse: np.float32, codes: list[int]) -> np.float32:
        total, size = F(0), F(F(1) / inverse)
        for x, w, q in zip(xs, ws, codes, strict=True):
            e = F(x - F(size * F(q)))
            total = F(total + F(F(w * e) * e))
        return total

    inverse = F(F(nmax) / most)
    best = error(inverse, [nint(F(inverse * x)) & 255 for x in xs])
    for step in itertools.chain(range(-4, 0), range(1, 5)):
        trial = F(F(F(F(0.1) * F(step)) + F(nmax)) / most)
        e = error(trial, [min(nmax, nint(F(trial * x))) for x in xs])
        if e < best:
            best, inverse = e, trial
    codes = [min(nmax, nint(F(inverse * x))) for x in xs]
    s1 = s2 = F(0)
    for x, w, q in zip(xs, ws, codes, strict=True):
        s1, s2 = F(s1 + F(F(w * x) * F(q))), F(s2 + F(F(w * F(q)) * F(q)))
    codes = [q & 255 for q in codes]
    s1, s2 = _sweeps(xs, ws, nmax, codes, s1, s2)
    return (F(s1 / s2) if s2 else F(0)), codes


def _sweeps(
    xs: Floats, ws: Floats, nmax: int, codes: list[int], s1: np.float32, s2: np.float32
) -> tuple[np.float32, np.float32]:
    for _ in range(5):
        for j, (x, w) in enumerate(zip(xs, ws, strict=True)):
            old = codes[j]
            a1, a2 = F(s1 - F(F(w * x) * F(old))), F(s2 - F(F(w * F(old)) * F(old)))
            if not (a1 > 0 and a2 > 0):
                continue
            new = min(nmax, nint(F(F(x * a2) / a1)))
            b1, b2 = F(a1 + F(F(w * x) * F(new))), F(a2 + F(F(w * F(new)) * F(new)))
            if new != old and F(F(b1 * b1) * s2) > F(F(s1 * s1) * b2):
                codes[j], s1, s2 = new & 255, b1, b2
    return s1, s2
