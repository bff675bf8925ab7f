"""Slow scalar encoders, written from the description of the algorithms and as plainly as possible.

One weight after the other, every value a ``numpy.float32``: the kernels, which do many blocks at a time, must give the
same bytes.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

F = np.float32
IQ4 = [F(v) for v in (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)]


def nint(x: np.float32) -> int:
    """Half to even; NaN gives 0 as ggml's bit trick does."""
    return 0 if np.isnan(x) else int(np.rint(x))


def extreme(xs: Sequence[np.float32]) -> np.float32:
    """The first value of largest magnitude."""
    best = F(0)
    for x in xs:
        if abs(x) > abs(best):
            best = x
    return best


def half(x: np.float32) -> bytes:
    return struct.pack("<e", np.float16(x))


def sigma2(xs: Sequence[np.float32]) -> np.float32:
    total = F(0)
    for x in xs:
        total = F(total + x * x)
    return F(total / F(len(xs)))


def make_qx(
    xs: Sequence[np.float32], ws: Sequence[np.float32], nmax: int, *, gradient: bool = True
) -> tuple[np.float32, list[int]]:
    """Scale and levels in ``[-nmax, nmax - 1]``: trial scales, then single moves along the gradient."""
    mx = extreme(xs)
    if abs(mx) < F(1e-15):
        return F(0), [-nmax] * len(xs)

    def trial(isc: np.float32) -> tuple[list[int], np.float32, np.float32]:
        levels = [max(-nmax, min(nmax - 1, nint(F(isc * x)))) for x in xs]
        s1 = s2 = F(0)
        for x, w, q in zip(xs, ws, levels, strict=True):
            s1 = F(s1 + F(F(w * x) * F(q)))
            s2 = F(s2 + F(F(w * F(q)) * F(q)))
        return levels, s1, s2

    levels, s1, s2 = trial(F(F(-nmax) / mx))
    scale = F(s1 / s2) if s2 else F(0)
    best = F(scale * s1)
    for step in range(-9, 10):
        shift = F(F(0.1) * F(step))
        candidates = [F(-F(F(nmax) + shift) / mx)]
        if gradient:
            candidates.append(F(F(F(nmax - 1) + shift) / mx))
        for isc in candidates:
            l2, t1, t2 = trial(isc)
            if t2 > 0 and F(t1 * t1) > F(best * t2):
                levels, s1, s2 = l2, t1, t2
                scale = F(s1 / s2)
                best = F(scale * s1)
    if gradient:
        scale = climb_linear(xs, ws, nmax, levels, (s1, s2, scale, best))
    return scale, levels


def climb_linear(
    xs: Sequence[np.float32], ws: Sequence[np.float32], nmax: int, levels: list[int], state: tuple[np.float32, ...]
) -> np.float32:
    """The gradient phase; changes ``levels`` in place."""
    s1, s2, scale, best = state
    for _ in range(len(xs) * (2 * nmax - 1)):
        chosen, largest = None, F(0)
        for j, (x, w) in enumerate(zip(xs, ws, strict=True)):
            g = F(F(scale * w) * F(x - F(scale * F(levels[j]))))
            free = (g > 0 and levels[j] < nmax - 1) or (g < 0 and levels[j] > -nmax)
            if free and abs(g) > abs(largest):
                chosen, largest = j, g
        if chosen is None:
            break
        wx, w, q = F(ws[chosen] * xs[chosen]), ws[chosen], levels[chosen]
        if largest > 0:
            n1, n2, q2 = F(s1 + wx), F(s2 + F(w * F(2 * q + 1))), q + 1
        else:
            n1, n2, q2 = F(s1 - wx), F(s2 - F(w * F(2 * q - 1))), q - 1
        if not (n2 > 0 and F(n1 * n1) > F(best * n2)):
            break
        s1, s2, levels[chosen] = n1, n2, q2
        scale = F(s1 / s2)
        best = F(scale * s1)
    return scale


