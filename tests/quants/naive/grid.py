"""Slow scalar encoders of the grid I-quants: each trial of each group searched on its own; see ``naive``."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import gguf
import numpy as np

from tests.quants.naive.scalar import F, half, nint, sigma2

if TYPE_CHECKING:
    from collections.abc import Sequence

Row = list[np.float32]


@dataclass(frozen=True)
class Kind:
    """What tells the five types apart."""

    name: str
    n: int
    block: int
    n_wanted: int
    trials: int
    step: float
    eps: float
    even: bool
    again: str

    @property
    def n_levels(self) -> int:
        return 3 if self.n == 8 else 8


KINDS = {
    k.name: k
    for k in (
        Kind("IQ2_XXS", 8, 32, 2, 6, 0.1, 1e-15, True, "always"),
        Kind("IQ2_XS", 8, 16, 2, 7, 0.1, 1e-15, True, "rounds"),
        Kind("IQ2_S", 8, 16, 1, 9, 0.1, 1e-8, False, "off grid"),
        Kind("IQ3_XXS", 4, 32, 2, 15, 0.2, 1e-8, True, "off grid"),
        Kind("IQ3_S", 4, 32, 3, 9, 0.2, 1e-45, False, "all if off"),
    )
}


@cache
def levels_of(name: str) -> np.ndarray:
    """(n_points, n) levels 0, 1, 2 .. of the grid points."""
    source = getattr(gguf.quants, name)
    source.init_grid()
    values = source.grid.reshape(source.grid.shape[-2:])
    levels: np.ndarray = np.searchsorted(np.unique(values), values).astype(np.int64)
    return levels


@cache
def candidates(name: str, n_wanted: int, levels: tuple[int, ...]) -> list[int]:
    """Indices of the point itself, or of the grid points within the ``n_wanted`` smallest distances, nearest first."""
    distance = np.square(levels_of(name) - np.array(levels)).sum(axis=1)
    wanted = sorted(set(distance.tolist()))
    limit = 0 if wanted[0] == 0 else wanted[n_wanted - 1]
    return sorted(np.flatnonzero(distance <= limit).tolist(), key=lambda i: (int(distance[i]), i))


def snap(k: Kind, x: Row, w: Row, inverse: np.float32, scale: np.float32) -> tuple[int, bool]:
    """Grid index of one group, and whether its levels were on the grid."""
    top = k.n_levels - 1
    levels = tuple(max(0, min(top, nint(F(F(0.5) * F(F(inverse * v) - F(1)))))) for v in x)
    found = candidates(k.name, k.n_wanted, levels)
    distance = np.zeros(len(found), np.float32)
    for i, v in enumerate(x):
        e = scale * (2 * levels_of(k.name)[found, i] + 1).astype(np.float32) - v
        distance += (np.sqrt(w[i]) * e) * e
    return found[int(np.argmin(distance))], len(found) == 1 and tuple(levels_of(k.name)[found[0]]) == levels


def fit(k: Kind, x: Row, w: Row, points: Sequence[int]) -> tuple[np.float32, np.float32]:
    s1 = s2 = F(0)
    for i, (v, u) in enumerate(zip(x, w, strict=True)):
        q = F(2 * levels_of(k.name)[points[i // k.n], i % k.n] + 1)
        s1 = F(s1 + F(F(u * v) * q))
        s2 = F(s2 + F(F(u * q) * q))
    return s1, s2


def make_qp(x: Row, w: Row, nmax: int) -> np.float32:
    largest = max(x)
    trials = [F(F(F(0.1) * F(i)) + F(nmax)) / largest for i in (0, -4, -3, -2, -1, 1, 2, 3, 4)]
    errors = []
    for i, inverse in enumerate(trials):
        error = F(0)
        for v, u in zip(x, w, strict=True):
            level = nint(F(inverse * v))
            level = level & 255 if i == 0 else min(nmax, level)
            e = F(v - F(F(F(1) / inverse) * F(level)))
            error = F(error + F(F(u * e) * e))
        errors.append(error)
    inverse = trials[int(np.argmin(errors))]
    levels = [min(nmax, nint(F(inverse * v))) for v in x]
    s1 = s2 = F(0)
    for v, u, level in zip(x, w, levels, strict=True):
        s1 = F(s1 + F(F(u * v) * F(level)))
        s2 = F(s2 + F(F(u * F(level)) * F(level)))
    levels = [level & 255 for level in levels]
    for _ in range(5):
        moved = False
        for i, (v, u) in enumerate(zip(x, w, strict=True)):
            t1 = F(s1 - F(F(u * v) * F(levels[i])))
            t2 = F(s2 - F(F(u * F(levels[i])) * F(levels[i])))
            if t1 > 0 and t2 > 0:
                new = min(nmax, nint(F(F(v * t2) / t1)))
                if new != levels[i]:
                    t1 = F(t1 + F(F(u * v) * F(new)))
                    t2 = F(t2 + F(F(u * F(new)) * F(new)))
                    if F(F(t1 * t1) * s2) > F(F(s1 * s1) * t2):
                        levels[i], s1, s2, moved = new & 255, t1, t2, True
        if not moved:
            break
    return F(s1 / s2)


def best_split(x: Row, w: Row) -> np.float32:
    order = sorted(range(len(x)), key=lambda i: x[i])
    sx, sw = [F(0)], [F(0)]
    for i in order:
        sx.append(F(sx[-1] + F(w[i] * x[i])))
        sw.append(F(sw[-1] + w[i]))
    best = scale = F(0)
    for i in range(17):
        for j in range(i, 17):
            s1 = F(F(sx[i] + F(F(sx[j] - sx[i]) * F(3))) + F(F(sx[16] - sx[j]) * F(5)))
            s2 = F(F(sw[i] + F(F(sw[j] - sw[i]) * F(9))) + F(F(sw[16] - sw[j]) * F(25)))
            if s2 > 0 and F(s1 * s1) > F(best * s2):
                scale = F(s1 / s2)
                best = F(scale * s1)
    return scale


def search(k: Kind, x: Row, w: Row) -> tuple[np.float32, list[int]]:
    """Scale and grid indices of a block that is not zero."""
    top = F(2 * k.n_levels - 1)
    groups = [slice(i, i + k.n) for i in range(0, k.block, k.n)]
    if k.name == "IQ2_XXS":
        scale = make_qp(x, w, 4)
        reach = F(scale * F(3))
    else:
        scale = best_split(x, w) if k.name == "IQ2_XS" else F(max(x) / top)
        reach = F(scale * top) if k.name == "IQ2_XS" else max(x)
    best, points, on = F(0), [0] * len(groups), [False] * len(groups)
    for i in range(-k.trials, k.trials + 1):
        inverse = F(F(top + F(F(i) * F(k.step))) / reach)
        trial = [snap(k, x[g], w[g], inverse, F(F(1) / inverse)) for g in groups]
        s1, s2 = fit(k, x, w, [p for p, _ in trial])
        if s2 > 0 and F(s1 * s1) > F(best * s2):
            scale = F(s1 / s2)
            best = F(scale * s1)
            points, on = [p for p, _ in trial], [o for _, o in trial]
    if k.again in {"off grid", "all if off"} and all(on):
        return scale, points
    for _ in range(3 if k.again == "rounds" else 1):
        new = [snap(k, x[g], w[g], F(F(1) / scale), scale)[0] for g in groups]
        if k.again == "off grid":
            new = [p if o else q for p, o, q in zip(points, on, new, strict=True)]
        if k.again == "rounds" and new == points:
            break
        s1, s2 = fit(k, x, w, new)
        if k.again == "rounds" and not (s2 > 0 and F(s1 * s1) > F(best * s2)):
            break
        scale, points = F(s1 / s2), new
        best = F(scale * s1)
    return scale, points


def magnitudes(k: Kind, row: Row, w: Row) -> tuple[Row, list[int]]:
    """Magnitudes and a byte of sign bits per eight weights; parity types may give a weight the wrong sign."""
    xs, signs = [abs(v) for v in row], []
    for at in range(0, len(row), 8):
        bits = sum((not v >= 0) << i for i, v in enumerate(row[at : at + 8]))
        if k.even and bits.bit_count() % 2:
            least = min(range(8), key=lambda i: F(F(w[at + i] * row[at + i]) * row[at + i]))
            xs[at + least] = F(-xs[at + least])
            bits ^= 1 << least
        signs.append(bits)
    return xs, signs


def weigh(k: Kind, row: Row, importance: Row | None) -> Row:
    mean = sigma2(row)
    if importance is not None:
        variance = mean if k.name in {"IQ2_XXS", "IQ2_XS"} else F(F(2) * mean)
        return [F(q * np.sqrt(F(variance + F(v * v)))) for q, v in zip(importance, row, strict=True)]
    floor = F(F(0.25) * F(F(2) * mean)) if k.n == 8 else F(0)
    return [F(floor + F(v * v)) for v in row]


def encode(name: str, row: Row, importance: Row | None, factor: float | None = None) -> bytes:
    """One super-block of 256 weights, each of whose blocks is in its place; ``factor`` None is the engine's own."""
    k = KINDS[name]
    w = weigh(k, row, importance)
    xs, signs = magnitudes(k, row, w)
    scales, points = [], []
    for at in range(0, 256, k.block):
        part = slice(at, at + k.block)
        if max(xs[part]) < F(k.eps):
            scales.append(F(0))
            points += [0] * (k.block // k.n)
            signs[at // 8 : (at + k.block) // 8] = [0] * (k.block // 8)
            continue
        scale, found = search(k, xs[part], w[part])
        if scale < 0:
            scale = F(-scale)
            for i in range(at // 8, (at + k.block) // 8):
                signs[i] ^= 255
        scales.append(scale)
        points += found
    d = F(max(scales) / F(31))
    codes = [max(0, min(15, nint(F(F(0.5) * F(F(F(F(1) / d) * s) - F(1)))))) if d else 0 for s in scales]
    own = {"IQ3_S": 1.033, "IQ3_XXS": 1.0125}.get(name, 1.0)
    d = F(refit(k, row, w, d, codes, points, signs) * F(own if factor is None else factor))
    return pack(k, d, codes, points, signs)


def refit(
    k: Kind, row: Row, w: Row, d: np.float32, codes: list[int], points: list[int], signs: list[int]
) -> np.float32:
    if k.name != "IQ2_XS" or not d:
        return F(d * F(0.9875)) if k.name == "IQ2_S" else d
    s1 = s2 = F(0)
    for i, (v, u) in enumerate(zip(row, w, strict=True)):
        value = (8, 25, 43)[levels_of(k.name)[points[i // 8], i % 8]]
        q = F(0.125 * (2 * codes[i // 16] + 1) * value * (-1 if signs[i // 8] >> i % 8 & 1 else 1))
        s1 = F(s1 + F(F(u * q) * v))
        s2 = F(s2 + F(F(u * q) * q))
    return F(F(F(1.05) * s1) / s2)


def pack(k: Kind, d: np.float32, codes: list[int], points: list[int], signs: list[int]) -> bytes:
    nibbles = bytes(codes[i] | codes[i + 1] << 4 for i in range(0, len(codes), 2))
    low = bytes(p & 255 for p in points)
    words = [
        struct.pack("<I", sum((s & 127) << 7 * i for i, s in enumerate(signs[4 * b : 4 * b + 4])) | codes[b] << 28)
        for b in range(8)
        if k.block == 32
    ]
    match k.name:
        case "IQ2_XXS":
            body = b"".join(low[4 * b : 4 * b + 4] + words[b] for b in range(8))
        case "IQ3_XXS":
            body = low + b"".join(words)
        case "IQ2_XS":
            body = struct.pack("<32H", *(p | (s & 127) << 9 for p, s in zip(points, signs, strict=True))) + nibbles
        case "IQ2_S":
            high = bytes(sum((points[4 * j + i] >> 8) << 2 * i for i in range(4)) for j in range(8))
            body = low + bytes(signs) + high + nibbles
        case _:
            high = bytes(sum((points[8 * b + i] >> 8) << i for i in range(8)) for b in range(8))
            body = low + high + bytes(signs) + nibbles
    return half(d) + body
