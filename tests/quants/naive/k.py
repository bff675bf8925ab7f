"""Slow scalar encoders of the K-quants, Q4_1 and Q5_1; see ``naive`` for what such encoders are for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.quants.naive.affine import qkx2, qkx3, qp
from tests.quants.naive.scalar import F, extreme, half, make_qx, nint, sigma2

if TYPE_CHECKING:
    from collections.abc import Sequence

    Floats = Sequence[np.float32]


def t128(codes: Sequence[int]) -> bytes:
    fields = [codes[128 * g + t : 128 * g + 128 : 32] for g in (0, 1) for t in range(32)]
    return bytes(sum(q << 2 * i for i, q in enumerate(four)) for four in fields)


def f64(codes: Sequence[int]) -> bytes:
    return bytes(codes[64 * g + t] | codes[64 * g + 32 + t] << 4 for g in range(4) for t in range(32))


def planes(bits: Sequence[int]) -> bytes:
    return bytes(sum(bits[32 * i + t] << i for i in range(8)) for t in range(32))


def weigh(xs: Floats, importance: Floats, variance: np.float32) -> list[np.float32]:
    return [F(q * np.sqrt(F(variance + F(x * x)))) for q, x in zip(importance, xs, strict=True)]


def add(values: Floats) -> np.float32:
    total = F(0)
    for v in values:
        total = F(total + v)
    return total


def again(xs: Floats, d: np.float32, offset: np.float32, low: int, high: int, kept: list[int]) -> list[int]:
    """Codes for the scale that is stored; the search's where that is zero."""
    if not d:
        return kept
    return [max(low, min(high, nint(F(F(x + offset) / d)))) - low for x in xs]


def affine32(row: Floats, importance: Floats, nmax: int) -> bytes:
    """Q4_1 and Q5_1 with an importance."""
    out, variance = b"", sigma2(row)
    for at in range(0, len(row), 32):
        xs = row[at : at + 32]
        d, m, q = qkx3(xs, weigh(xs, importance[at : at + 32], variance), nmax)
        fifth = sum((c >> 4) << e for e, c in enumerate(q)).to_bytes(4, "little") if nmax > 15 else b""
        out += half(d) + half(m) + fifth + bytes((q[t] & 15) | (q[t + 16] & 15) << 4 for t in range(16))
    return out


def q3_without(xs: Floats) -> tuple[np.float32, list[int]]:
    mx = extreme(xs)
    if abs(mx) < F(1e-15):
        return F(0), [0] * len(xs)
    inverse = F(F(-4) / mx)
    levels = [max(-4, min(3, nint(F(inverse * x)))) for x in xs]
    ws = [F(x * x) for x in xs]
    s1 = s2 = F(0)
    for x, w, q in zip(xs, ws, levels, strict=True):
        s1, s2 = F(s1 + F(F(w * x) * F(q))), F(s2 + F(F(w * F(q)) * F(q)))
    for _ in range(5):
        for j, (x, w) in enumerate(zip(xs, ws, strict=True)):
            old = F(levels[j])
            a1, a2 = F(s1 - F(F(w * x) * old)), F(s2 - F(F(w * old) * old))
            if not a1 > 0:
                continue
            new = max(-4, min(3, nint(F(F(x * a2) / a1))))
            b1, b2 = F(a1 + F(F(w * x) * F(new))), F(a2 + F(F(w * F(new)) * F(new)))
            if new != levels[j] and b2 > 0 and F(F(b1 * b1) * s2) > F(F(s1 * s1) * b2):
                levels[j], s1, s2 = new, b1, b2
    return F(s1 / s2), [q + 4 for q in levels]


def q3_k(row: Floats, importance: Floats | None, *, gradient: bool = True) -> bytes:
    parts = [row[at : at + 16] for at in range(0, 256, 16)]
    if importance is None:
        found = [q3_without(xs) for xs in parts]
        mx = extreme([s for s, _ in found])
        inverse = F(F(-32) / mx) if mx else F(0)
        d = F(F(1) / inverse) if mx else F(0)
        ls = [max(-32, min(31, nint(F(inverse * s)))) + 32 if mx else 0 for s, _ in found]
    else:
        variance = F(F(2) * sigma2(row))
        ws = [weigh(xs, importance[16 * j : 16 * j + 16], variance) for j, xs in enumerate(parts)]
        linear = [make_qx(xs, w, 4, gradient=gradient) for xs, w in zip(parts, ws, strict=True)]
        found = [(s, [q + 4 for q in levels]) for s, levels in linear]
        d, levels = make_qx([s for s, _ in found], [add(w) for w in ws], 32, gradient=gradient)
        ls = [q + 32 for q in levels]
    d16, codes = F(np.float16(d)), []
    for xs, level, (_, kept) in zip(parts, ls, found, strict=True):
        codes += again(xs, F(d16 * F(level - 32)), F(0), -4, 3, kept)
    scales = [(ls[i] & 15) | (ls[i + 8] & 15) << 4 for i in range(8)]
    scales += [sum((ls[i + 4 * g] >> 4) << 2 * g for g in range(4)) for i in range(4)]
    return planes([q >> 2 for q in codes]) + t128([q & 3 for q in codes]) + bytes(scales) + half(d)


