"""Slow scalar encoders of IQ2_K and IQ2_KS; see ``naive`` for what such encoders are for."""

from __future__ import annotations

import itertools
import struct
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from tests.quants.naive.scalar import F, half, make_qx, near, nint, sigma2

if TYPE_CHECKING:
    from collections.abc import Sequence

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


@cache
def splits(n: int, first_end: int, third_start: int) -> np.ndarray:
    """(n_splits, 3) the boundaries that are tried, in order."""
    every = itertools.combinations_with_replacement(range(n), 3)
    return np.array([split for split in every if split[0] < first_end and split[2] >= third_start])


def best_split(xs: Floats, ws: Floats, first_end: int, third_start: int) -> tuple[np.float32, int]:
    """Scale and table of a block."""
    if max(abs(x) for x in xs) < F(1e-16):
        return F(0), 0
    sx, sw = [F(0)], [F(0)]
    for i in sorted(range(len(xs)), key=lambda i: xs[i]):
        sx.append(F(sx[-1] + F(ws[i] * xs[i])))
        sw.append(F(sw[-1] + ws[i]))
    ends = np.pad(splits(len(xs), first_end, third_start), ((0, 0), (1, 1)), constant_values=(0, len(xs)))
    x, w = (np.diff(np.array(s)[ends], axis=1) for s in (sx, sw))
    s1: np.ndarray = np.zeros((len(ends), 4), np.float32)
    s2 = s1
    for i, levels in enumerate(np.array([*TABLES, *(table[::-1] for table in TABLES)]).T):
        s1, s2 = s1 + x[:, i : i + 1] * levels, s2 + w[:, i : i + 1] * levels * levels
    # One candidate after the other, split by split: the next that is better than the last that was.
    s1, s2 = s1.ravel(), s2.ravel()
    scale, best, at, which = F(0), F(0), 0, 0
    while (better := (s2[at:] > 0) & (s1[at:] * s1[at:] > best * s2[at:])).any():
        at += int(better.argmax())
        scale, which = F(s1[at] / s2[at]), at % 2
        best = F(scale * s1[at])
        at += 1
    return scale, which


def two_bits(codes: Sequence[int]) -> bytes:
    """256 codes: byte ``32 g + t`` holds those of ``128 g + t``, ``+ 32``, ``+ 64``, ``+ 96``."""
    return bytes(sum(codes[128 * g + 32 * i + t] << 2 * i for i in range(4)) for g in range(2) for t in range(32))


def sums(weights: Sequence[Floats]) -> Floats:
    totals = [F(0)] * len(weights)
    for j, ws in enumerate(weights):
        for w in ws:
            totals[j] = F(totals[j] + w)
    return totals


def code_all(
    blocks: Sequence[Floats], weights: Sequence[Floats], steps: Sequence[tuple[int, int]], d: np.float32
) -> tuple[list[int], bytes]:
    """Codes, and the scale to store, for the level and table of each block."""
    s1 = s2 = F(0)
    codes = []
    for xs, ws, (level, which) in zip(blocks, weights, steps, strict=True):
        step = F(d * F(level))
        for x, w in zip(xs, ws, strict=True):
            c = near(TABLES[which], F(F(F(1) / step) * x)) if step else 0
            q = F(F(level) * TABLES[which][c])
            s1, s2 = F(s1 + F(F(w * q) * x)), F(s2 + F(F(w * q) * q))
            codes.append(c)
    return codes, half(F(F(1.03) * (F(s1 / s2) if s2 > 0 else d)))


def iq2_k(row: Floats, importance: Floats | None) -> bytes:
    """One super-block of 256 weights."""
    variance = F(F(1.5) * sigma2(row))
    parts = [slice(16 * j, 16 * j + 16) for j in range(16)]
    blocks = [row[p] for p in parts]
    weights = [weigh(row[p], None if importance is None else importance[p], variance) for p in parts]
    scales, tables = zip(*(best_split(xs, ws, 16, 0) for xs, ws in zip(blocks, weights, strict=True)), strict=True)
    d, _ = make_qx(scales, sums(weights), 8, gradient=False)
    if not d:
        return bytes(76)
    levels = [max(-8, min(7, nint(F(F(F(1) / d) * s)))) for s in scales]
    codes, scale = code_all(blocks, weights, list(zip(levels, tables, strict=True)), d)
    extra = struct.pack("<H", sum(t << j for j, t in enumerate(tables)))
    nibbles = bytes(levels[2 * i] + 8 | (levels[2 * i + 1] + 8) << 4 for i in range(8))
    return scale + extra + nibbles + two_bits(codes)


def iq2_ks(row: Floats, importance: Floats | None) -> bytes:
    """A row of whole super-blocks."""
    blocks = [row[at : at + 32] for at in range(0, len(row), 32)]
    weights = []
    for j, xs in enumerate(blocks):
        first = j // 8 * 256
        variance = F(F(1.5) * sigma2(row[first : first + 256]))
        weights.append(weigh(xs, None if importance is None else importance[32 * j : 32 * j + 32], variance))
    scales, tables = zip(*(best_split(xs, ws, 24, 8) for xs, ws in zip(blocks, weights, strict=True)), strict=True)
    d, levels = make_qx(scales, sums(weights), 16, gradient=False)
    if not d:
        return bytes(2 + 70 * (len(row) // 256))
    codes, data = code_all(blocks, weights, list(zip(levels, tables, strict=True)), d)
    for at in range(0, len(blocks), 8):
        five, flags = [level + 16 for level in levels[at : at + 8]], tables[at : at + 8]
        data += bytes([sum(t << j for j, t in enumerate(flags)), sum((s >> 4) << j for j, s in enumerate(five))])
        data += bytes(five[2 * i] & 15 | (five[2 * i + 1] & 15) << 4 for i in range(4))
        data += two_bits(codes[32 * at : 32 * at + 256])
    return data
