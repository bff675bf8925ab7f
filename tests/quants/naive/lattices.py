"""Slow scalar search for blocks that sit on a lattice: Q8_0 by a scale, Q4_1 and Q5_1 by a scale and a minimum.

Every half is tried that could be a scale, and floats are Python's but where the format rounds.
"""

from __future__ import annotations

import math

import numpy as np

F = np.float32
NEAR, HALF_UNIT, TOP = F(0.65), 0.501, 127
HALVES = np.arange(1, 0x7C00, dtype=np.uint16).view(np.float16).astype(F)


def unit_of(x: np.float32) -> np.float32:
    """One in the last place of a bfloat16 of this size."""
    return F(2.0**-133) if abs(x) < 2.0**-126 else F(2.0 ** (math.frexp(float(x))[1] - 8))


def near(half: np.float32, most: int) -> list[np.float32]:
    """Halves around one, itself first and then by their distance, up before down."""
    bits = int(np.float16(half).view(np.uint16))
    steps = [0] + [sign * i for i in range(1, most + 1) for sign in (1, -1)]
    return [F(np.uint16(bits + s).view(np.float16)) for s in steps if 0 <= bits + s < 0x7C00]


def multiple(x: np.float32, scale: np.float32) -> np.float32:
    return min(max(F(np.rint(F(x / scale))), F(-TOP)), F(TOP))


def farthest(xs: list[np.float32], codes: list[np.float32], scale: np.float32) -> np.float32:
    """Largest distance of what is decoded, in units."""
    return max(F(abs(F(F(scale * q) - x)) / unit_of(x)) for x, q in zip(xs, codes, strict=True))


def step_alone(xs: list[np.float32]) -> np.float32:
    """Of all halves that with the nearest multiples, the largest of equals; 0 where none has all of them near."""
    x, units = np.array(xs), np.array([unit_of(x) for x in xs])
    if not x.any():
        return F(0)
    largest = float(np.abs(x).max())
    tried = HALVES[(largest / HALVES < TOP + 2) & (largest / HALVES > 0.4)][::-1, None]
    codes = np.clip(np.rint(x / tried), -TOP, TOP)
    far = (np.abs(tried * codes - x) / units).max(axis=1, initial=0, where=codes.any(axis=1, keepdims=True))
    far = np.where(codes.any(axis=1), far, NEAR)
    return F(tried[far.argmin(), 0]) if len(tried) and far.min() < NEAR else F(0)


def narrowed(xs: list[np.float32], low: float, high: float) -> tuple[list[np.float32], float, float] | None:
    """Codes, and between what the step is; None where no step there explains the weights."""
    codes = [F(0)] * len(xs)
    for _ in range(12):
        before = low, high
        for e, x in enumerate(xs):
            v, room = abs(float(x)), HALF_UNIT * float(unit_of(x))
            least, most = math.ceil((v - room) / high), min(math.floor((v + room) / low), TOP)
            if least > most:
                return None
            if least == most > 0:
                low, high = max(low, (v - room) / most), min(high, (v + room) / most)
            n = min(max(round(2 * v / (low + high)), least), most)
            codes[e] = F(n if x > 0 else -n)
        if (low, high) == before:
            break
    return codes, low, high


def scale_for(xs: list[np.float32], codes: list[np.float32], low: float, high: float) -> np.float32:
    best, scale = NEAR, F(0)
    for tried in near(F(0.5 * (low + high)), 6):
        far = farthest(xs, codes, tried)
        if tried and far < best:
            best, scale = far, tried
    return scale


Found = tuple[np.float32, list[np.float32], float, float]


def alone(xs: list[np.float32]) -> Found | None:
    scale = step_alone(xs)
    if not scale:
        return None
    told = narrowed(xs, float(scale) * (1 - 2.0**-9), float(scale) * (1 + 2.0**-9))
    if told and (better := scale_for(xs, *told)):
        return better, *told
    return scale, [multiple(x, scale) for x in xs], 0.0, 0.0


def as_beside(xs: list[np.float32], low: float, high: float) -> Found | None:
    told = narrowed(xs, low, high) if low else None
    if not told:
        return None
    chance = math.prod(min(1.0, float(unit_of(x)) / told[1]) for x in xs if x)
    scale = scale_for(xs, *told) if chance < 1e-5 else F(0)
    return (scale, *told) if scale else None


def q8_0(row: np.ndarray) -> list[tuple[np.float32, list[int]] | None]:
    """Scale and codes of each block of a row, None where it sits on no lattice."""
    blocks = [list(b) for b in row.reshape(-1, 32)]
    found: list[Found | None] = []
    for xs in blocks:
        before = found[-1] if found else None
        found.append((as_beside(xs, *before[2:]) if before else None) or alone(xs))
    for i in range(len(blocks) - 2, -1, -1):
        after = found[i + 1]
        found[i] = (as_beside(blocks[i], *after[2:]) if after and after[2] else None) or found[i]
    return [(f[0], [int(q) for q in f[1]]) if f else None for f in found]


def codes_above(xs: list[np.float32], top: int) -> list[int] | None:
    """The fewest equal steps above the least weight on which all lie."""
    first, last = xs.index(min(xs)), xs.index(max(xs))
    least, span = float(xs[first]), float(xs[last]) - float(xs[first])
    if not span:
        return [0] * len(xs)
    units = [float(unit_of(x)) for x in xs]
    for k in range(1, top + 1):
        step, chance = span / k, 1.0
        codes = [round((float(x) - least) / step) for x in xs]
        for x, q, unit in zip(xs, codes, units, strict=True):
            left_open = unit + units[first] * (1 - q / k) + units[last] * (q / k)
            if abs(float(x) - least - q * step) > HALF_UNIT * left_open + 2.0**-40 * step:
                break
            chance *= min(1.0, left_open / step)
        else:
            if chance < 2e-9:
                return codes
    return None


def best_pair(xs: list[np.float32], codes: list[int], first: np.float32, units: np.ndarray) -> float:
    """The least largest distance of all halves near ``first``, each with the minimum that bisecting distances finds."""
    scales = np.array(near(first, 24) if first else [F(0)])[:, None]
    x, q = np.array(xs), np.array(codes, F)
    at = x.astype(float) - scales.astype(float) * q
    low, high = np.zeros(len(scales)), np.ptp(at, axis=1) / units.min()
    for _ in range(60):
        far = 0.5 * (low + high)
        misses = (at - far[:, None] * units).max(axis=1) > (at + far[:, None] * units).min(axis=1)
        low, high = np.where(misses, far, low), np.where(misses, high, far)
    room = high[:, None] * units
    around = (0.5 * ((at - room).max(axis=1) + (at + room).min(axis=1))).astype(np.float16)
    ends = np.array([-np.inf, np.inf], np.float16)
    minima = np.stack([around, *(np.nextafter(around, end) for end in ends)]).astype(F)[..., None]
    return float((np.abs((scales * q + minima) - x) / units).max(axis=-1).min())
