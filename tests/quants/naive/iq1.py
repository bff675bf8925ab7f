"""Slow scalar encoders of IQ1_S and IQ1_M; see ``naive`` for what such encoders are for."""

from __future__ import annotations

import struct
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from gguf import quants

from tests.quants.naive.scalar import F, half, nint

if TYPE_CHECKING:
    from collections.abc import Sequence

    Floats = Sequence[np.float32]

UP = [F(-0.875), F(0.125), F(1.125)]
DOWN = [F(-1.125), F(-0.125), F(0.875)]


@cache
def grid() -> np.ndarray:
    """(2048, 8) levels 0, 1, 2 of the grid points."""
    quants.IQ1_S.init_grid()
    points: np.ndarray = np.asarray(quants.IQ1_S.grid).reshape(2048, 8).astype(int) + 1
    return points


def total(values: Sequence[np.float32]) -> np.float32:
    out = F(0)
    for v in values:
        out = F(out + v)
    return out


def snap(levels: list[int], xs: Floats, ws: Floats, scale: np.float32, values: Floats) -> tuple[int, bool]:
    """Grid index, and whether the levels were a grid point; if not, they are replaced."""
    distance = np.square(grid() - np.array(levels)).sum(axis=1)
    if distance.min() == 0:
        return int(distance.argmin()), True
    limit = np.unique(distance)[2]
    near = [(d, i) for i, d in enumerate(distance) if d <= limit]
    errors = []
    for _, i in sorted(near):
        e = [F(F(scale * values[q]) - x) for q, x in zip(grid()[i], xs, strict=True)]
        errors.append((total([F(F(w * d) * d) for w, d in zip(ws, e, strict=True)]), i))
    best = min(errors, key=lambda item: item[0])[1]
    levels[:] = [int(q) for q in grid()[best]]
    return best, False


def weighted(x: np.float32, w: np.float32, q: np.float32) -> tuple[np.float32, np.float32]:
    return F(F(w * q) * x), F(F(w * q) * q)


def running(order: Sequence[int], values: Floats) -> list[np.float32]:
    sums = [F(0)]
    for i in order:
        sums.append(F(sums[-1] + values[i]))
    return sums


def three(sums: Floats, i1: int, i2: int, values: Floats, power: int) -> list[np.float32]:
    """The terms of the three parts of a split, each times its level once or twice."""
    parts = [F(sums[i1] - sums[0]), F(sums[i2] - sums[i1]), F(sums[-1] - sums[i2])]
    out = [F(p * v) for p, v in zip(parts, values, strict=True)]
    return [F(p * v) for p, v in zip(out, values, strict=True)] if power == 2 else out


def split_search(
    xs: Floats, ws: Floats, halves: Sequence[Sequence[int]], shifts: Sequence[Sequence[Floats]], start: np.float32
) -> tuple[np.float32, list[int], int]:
    """Scale, levels and number of the shifts of the best split; negative scales are mirrored."""
    n = len(xs)
    order = sorted(range(n), key=lambda i: xs[i])
    masked = [[ws[i] if i in part else F(0) for i in range(n)] for part in halves]
    sums_w = [running(order, m) for m in masked]
    sums_x = [running(order, [F(w * x) for w, x in zip(m, xs, strict=True)]) for m in masked]
    best, scale, found = start, F(0), (0, 0, 0)
    for i1 in range(n + 1):
        for i2 in range(i1, n + 1):
            for k, values in enumerate(shifts):
                qx = total([t for s, v in zip(sums_x, values, strict=True) for t in three(s, i1, i2, v, 1)])
                q2 = total([t for s, v in zip(sums_w, values, strict=True) for t in three(s, i1, i2, v, 2)])
                if q2 > 0 and F(qx * qx) > F(best * q2):
                    scale = F(qx / q2)
                    best, found = F(scale * qx), (i1, i2, k)
    i1, i2, k = found
    levels = [0] * n
    for rank, i in enumerate(order):
        levels[i] = (rank >= i1) + (rank >= i2)
    if scale < 0:
        return -scale, [2 - q for q in levels], len(shifts) - 1 - k
    return scale, levels, k