def near(v: Sequence[np.float32], x: np.float32) -> int:
    """Index of the nearest level as the engines choose it."""
    if not x > v[0]:
        return 0
    if x >= v[-1]:
        return len(v) - 1
    high = next(i for i, level in enumerate(v) if level > x)
    return high - 1 if F(x - v[high - 1]) < F(v[high] - x) else high


def iq4_scale(xs: Sequence[np.float32], ws: Sequence[np.float32], *, gradient: bool = True) -> np.float32:
    """Scale of an IQ4_NL block, or of a 32-block of IQ4_XS."""
    mx, v = extreme(xs), IQ4
    if abs(mx) < F(1e-15):
        return F(0)

    def trial(inverse: np.float32) -> tuple[list[int], np.float32, np.float32]:
        codes = [near(v, F(inverse * x)) for x in xs]
        s1 = s2 = F(0)
        for x, w, c in zip(xs, ws, codes, strict=True):
            s1 = F(s1 + F(F(w * v[c]) * x))
            s2 = F(s2 + F(F(w * v[c]) * v[c]))
        return codes, s1, s2

    codes, s1, s2 = trial(F(F(1) / F(-mx / v[0])))
    d = F(s1 / s2)
    best = F(d * s1)
    for step in range(-7, 8):
        candidates = [F(F(F(step) + v[0]) / mx)]
        if gradient:
            candidates.append(F(F(F(step) + v[-1]) / mx))
        for inverse in candidates:
            c2, t1, t2 = trial(inverse)
            if t2 > 0 and F(t1 * t1) > F(best * t2):
                codes, s1, s2 = c2, t1, t2
                d = F(s1 / s2)
                best = F(d * s1)
    return climb_table(xs, ws, codes, (s1, s2, d, best)) if gradient else d


def climb_table(
    xs: Sequence[np.float32], ws: Sequence[np.float32], codes: list[int], state: tuple[np.float32, ...]
) -> np.float32:
    s1, s2, d, best = state
    v = IQ4
    for _ in range(32 * 32):
        chosen, shortest, to = None, F(np.inf), 0
        for j, (x, w) in enumerate(zip(xs, ws, strict=True)):
            g = F(F(d * w) * F(x - F(d * v[codes[j]])))
            if g > 0 and codes[j] < 15:
                target = codes[j] + 1
            elif g < 0 and codes[j] > 0:
                target = codes[j] - 1
            else:
                continue
            step = F(F(v[target] - v[codes[j]]) / g)
            if step < shortest:
                chosen, shortest, to = j, step, target
        if chosen is None:
            break
        old, new, w = v[codes[chosen]], v[to], ws[chosen]
        n1 = F(s1 + F(F(w * xs[chosen]) * F(new - old)))
        n2 = F(s2 + F(w * F(F(new * new) - F(old * old))))
        if not (n2 > 0 and F(n1 * n1) > F(best * n2)):
            break
        s1, s2, codes[chosen] = n1, n2, to
        d = F(s1 / s2)
        best = F(d * s1)
    return d


def nibbles(codes: Sequence[int]) -> bytes:
    """Code t in the low, code t + 16 in the high nibble of byte t."""
    return bytes((codes[t] & 15) | (codes[t + 16] & 15) << 4 for t in range(16))


def blocks(row: Sequence[np.float32]) -> list[list[np.float32]]:
    return [list(row[at : at + 32]) for at in range(0, len(row), 32)]


def linear_row(
    row: Sequence[np.float32], importance: Sequence[np.float32] | None, nmax: int, pack: object, *, gradient: bool
) -> bytes:
    variance, out = sigma2(row), b""
    for b, xs in enumerate(blocks(row)):
        if importance is None:
            ws = [F(x * x) for x in xs]
        else:
            qs = importance[32 * b : 32 * b + 32]
            ws = [F(q * np.sqrt(F(variance + F(x * x)))) for q, x in zip(qs, xs, strict=True)]
        scale, levels = make_qx(xs, ws, nmax, gradient=gradient)
        out += pack(scale, [q + nmax for q in levels])  # type: ignore[operator]
    return out


