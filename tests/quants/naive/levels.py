"""Slow encoders of the types with two level tables; see ``naive`` for what such encoders are for.

Block after block and trial after trial; only what is the same for each weight is written for arrays.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.quants.naive.four_levels import clean
from tests.quants.naive.k import f64, planes, t128
from tests.quants.naive.scalar import IQ4, F, extreme, half, near, nibbles, nint

if TYPE_CHECKING:
    from collections.abc import Sequence

IQ3 = [F(v) for v in (-63, -40, -23, -10, 1, 13, 28, 47)]
# Differences, so that a slip in one of the two lists of the longer tables is found.
IQ5_GAPS = "12 11 11 9 9 9 8 7 7 7 6 6 6 6 6 5 6 6 6 6 6 7 7 8 8 9 9 10 10 12 12"
IQ6_GAPS = (
    "6 6 6 5 6 5 5 4 5 5 4 4 4 4 4 3 4 3 4 3 3 3 3 3 3 3 3 3 2 3 3 3 2 3 3 3 3 2 3 3 3 4 3 3 3 4 4 3 4 4 4 4 5 4 5 5 5"
    " 5 6 5 6 6 6"
)
IQ5 = [F(v) for v in itertools.accumulate(map(int, IQ5_GAPS.split()), initial=-126)]
IQ6 = [F(v) for v in itertools.accumulate(map(int, IQ6_GAPS.split()), initial=-127)]


@dataclass(frozen=True)
class Kind:
    table: list[np.float32]
    shift: int
    block: int
    reach: int
    variance: float
    share: float
    stride: int = 1
    refit: bool = False
    careful: bool = False
    pairs: bool = False

    @property
    def tables(self) -> tuple[list[np.float32], list[np.float32]]:
        return self.table, [F(v + F(self.shift)) for v in self.table]


KINDS = {
    "IQ3_K": Kind(IQ3, 4, 16, 3, 1.5, 0.25, stride=2, refit=True, careful=True),
    "IQ4_K": Kind(IQ4, 4, 16, 7, 2.0, 0.0),
    "IQ5_K": Kind(IQ5, 2, 16, 5, 2.0, 0.25, refit=True),
    "IQ6_K": Kind(IQ6, 1, 16, 5, 2.0, 0.25, refit=True),
    "IQ3_KS": Kind(IQ3, 4, 32, 5, 2.0, 0.0, careful=True),
    "IQ4_KS": Kind(IQ4, 4, 32, 7, 2.0, 0.0, pairs=True),
    "IQ5_KS": Kind(IQ5, 2, 32, 5, 2.0, 0.0),
}


def add(values: Any) -> np.float32:
    """The sum from left to right."""
    return F(np.add.accumulate(np.append(F(0), values).astype(F))[-1])


def sums(xs: Any, ws: Any, qs: Any) -> tuple[np.float32, np.float32]:
    return add((ws * qs) * xs), add((ws * qs) * qs)


def nearest(table: list[np.float32], values: Any) -> tuple[list[int], Any]:
    codes = [near(table, v) for v in values]
    return codes, np.array([table[c] for c in codes], F)


def search(kind: Kind, xs: Any, ws: Any) -> tuple[np.float32, int]:
    """Scale of a block, and which table it is for."""
    mx = extreme(xs)
    if abs(mx) < F(1e-16):
        return F(0), 0
    start = F(F(1) / F(-mx / kind.table[0]))
    trials = [(start, 0), (-start, 0)]
    for step in range(-kind.reach, kind.reach + 1):
        for side in (0, 1):
            inverse = F(F(F(kind.stride * step) + kind.tables[side][0]) / mx)
            trials += [(inverse, side), (-inverse, side)]
    d = best = F(0)
    found = 0
    for i, (inverse, side) in enumerate(trials):
        s1, s2 = sums(xs, ws, nearest(kind.tables[side], inverse * xs)[1])
        if i == 0 and kind.careful and not s2 > 0:
            d = F(-mx / kind.table[0])
        elif i == 0 or (s2 > 0 and F(s1 * s1) > F(best * s2)):
            d, found = F(s1 / s2), side
            best = F(d * s1)
    if kind.refit and d:
        s1, s2 = sums(xs, ws, nearest(kind.tables[found], F(F(1) / d) * xs)[1])
        d = F(s1 / s2) if s2 > 0 else d
    return d, found


def unit(name: str, scales: Sequence[np.float32]) -> np.float32:
    by = {"IQ3_K": 31, "IQ4_K": -32, "IQ5_K": -32, "IQ6_K": -127, "IQ3_KS": -16, "IQ4_KS": 127, "IQ5_KS": 127}[name]
    largest = extreme(scales)
    return F((largest if by < 0 else abs(largest)) / F(by))


def level(name: str, multiple: np.float32) -> int:
    if name in {"IQ4_KS", "IQ5_KS"}:
        return 2 * max(0, min(127, nint(F(F(0.5) * F(multiple + F(127)))))) - 127
    if name == "IQ3_K":
        return (2 * max(0, min(15, nint(F(F(0.5) * F(abs(multiple) - F(1)))))) + 1) * (-1 if multiple < 0 else 1)
    least, most = {"IQ6_K": (-127, 127), "IQ3_KS": (-16, 15)}.get(name, (-32, 31))
    return max(least, min(most, nint(multiple)))


def pack(name: str, levels: list[int], tables: list[int], codes: list[int]) -> bytes:
    """A super-block without its d."""
    flags = sum(t << j for j, t in enumerate(tables))
    if name in {"IQ4_K", "IQ5_K"}:
        six = [v + 32 for v in levels]
        high = bytes(sum((six[4 * i + j] >> 4) << 2 * j for j in range(4)) for i in range(4))
        start = struct.pack("<H", flags) + high + pair_up([s & 15 for s in six])
    elif name == "IQ6_K":
        start = struct.pack("<H16b", flags, *levels)
    elif name == "IQ3_K":
        negative = sum((v < 0) << j for j, v in enumerate(levels))
        start = struct.pack("<HH", flags, negative) + pair_up([abs(v) // 2 for v in levels])
    elif name == "IQ3_KS":
        five = [v + 16 for v in levels]
        fifth = sum((s >> 4) << j for j, s in enumerate(five))
        start = struct.pack("<BB", fifth, flags) + bytes(five[j] & 15 | (five[j + 4] & 15) << 4 for j in range(4))
    else:
        start = bytes(v + 127 | t for v, t in zip(levels, tables, strict=True))
    if "3_" in name:
        return start + t128([c & 3 for c in codes]) + planes([c >> 2 for c in codes])
    if "4_" in name:
        return start + b"".join(nibbles(codes[32 * i : 32 * i + 32]) for i in range(8))
    top = [c >> 4 for c in codes]
    return start + f64([c & 15 for c in codes]) + (t128(top) if name == "IQ6_K" else planes(top))


def pair_up(fours: list[int]) -> bytes:
    return bytes(a | b << 4 for a, b in zip(fours[::2], fours[1::2], strict=True))


def weigh(kind: Kind, row: Any, importance: Any) -> list[Any]:
    """What each weight counts in the searches, by block."""
    weights: list[Any] = []
    for j, x in enumerate(row.reshape(-1, kind.block)):
        whole = row.reshape(-1, 256)[j * kind.block // 256]
        variance = F(F(F(kind.variance) * add(whole * whole)) / F(256))
        if importance is None:
            weights.append((F(F(kind.share) * variance) + x * x).astype(F))
        else:
            cleaned = np.array(clean(list(x), list(importance.reshape(-1, kind.block)[j])), F)
            weights.append(cleaned * np.sqrt(variance + x * x))
    return weights


def cubic(code: int) -> np.float32:
    """The level of IQ6_K as its decoder computes it."""
    c = F(code)
    return F(F(-127) + F(c * F(F(6.2568) + F(c * F(F(-0.11218) + F(c * F(0.0011972)))))))


def encode(name: str, row: Any, importance: Any) -> bytes:
    """What stores one d: a super-block, or a row of the KS types."""
    kind = KINDS[name]
    weights, xs = weigh(kind, row, importance), row.reshape(-1, kind.block)
    found = [search(kind, x, w) for x, w in zip(xs, weights, strict=True)]
    d = unit(name, [scale for scale, _ in found])
    if not d:
        return empty(name, len(row))
    levels = [level(name, F(F(F(1) / d) * scale)) for scale, _ in found]
    codes, terms = [], []
    for x, w, multiple, (_, side) in zip(xs, weights, levels, found, strict=True):
        step = F(d * F(multiple))
        chosen, q = nearest(kind.tables[side], (F(F(1) / step) if step else F(0)) * x)
        if not step and name in {"IQ5_K", "IQ6_K"}:
            chosen = [0] * kind.block
        q = q * F(multiple)
        codes += chosen
        term = np.array([(w * q) * x, (w * q) * q])
        terms.append(term[:, :16] + term[:, 16:] if kind.pairs else term)
    s1, s2 = (add(np.concatenate([t[i] for t in terms])) for i in range(2))
    d = F(s1 / s2) if s2 > 0 else d
    d = F(F(1.01) * d) if name == "IQ3_K" else d
    n = 256 // kind.block
    packed = [
        pack(name, levels[n * i : n * i + n], [t for _, t in found[n * i : n * i + n]], codes[256 * i : 256 * i + 256])
        for i in range(len(row) // 256)
    ]
    return (struct.pack("<f", d) if name in {"IQ4_KS", "IQ5_KS"} else half(d)) + b"".join(packed)


def decode(name: str, d: np.float32, levels: list[int], tables: list[int], codes: list[int]) -> list[np.float32]:
    """The weights of these fields."""
    kind, weights = KINDS[name], []
    for i, code in enumerate(codes):
        multiple, side = levels[i // kind.block], tables[i // kind.block]
        value = kind.tables[side][code]
        if name == "IQ6_K":
            value = F(cubic(code) + F(side))
        weights.append(F(F(d * F(multiple)) * value))
    return weights


def empty(name: str, n: int) -> bytes:
    """What no block has a scale in: all zero, but for the sign of a zero, and what IQ4_K makes of zero scales."""
    if name == "IQ4_K":
        return half(F(-0.0)) + pack(name, [0] * 16, [0] * 16, [8] * n)
    nbytes = {"IQ3_K": 110, "IQ5_K": 176, "IQ6_K": 212}
    if name in nbytes:
        return bytes(nbytes[name])
    if name == "IQ3_KS":
        return half(F(-0.0)) + bytes(102 * (n // 256))
    return bytes(4 + {"IQ4_KS": 136, "IQ5_KS": 168}[name] * (n // 256))
