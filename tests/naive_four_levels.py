"""Slow scalar encoder of IQ2_K; see ``naive`` for what such encoders are for."""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING

import numpy as np

from tests.naive import F, half, make_qx, near, nint, sigma2

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Floats = Sequence[np.float32]

TABLES = [[F(v) for v in (-31, -13, 1, 17)], [F(v) for v in (-26, -8, 6, 22)]]


def clean(xs: Floats, qs: Floats) -> Floats:
    """The importances of a block, or equal ones where there is as good as nothing to weigh."""
    sums = [F(0), F(0), F(0)]
    for x, q in zip(xs, qs, strict=True):
        sums = [F(sums[0] + F(q * q)), F(sums[1] + F(x * x)), F(sums[2] + F(q * abs(x)))]
    least = F(F(len(xs)) * F(F(1e-9) * F(1e-9)))
    return qs if min(sums) > least else [F(1e-9)] * len(xs)


def weigh(xs: Floats, qs: Floats | None, variance: np.float32) -> Floats:
    if qs is None:
        return [F(F(F(0.25) * variance) + F(x * x)) for x in xs]
    return [F(q * np.sqrt(F(variance + F(x * x)))) for q, x in zip(clean(xs, qs), xs, strict=True)]


def splits(n: int, first_end: int, third_start: int) -> Iterable[tuple[int, int, int]]:
    for i1, i2, i3 in itertools.combinations_with_replacement(range(n), 3):
        if i1 < first_end and i3 >= third_start:
            yield i1, i2, i3


def best_split(xs: Floats, ws: Floats, first_end: int, third_start: int) -> tuple[np.float32, int]:
    """Scale and table of a block."""
    if max(abs(x) for x in xs) < F(1e-16):
        return F(0), 0
    sx, sw = [F(0)], [F(0)]
    for i in sorted(range(len(xs)), key=lambda i: xs[i]):
        sx.append(F(sx[-1] + F(ws[i] * xs[i])))
        sw.append(F(sw[-1] + ws[i]))
    scale, best, table = F(0), F(0), 0
    for i1, i2, i3 in splits(len(xs), first_end, third_start):
        x, w = ([F(s[b] - s[a]) for a, b in itertools.pairwise((0, i1, i2, i3, len(xs)))] for s in (sx, sw))
        for levels, which in ((TABLES[0], 0), (TABLES[1], 1), (TABLES[0][::-1], 0), (TABLES[1][::-1], 1)):
            s1 = s2 = F(0)
            for a, b, q in zip(x, w, levels, strict=True):
                s1, s2 = F(s1 + F(a * q)), F(s2 + F(F(b * q) * q))
            if s2 > 0 and F(s1 * s1) > F(best * s2):
                scale, table = F(s1 / s2), which
                best = F(scale * s1)
    return scale, table


def two_bits(codes: Sequence[int]) -> bytes:
    """256 codes: byte ``32 g + t`` holds those of ``128 g + t``, ``+ 32``, ``+ 64``, ``+ 96``."""
    return bytes(sum(codes[128 * g + 32 * i + t] << 2 * i for i in range(4)) for g in range(2) for t in range(32))


def iq2_k(row: Floats, importance: Floats | None) -> bytes:
    """One super-block of 256 weights."""
    variance = F(F(1.5) * sigma2(row))
    parts = [slice(16 * j, 16 * j + 16) for j in range(16)]
    weights = [weigh(row[p], None if importance is None else importance[p], variance) for p in parts]
    scales, tables = zip(*(best_split(row[p], w, 16, 0) for p, w in zip(parts, weights, strict=True)), strict=True)
    totals = [F(0)] * 16
    for j, ws in enumerate(weights):
        for w in ws:
            totals[j] = F(totals[j] + w)
    d, _ = make_qx(scales, totals, 8, gradient=False)
    if not d:
        return bytes(76)
    levels = [max(-8, min(7, nint(F(F(F(1) / d) * s)))) for s in scales]
    s1 = s2 = F(0)
    codes = []
    for p, ws, level, which in zip(parts, weights, levels, tables, strict=True):
        step = F(d * F(level))
        for x, w in zip(row[p], ws, strict=True):
            c = near(TABLES[which], F(F(F(1) / step) * x)) if step else 0
            q = F(F(level) * TABLES[which][c])
            s1, s2 = F(s1 + F(F(w * q) * x)), F(s2 + F(F(w * q) * q))
            codes.append(c)
    extra = struct.pack("<H", sum(t << j for j, t in enumerate(tables)))
    nibbles = bytes(levels[2 * i] + 8 | (levels[2 * i + 1] + 8) << 4 for i in range(8))
    return half(F(F(1.03) * (F(s1 / s2) if s2 > 0 else d))) + extra + nibbles + two_bits(codes)
