"""Slow scalar encoders of ik_llama.cpp's types with a scale per row, and its cleaning of importances.

See ``naive`` for what such encoders are for.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from tests.quants.naive.iq1 import DOWN, UP, grid, iq1_m_block, snap, split_search, total, weighted
from tests.quants.naive.scalar import F, half, nint

if TYPE_CHECKING:
    from collections.abc import Sequence

    Floats = Sequence[np.float32]

ZEROS = int(np.flatnonzero((grid() == 1).all(axis=1))[0])


def cleaned(row: Floats, importance: Floats, block: int) -> list[np.float32]:
    """The importance of a row, 1e-9 in blocks where weights, importances or their products all but vanish."""
    out = list(importance)
    least = F(F(block) * F(F(1e-9) * F(1e-9)))
    for at in range(0, len(row), block):
        x, w = row[at : at + block], importance[at : at + block]
        sums = [total([F(v * v) for v in w]), total([F(v * v) for v in x])]
        sums.append(total([F(a * abs(b)) for a, b in zip(w, x, strict=True)]))
        if not all(s > least for s in sums):
            out[at : at + block] = [F(1e-9)] * block
    return out


def q8_kv(row: Floats) -> bytes:
    """One row: scale, sum, bytes."""
    d = F(max(abs(x) for x in row) / F(127))
    inverse = F(F(1) / d) if d else F(0)
    levels = [nint(F(x * inverse)) for x in row]
    return struct.pack("<fi", d, sum(levels)) + bytes(q & 255 for q in levels)


def q8_k(row: Floats) -> bytes:
    """One row of blocks of 256: scale, bytes."""
    out = b""
    for at in range(0, len(row), 256):
        xs = row[at : at + 256]
        largest = max(abs(x) for x in xs)
        inverse = F(F(127) / largest) if largest else F(0)
        out += half(F(largest / F(127))) + bytes(nint(F(x * inverse)) & 255 for x in xs)
    return out


def digits(row: Floats) -> tuple[np.float32, list[int]]:
    d = max(abs(x) for x in row)
    return d, [1 if abs(x) < F(F(0.5) * d) else 0 if x < 0 else 2 for x in row]


def iq1_bn(row: Floats) -> bytes:
    """One row: scale, then 12 bytes of five base-3 digits and one of four for each 64 weights."""
    d, q = digits(row)
    out = half(d)
    for at in range(0, len(row), 64):
        fives = [q[at + 16 * i + 5 * m : at + 16 * i + 5 * m + 5] for i in range(4) for m in range(3)]
        for part in [*fives, [q[at + 16 * i + 15] for i in range(4)]]:
            out += bytes([-(-256 * sum(v * 3**j for j, v in enumerate(part)) // 243)])
    return out


def iq2_bn(row: Floats) -> bytes:
    """One row: scale, then 16 bytes for each 64 weights."""
    d, q = digits(row)
    out = struct.pack("<f", d)
    for at in range(0, len(row), 64):
        out += bytes(sum(q[at + t + 16 * i] << 2 * i for i in range(4)) for t in range(16))
    return out


def _weights(xs: Floats, importance: Floats | None, variance: np.float32) -> list[np.float32]:
    roots = [F(np.sqrt(F(variance + F(x * x)))) for x in xs]
    if importance is None:
        return roots
    ws = [F(q * r) for q, r in zip(importance, roots, strict=True)]
    return roots if total([F(w * abs(x)) for w, x in zip(ws, xs, strict=True)]) < F(1e-14) else ws


def iq1_s_row(row: Floats, importance: Floats | None) -> bytes:
    """One row, not interleaved: scale, then 6 bytes for each 32 weights."""
    blocks: list[tuple[np.float32, int, list[int]]] = []
    for at in range(0, len(row), 32):
        xs = row[at : at + 32]
        squares = total([F(x * x) for x in xs])
        if squares < F(1e-14):
            blocks.append((F(0), 0, [ZEROS] * 4))
            continue
        own = None if importance is None else importance[at : at + 32]
        ws = _weights(xs, own, F(F(F(1.5) * squares) / F(32)))
        scale, levels, k = split_search(xs, ws, [range(32)], [[UP], [DOWN]], -np.finfo(np.float32).tiny)
        on_grid, points = True, []
        for g in range(0, 32, 8):
            part = levels[g : g + 8]
            point, on = snap(part, xs[g : g + 8], ws[g : g + 8], scale, (UP, DOWN)[k])
            levels[g : g + 8] = part
            on_grid &= on
            points.append(point)
        terms = [weighted(x, w, (UP, DOWN)[k][q]) for x, w, q in zip(xs, ws, levels, strict=True)]
        t1, t2 = total([a for a, _ in terms]), total([b for _, b in terms])
        blocks.append((F(t1 / t2) if not on_grid and t1 > 0 and t2 > 0 else scale, k, points))
    largest = max(b[0] for b in blocks)
    inverse = F(F(15) / largest) if largest else F(0)
    out = half(F(F(F(1.0625) * largest) / F(15)))
    for scale, k, points in blocks:
        code = max(0, min(7, nint(F(F(0.5) * F(F(scale * inverse) - F(1))))))
        high = sum((p >> 8) << 3 * g for g, p in enumerate(points)) | code << 12 | k << 15
        out += bytes(p & 255 for p in points) + struct.pack("<H", high)
    return out


def iq1_m_row(row: Floats, importance: Floats | None) -> bytes:
    """One row, not interleaved: scale, then 7 bytes for each 32 weights."""
    halves: list[tuple[np.float32, int, list[int]]] = []
    for at in range(0, len(row), 16):
        first, xs = at // 32 * 32, row[at : at + 16]
        low, high = (total([F(x * x) for x in row[i : i + 16]]) for i in (first, first + 16))
        if F(low + high) < F(1e-14) or not total([F(x * x) for x in xs]) > F(1e-14):
            halves.append((F(0), 0, [ZEROS] * 2))
            continue
        own = None if importance is None else importance[at : at + 16]
        scale, _, k, points = iq1_m_block(xs, _weights(xs, own, F(F(F(1.5) * F(low + high)) / F(32))))
        halves.append((scale, k, points))
    largest = max(h[0] for h in halves)
    inverse = F(F(15) / largest) if largest else F(0)
    out = half(F(F(F(1.0625) * largest) / F(15)))
    for two in zip(halves[::2], halves[1::2], strict=True):
        out += bytes(p & 255 for h in two for p in h[2])
        out += bytes(p[0] >> 8 | (p[1] >> 8) << 4 | (k & 2) << 2 | (k & 1) << 7 for _, k, p in two)
        codes = [max(0, min(15, nint(F(h[0] * inverse)))) for h in two]
        out += bytes([codes[0] | codes[1] << 4])
    return out