def iq1_s(row: Floats, importance: Floats) -> bytes:
    """One super-block of 256 weights."""
    variance = F(F(2) * total([F(x * x) for x in row]) / F(256))
    scales, shifts, points = [], [], []
    for at in range(0, 256, 32):
        xs = row[at : at + 32]
        ws = [F(q * np.sqrt(F(variance + F(x * x)))) for q, x in zip(importance[at : at + 32], xs, strict=True)]
        if max(abs(x) for x in xs) < F(1e-12):
            scales.append(F(0))
            shifts.append(0)
            points.append([0] * 4)
            continue
        tiny = -np.finfo(np.float32).tiny
        scale, levels, k = split_search(xs, ws, [range(32)], [[UP], [DOWN]], tiny)
        values, on_grid, block = (UP, DOWN)[k], True, []
        for g in range(0, 32, 8):
            part = levels[g : g + 8]
            point, on = snap(part, xs[g : g + 8], ws[g : g + 8], scale, values)
            levels[g : g + 8] = part
            on_grid &= on
            block.append(point)
        terms = [weighted(x, w, values[q]) for x, w, q in zip(xs, ws, levels, strict=True)]
        t1, t2 = total([a for a, _ in terms]), total([b for _, b in terms])
        scales.append(F(t1 / t2) if not on_grid and t1 > 0 and t2 > 0 else scale)
        shifts.append(k)
        points.append(block)
    d = F(max(scales) / F(15))
    out = half(F(d * F(1.125))) + bytes(p & 255 for block in points for p in block)
    for scale, k, block in zip(scales, shifts, points, strict=True):
        code = max(0, min(7, nint(F(F(0.5) * F(F(F(1) / d * scale) - F(1)))))) if d else 0
        minus = k if d else 0
        out += struct.pack("<H", sum((p >> 8) << 3 * g for g, p in enumerate(block)) | code << 12 | minus << 15)
    return out


def iq1_m_block(xs: Floats, ws: Floats) -> tuple[np.float32, list[int], int, list[int]]:
    """Scale, levels, number of the shifts and grid points of 16 weights."""
    if max(abs(x) for x in xs) < F(1e-7):
        return F(0), [int(q) for q in grid()[0]] * 2, 0, [0, 0]
    if total([F(w * abs(x)) for w, x in list(zip(ws, xs, strict=True))[1:]]) == 0:
        ws = [F(x * x) for x in xs]
    shifts = [[UP, UP], [UP, DOWN], [DOWN, UP], [DOWN, DOWN]]
    scale, levels, k = split_search(xs, ws, [range(8), range(8, 16)], shifts, F(0))
    on_grid, block = True, []
    for n in range(2):
        at = slice(8 * n, 8 * n + 8)
        part = levels[at]
        point, on = snap(part, xs[at], ws[at], scale, shifts[k][n])
        levels[at] = part
        on_grid &= on
        block.append(point)
    if not on_grid:
        best = F(0)
        for c, values in enumerate(shifts):
            qs = [values[i // 8][q] for i, q in enumerate(levels)]
            t1 = total([F(F(w * x) * q) for w, x, q in zip(ws, xs, qs, strict=True)])
            t2 = total([F(F(w * q) * q) for w, q in zip(ws, qs, strict=True)])
            if t1 > 0 and t2 > 0 and F(t1 * t1) > F(best * t2):
                scale, k = F(t1 / t2), c
                best = F(scale * t1)
    return scale, levels, k, block


def iq1_m(row: Floats, importance: Floats | None) -> bytes:
    """One super-block of 256 weights."""
    weights: list[np.float32] = []
    for at in range(0, 256, 32):
        xs = row[at : at + 32]
        variance = F(F(F(1.5) * total([F(x * x) for x in xs])) / F(32))
        if importance is None:
            weights += [F(x * x) for x in xs]
        else:
            weights += [
                F(q * np.sqrt(F(variance + F(x * x)))) for q, x in zip(importance[at : at + 32], xs, strict=True)
            ]
    blocks = [iq1_m_block(row[at : at + 16], weights[at : at + 16]) for at in range(0, 256, 16)]
    largest = max(b[0] for b in blocks)
    d, codes, terms = F(largest / F(15)), [], []
    if largest:
        for j, (scale, levels, k, _) in enumerate(blocks):
            code = max(0, min(7, nint(F(F(0.5) * F(F(F(1) / d * scale) - F(1))))))
            codes.append(code)
            for i, q in enumerate(levels):
                value = F((DOWN if k & (2 >> i // 8) else UP)[q] * F(2 * code + 1))
                terms.append(weighted(row[16 * j + i], weights[16 * j + i], value))
        t1, t2 = total([a for a, _ in terms]), total([b for _, b in terms])
        d = F(t1 / t2) if t2 > 0 else d
    else:
        codes, blocks = [0] * 16, [(s, q, 0, p) for s, q, _, p in blocks]
    bits = struct.unpack("<H", half(F(d * F(1.085))))[0]
    out = bytes(p & 255 for b in blocks for p in b[3])
    out += bytes(b[3][0] >> 8 | (b[3][1] >> 8) << 4 | (8 if b[2] & 2 else 0) | (128 if b[2] & 1 else 0) for b in blocks)
    for v in range(4):
        word = sum(c << 3 * i for i, c in enumerate(codes[4 * v : 4 * v + 4])) | (bits >> 4 * v & 15) << 12
        out += struct.pack("<H", word)
    return out
