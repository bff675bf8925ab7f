"""Slow scalar encoder of IQ4_KSS; see ``naive`` for what such encoders are for."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from tests.quants.naive.four_levels import clean
from tests.quants.naive.scalar import IQ4, F, extreme, near, nint, sigma2

if TYPE_CHECKING:
    from collections.abc import Sequence

    Floats = Sequence[np.float32]

TABLES = [IQ4, [F(v + 4) for v in IQ4]]
ORDER = [2 * k + i for k in range(8) for i in (0, 16, 1, 17)]
"""Weights of a block in the order of their groups of four."""


def ones(codes: Sequence[int]) -> int:
    return sum(code.bit_count() for code in codes)


def make_even(codes: list[int], table: Floats, xs: Floats, ws: Floats, step: np.float32) -> list[int]:
    """Move one of four codes where they have an odd number of one bits."""
    if ones(codes) % 2 == 0:
        return codes
    best, chosen = np.finfo(np.float32).max, (0, 0)
    for j, (code, x, w) in enumerate(zip(codes, xs, ws, strict=True)):
        old = F(F(step * IQ4[code]) - x)
        for other in range(max(0, code - 2), min(15, code + 2) + 1):
            if ones([code, other]) % 2:
                new = F(F(step * table[other]) - x)
                cost = F(w * F(F(new * new) - F(old * old)))
                if cost < best:
                    best, chosen = cost, (j, other)
    return [chosen[1] if j == chosen[0] else code for j, code in enumerate(codes)]


def code_block(table: Floats, inverse: np.float32, step: np.float32, xs: Floats, ws: Floats) -> list[int]:
    """Codes of 32 weights in the order of their groups."""
    out = []
    for at in range(0, 32, 4):
        part, weights = xs[at : at + 4], ws[at : at + 4]
        out += make_even([near(table, F(inverse * x)) for x in part], table, part, weights, step)
    return out


def fit(qs: Floats, xs: Floats, ws: Floats, s1: np.float32, s2: np.float32) -> tuple[np.float32, np.float32]:
    for q, x, w in zip(qs, xs, ws, strict=True):
        s1, s2 = F(s1 + F(F(w * q) * x)), F(s2 + F(F(w * q) * q))
    return s1, s2


def block_scale(xs: Floats, ws: Floats, mx: np.float32) -> np.float32:
    if abs(mx) < F(1e-16):
        return F(0)
    d, best = F(-mx / IQ4[0]), F(0)
    for step in range(-7, 8):
        for table in TABLES:
            inverse = F(F(F(step) + table[0]) / mx)
            for trial in (inverse, F(-inverse)):
                codes = code_block(table, trial, F(F(1) / inverse), xs, ws)
                s1, s2 = fit([table[c] for c in codes], xs, ws, F(0), F(0))
                if s2 > 0 and F(s1 * s1) > F(best * s2):
                    d = F(s1 / s2)
                    best = F(d * s1)
    return d


def error(codes: list[int], table: Floats, step: np.float32, xs: Floats, ws: Floats) -> np.float32:
    total = F(0)
    for c, x, w in zip(codes, xs, ws, strict=True):
        e = F(x - F(step * table[c]))
        total = F(total + F(F(w * e) * e))
    return total


def weigh(row: Floats, importance: Floats | None) -> list[Floats]:
    out: list[Floats] = []
    for at in range(0, len(row), 32):
        xs, first = row[at : at + 32], at - at % 256
        if importance is None:
            out.append([F(x * x) for x in xs])
            continue
        variance = F(F(2) * sigma2(row[first : first + 256]))
        qs = clean(xs, importance[at : at + 32])
        out.append([F(q * np.sqrt(F(variance + F(x * x)))) for q, x in zip(qs, xs, strict=True)])
    return out


def words(codes: list[int], byte: int) -> bytes:
    """Bit i of a word is the parity of bits i to 15 of its four codes, bit 0 one of the byte's."""
    data = b""
    for k in range(8):
        bits = sum(code << 4 * i for i, code in enumerate(codes[4 * k : 4 * k + 4]))
        word = sum((ones([bits >> i]) % 2) << i for i in range(1, 16))
        data += struct.pack("<H", word | byte >> k & 1)
    return data


def iq4_kss(row: Floats, importance: Floats | None) -> bytes:
    """A row of whole super-blocks."""
    blocks = [row[at : at + 32] for at in range(0, len(row), 32)]
    maxima = [extreme(xs) for xs in blocks]
    blocks = [[xs[i] for i in ORDER] for xs in blocks]
    weights = [[ws[i] for i in ORDER] for ws in weigh(row, importance)]
    scales = [block_scale(xs, ws, mx) for xs, ws, mx in zip(blocks, weights, maxima, strict=True)]
    d = F(abs(extreme(scales)) / F(127))
    if not d:
        return bytes(4 + len(row) // 2)
    s1 = s2 = F(0)
    data = b""
    for xs, ws, scale in zip(blocks, weights, scales, strict=True):
        level = 2 * max(0, min(127, nint(F(F(0.5) * F(F(F(F(1) / d) * scale) + F(127)))))) - 127
        step = F(d * F(level))
        both = [code_block(table, F(F(1) / step), step, xs, ws) for table in TABLES]
        errors = [error(codes, table, step, xs, ws) for codes, table in zip(both, TABLES, strict=True)]
        which = int(errors[1] < errors[0])
        s1, s2 = fit([F(TABLES[which][c] * F(level)) for c in both[which]], xs, ws, s1, s2)
        data += words(both[which], level + 127 | which)
    return struct.pack("<f", F(F(s1 / s2) * F(1.01)) if s2 > 0 else d) + data