def rounded_row(row: Sequence[np.float32], nmax: int, pack: object) -> bytes:
    out = b""
    for xs in blocks(row):
        d = F(extreme(xs) / F(-nmax))
        inverse = F(F(1) / d) if d else F(0)
        codes = [min(2 * nmax - 1, int(F(F(x * inverse) + F(nmax + 0.5)))) for x in xs]
        out += pack(d, codes)  # type: ignore[operator]
    return out


def pack_q4_0(d: np.float32, codes: Sequence[int]) -> bytes:
    return half(d) + nibbles(codes)


def pack_q5_0(d: np.float32, codes: Sequence[int]) -> bytes:
    return half(d) + struct.pack("<I", sum((c >> 4) << e for e, c in enumerate(codes))) + nibbles(codes)


def pack_q6_0(d: np.float32, codes: Sequence[int]) -> bytes:
    upper = [codes[t] >> 4 | (codes[t + 16] >> 4) << 2 for t in range(16)]
    return half(d) + bytes(upper[t] | upper[t + 8] << 4 for t in range(8)) + nibbles(codes)


def q4_0(row: Sequence[np.float32], importance: Sequence[np.float32] | None, *, gradient: bool = True) -> bytes:
    if importance is None:
        return rounded_row(row, 8, pack_q4_0)
    return linear_row(row, importance, 8, pack_q4_0, gradient=gradient)


def q5_0(row: Sequence[np.float32], importance: Sequence[np.float32] | None, *, gradient: bool = True) -> bytes:
    if importance is None:
        return rounded_row(row, 16, pack_q5_0)
    return linear_row(row, importance, 16, pack_q5_0, gradient=gradient)


def q6_0(row: Sequence[np.float32], importance: Sequence[np.float32] | None, *, gradient: bool = True) -> bytes:
    return linear_row(row, importance, 32, pack_q6_0, gradient=gradient)


def iq4_nl(row: Sequence[np.float32], importance: Sequence[np.float32] | None, *, gradient: bool = True) -> bytes:
    out = b""
    for b, xs in enumerate(blocks(row)):
        if importance is None:
            ws = [F(x * x) for x in xs]
        else:
            variance = F(F(2) * sigma2(xs))
            qs = importance[32 * b : 32 * b + 32]
            ws = [F(q * np.sqrt(F(variance + F(x * x)))) for q, x in zip(qs, xs, strict=True)]
        d = iq4_scale(xs, ws, gradient=gradient)
        inverse = F(F(1) / d) if d else F(0)
        out += half(d) + nibbles([near(IQ4, F(inverse * x)) for x in xs])
    return out


def q8_0(row: Sequence[np.float32], importance: Sequence[np.float32] | None, *, gradient: bool = True) -> bytes:  # noqa: ARG001
    out = b""
    for xs in blocks(row):
        d = F(abs(extreme(xs)) / F(127))
        inverse = F(F(1) / d) if d else F(0)
        ys = [float(F(x * inverse)) for x in xs]
        out += half(d) + bytes(int(np.sign(y) * np.floor(abs(y) + 0.5)) & 255 for y in ys)
    return out


def q4_0_symmetric(row: Sequence[np.float32]) -> bytes:
    """``quantize_row_q4_0_symmetric`` of ik_llama.cpp."""
    packed = b""
    for xs in blocks(row):
        d = np.float32(max(abs(x) for x in xs) / np.float32(7))
        inverse = np.float32(1) / d if d != 0 else np.float32(0)
        packed += half(d) + nibbles([min(15, int(np.float32(x * inverse + np.float32(8.5)))) for x in xs])
    return packed