def q6_k(row: Floats, importance: Floats | None, *, gradient: bool = True) -> bytes:
    ws = [F(x * x) for x in row] if importance is None else importance
    parts = [row[at : at + 16] for at in range(0, 256, 16)]
    found = [make_qx(xs, ws[16 * j : 16 * j + 16], 32, gradient=gradient) for j, xs in enumerate(parts)]
    mx = extreme([s for s, _ in found])
    if abs(mx) < F(1e-15):
        return bytes(210)
    inverse = F(F(-128) / mx)
    d = F(F(1) / inverse)
    d16, codes, ls = F(np.float16(d)), [], []
    for xs, (s, levels) in zip(parts, found, strict=True):
        ls.append(min(127, nint(F(inverse * s))))
        codes += again(xs, F(d16 * F(ls[-1])), F(0), -32, 31, [q + 32 for q in levels])
    low = [codes[128 * g + t] & 15 | (codes[128 * g + 64 + t] & 15) << 4 for g in (0, 1) for t in range(64)]
    return bytes(low) + t128([q >> 4 for q in codes]) + bytes(level & 255 for level in ls) + half(d)


def rounded(values: Floats, top: int) -> tuple[np.float32, list[int]]:
    """Codes of block scales or minimums without an importance."""
    most = max(F(0), *values)
    inverse = F(F(top) / most) if most > 0 else F(0)
    return F(most / F(top)), [min(top, nint(F(inverse * v)) & 255) for v in values]


def affine_k(row: Floats, importance: Floats | None, nmax: int, first: float, n_steps: int) -> bytes:
    """Q4_K and Q5_K."""
    parts, found, sums = [row[at : at + 32] for at in range(0, 256, 32)], [], []
    variance = F(F(2) * sigma2(row))
    for j, xs in enumerate(parts):
        if importance is None:
            mean = np.sqrt(sigma2(xs))
            found.append(qkx2(xs, [F(mean + abs(x)) for x in xs], nmax, first, n_steps, absolute=False))
        else:
            ws = weigh(xs, importance[32 * j : 32 * j + 32], variance)
            sums.append(add(ws))
            found.append(qkx3(xs, ws, nmax))
    scales, mins = [f[0] for f in found], [F(-f[1]) for f in found]
    (d, ls), (dmin, lm) = (rounded(v, 63) if importance is None else qp(v, sums, 63) for v in (scales, mins))
    codes: list[int] = []
    for xs, s, m, (_, _, kept) in zip(parts, ls, lm, found, strict=True):
        codes += again(xs, F(F(np.float16(d)) * F(s)), F(F(np.float16(dmin)) * F(m)), 0, nmax, kept)
    packed = [ls[j] | (ls[j + 4] >> 4) << 6 for j in range(4)] + [lm[j] | (lm[j + 4] >> 4) << 6 for j in range(4)]
    packed += [ls[j] & 15 | (lm[j] & 15) << 4 for j in range(4, 8)]
    fifth = planes([q >> 4 for q in codes]) if nmax > 15 else b""
    return half(d) + half(dmin) + bytes(packed) + fifth + f64([q & 15 for q in codes])


def q2_k(row: Floats, importance: Floats | None) -> bytes:
    """Without the ternary levels."""
    parts, found, sums = [row[at : at + 16] for at in range(0, 256, 16)], [], []
    variance = F(F(0.75) * sigma2(row))
    for j, xs in enumerate(parts):
        if importance is None:
            found.append(qkx2(xs, [abs(x) for x in xs], 3, -0.5, 15, absolute=True))
        else:
            ws = weigh(xs, importance[16 * j : 16 * j + 16], variance)
            sums.append(add(ws))
            found.append(qkx3(xs, ws, 3))
    scales, mins = [f[0] for f in found], [F(-f[1]) for f in found]
    (d, ls), (dmin, lm) = (rounded(v, 15) if importance is None else qp(v, sums, 15) for v in (scales, mins))
    codes: list[int] = []
    for xs, s, m, (_, _, kept) in zip(parts, ls, lm, found, strict=True):
        if importance is None:
            codes += again(xs, F(F(np.float16(d)) * F(s)), F(F(np.float16(dmin)) * F(m)), 0, 3, kept)
        else:
            step, offset = F(d * F(s)), F(dmin * F(m))
            inverse = F(F(1) / step) if step else F(0)
            codes += [max(0, min(3, nint(F(F(x + offset) * inverse)))) for x in xs]
    return bytes((s | m << 4) & 255 for s, m in zip(ls, lm, strict=True)) + t128(codes) + half(d) + half(dmin)
