"""Slow scalar encoder of IQ2_KL; see ``naive`` for what such encoders are for."""

from __future__ import annotations

import struct
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from tests.quants.naive.four_levels import clean
from tests.quants.naive.scalar import F, extreme, half, near, nint, sigma2

if TYPE_CHECKING:
    from collections.abc import Sequence

    Floats = Sequence[np.float32]
    Pair = tuple[np.float32, np.float32]

LEVELS = [F(v) for v in (-63, -40, -23, -10, 1, 13, 28, 47)]
WORDS = """e9c1 0dc1 c1d8 f6d8 0dd8 2fd8 d8e9 e9e9 01e9 0de9 1ce9 c1f6 01f6 0df6 2ff6 e901 f601 0101 0d01 1c01 d80d e90d
           f60d 010d 0d0d c11c e91c 011c 1c1c 2f1c e92f 0d2f"""
"""The points as the engine stores them: the second level in the upper byte."""
POINTS: list[Pair] = [
    (F(first), F(second)) for second, first in (struct.unpack("bb", bytes.fromhex(word)) for word in WORDS.split())
]


@cache
def listed(first: int, second: int) -> list[int]:
    """The points to choose from in a cell: itself, or the eight that are nearest to it."""
    cell = (LEVELS[first], LEVELS[second])
    if cell in POINTS:
        return [POINTS.index(cell)]
    return sorted(range(32), key=lambda i: sum((a - b) ** 2 for a, b in zip(POINTS[i], cell, strict=True)))[:8]


def distance(xs: Pair, ws: Pair, qs: Pair) -> np.float32:
    d1, d2 = F(qs[0] - xs[0]), F(qs[1] - xs[1])
    return F(F(F(ws[0] * d1) * d1) + F(F(ws[1] * d2) * d2))


def choose(inverse: np.float32, xs: Pair, ws: Pair) -> int:
    ys = (F(inverse * xs[0]), F(inverse * xs[1]))
    points = listed(near(LEVELS, ys[0]), near(LEVELS, ys[1]))
    return min(points, key=lambda i: distance(ys, ws, POINTS[i]))


def add(s1: np.float32, s2: np.float32, xs: Pair, ws: Pair, qs: Pair) -> Pair:
    a, b = F(ws[0] * qs[0]), F(ws[1] * qs[1])
    return F(s1 + F(F(a * xs[0]) + F(b * xs[1]))), F(s2 + F(F(a * qs[0]) + F(b * qs[1])))


def block_scale(xs: list[Pair], ws: list[Pair]) -> np.float32:
    mx = extreme([x for pair in xs for x in pair])
    if abs(mx) < F(1e-16):
        return F(0)

    def trial(inverse: np.float32) -> Pair:
        s1 = s2 = F(0)
        for x, w in zip(xs, ws, strict=True):
            s1, s2 = add(s1, s2, x, w, POINTS[choose(inverse, x, w)])
        return s1, s2

    start = F(F(1) / F(-mx / LEVELS[0]))
    s1, s2 = trial(start)
    d = F(s1 / s2)
    best = F(d * s1)
    trials = [F(-start)]
    for step in range(-5, 6):
        inverse = F(F(F(step) + LEVELS[0]) / mx)
        trials += [inverse, F(-inverse)]
    for inverse in trials:
        s1, s2 = trial(inverse)
        if s2 > 0 and F(s1 * s1) > F(best * s2):
            d = F(s1 / s2)
            best = F(d * s1)
    return d


def refine(d: np.float32, level: int, xs: list[Pair], ws: list[Pair]) -> int:
    """The level or one of its neighbours, whichever fits best."""
    best, kept = np.finfo(np.float32).max, level
    for trial in range(max(-32, level - 1), min(31, level + 1) + 1):
        step = F(d * F(trial))
        inverse = F(F(1) / step) if step else F(0)
        error = F(0)
        for x, w in zip(xs, ws, strict=True):
            q = POINTS[choose(inverse, x, w)]
            error = F(error + distance(x, w, (F(step * q[0]), F(step * q[1]))))
        if error < best:
            best, kept = error, trial
    return kept


def pairs(values: Floats) -> list[Pair]:
    return list(zip(values[::2], values[1::2], strict=True))


def weigh(row: Floats, importance: Floats | None) -> list[list[Pair]]:
    """Weights of each block of a row."""
    out = []
    for at in range(0, len(row), 32):
        xs = row[at : at + 32]
        if importance is None:
            out.append(pairs([abs(x) for x in xs]))
            continue
        first = at - at % 256
        variance = F(F(2.25) * sigma2(row[first : first + 256]))
        qs = clean(xs, importance[at : at + 32])
        out.append(pairs([F(q * np.sqrt(F(variance + F(x * x)))) for q, x in zip(qs, xs, strict=True)]))
    return out


def iq2_kl(row: Floats, importance: Floats | None) -> bytes:
    """A row of whole super-blocks."""
    blocks = [pairs(row[at : at + 32]) for at in range(0, len(row), 32)]
    weights = weigh(row, importance)
    scales = [block_scale(xs, ws) for xs, ws in zip(blocks, weights, strict=True)]
    d = F(-extreme(scales) / F(32))
    if not d:
        return bytes(2 + 86 * (len(row) // 256))
    s1 = s2 = F(0)
    levels, indices = [], []
    for xs, ws, scale in zip(blocks, weights, scales, strict=True):
        level = refine(d, max(-32, min(31, nint(F(F(F(1) / d) * scale)))), xs, ws)
        levels.append(level + 32)
        indices.append([choose(F(F(1) / F(d * F(level))), x, w) if level else 0 for x, w in zip(xs, ws, strict=True)])
        for x, w, i in zip(xs, ws, indices[-1], strict=True):
            s1, s2 = add(s1, s2, x, w, (F(F(level) * POINTS[i][0]), F(F(level) * POINTS[i][1])))
    data = half(F(F(1.025) * (F(s1 / s2) if s2 > 0 else d)))
    for b in range(0, len(blocks), 8):
        six, points = levels[b : b + 8], indices[b : b + 8]
        data += struct.pack("<H", sum((s >> 4) << 2 * j for j, s in enumerate(six)))
        data += bytes(six[j] & 15 | (six[j + 4] & 15) << 4 for j in range(4))
        data += bytes(points[2 * i][t] & 15 | (points[2 * i + 1][t] & 15) << 4 for i in range(4) for t in range(16))
        data += bytes(sum((points[j][t] >> 4) << j for j in range(8)) for t in range(16))
    return data
