"""Slow scalar encoders of the trellis types; see ``naive`` for what such encoders are for."""

from __future__ import annotations

import struct

import numpy as np

from tests.quants.naive.scalar import IQ4, F, extreme, near, nint, sigma2
from tests.quants.naive.trellis_book import IQ1, IQ2, IQ3, IQ4_SETS, Array, Book


def fused(a: np.float32, b: np.float32, c: np.float32) -> np.float32:
    """``a * b + c`` rounded once: in double precision rounded to odd, which a second rounding cannot spoil."""
    p, c64 = np.float64(a) * np.float64(b), np.float64(c)
    s = p + c64
    part = s - p
    error = (p - (s - part)) + (c64 - part)
    if error != 0 and s.view(np.int64) % 2 == 0:
        s = np.nextafter(s, np.inf if error > 0 else -np.inf)
    return F(s)


def fit(book: Book, xs: Array, ws: Array, found: list[int]) -> tuple[np.float32, np.float32]:
    """Scale and score."""
    q = book.values[found].ravel()
    a, b = [F(0)] * 8, [F(0)] * 8
    for e in range(32):
        wq = F(ws[e] * q[e])
        a[e % 8], b[e % 8] = fused(wq, xs[e], a[e % 8]), fused(wq, q[e], b[e % 8])
    s1, s2 = (F(F(F(h[0] + h[4]) + F(h[2] + h[6])) + F(F(h[1] + h[5]) + F(h[3] + h[7]))) for h in (a, b))
    return (F(s1 / s2), F(F(s1 * s1) / s2)) if s2 > 0 else (F(0), F(0))


def weigh(row: Array, importance: Array | None) -> Array:
    out = np.full(len(row), 1e-4, np.float32)
    for s in range(0, len(row), 256):
        mean = sigma2(list(row[s : s + 256]))
        if mean < F(1e-14):
            continue
        for at in range(s, s + 256, 32):
            xs = row[at : at + 32]
            if importance is None:
                out[at : at + 32] = F(0.25) * F(2 * mean) + xs * xs
                continue
            ws = importance[at : at + 32] * np.sqrt(F(2 * mean) + xs * xs)
            sums = [F(0), F(0), F(0)]
            for x, w in zip(xs, ws, strict=True):
                sums = [F(sums[0] + F(w * abs(x))), F(sums[1] + F(w * w)), F(sums[2] + F(x * x))]
            if min(sums) >= F(1e-14):
                out[at : at + 32] = ws
    return out


def sums(row: Array, weights: Array, values: Array, levels: list[np.float32]) -> tuple[np.float32, np.float32]:
    s1 = s2 = F(0)
    for e, (x, w) in enumerate(zip(row, weights, strict=True)):
        q = F(values[e] * levels[e // 32])
        s1, s2 = F(s1 + F(F(w * x) * q)), F(s2 + F(F(w * q) * q))
    return s1, s2


def row_scale(row: Array, weights: Array, values: Array, scales: list[np.float32], linear: bool) -> np.float32:
    mx = extreme(scales)
    d, best = F(mx / (F(15) if linear else IQ4[0])), F(0)
    for i in range(-9, 10):
        inverse = F((F(F(i) * F(0.2)) + F(15) if linear else F(i) + IQ4[0]) / mx)
        s1, s2 = sums(row, weights, values, [level(F(inverse * s), linear) for s in scales])
        if s2 > 0 and F(s1 * s1) > F(best * s2):
            d = F(s1 / s2)
            best = F(d * s1)
    return d


def level(x: np.float32, linear: bool) -> np.float32:
    return F(max(0, min(15, nint(x)))) if linear else IQ4[near(IQ4, x)]


def starts(row: Array, at: int, least: float, most: float) -> tuple[np.float32, np.float32]:
    """Largest magnitude of a block, and the level it is put at first."""
    top = abs(row[at : at + 32]).max()
    return top, max(F(least), F(F(F(most) * top) / abs(row).max())) if top else F(0)


def block_levels(book: Book, row: Array, ws: Array, at: int, again: bool) -> tuple[np.float32, list[int]]:
    """Scale and code vectors of a block of IQ1_KT or IQ2_KT."""
    top, start = starts(row, at, 90, 124)
    if top < F(1e-16):
        return F(0), [0] * 4
    xs, best = row[at : at + 32], None
    for shift in (0, 8) if again else (0,):
        d = F(top / F(start - F(shift)))
        plus, minus = book.match(d, xs, ws), book.match(-d, xs, ws)
        (dp, sp), (dm, sm) = fit(book, xs, ws, plus), fit(book, xs, ws, minus)
        pair = (sp, dp, plus) if sp > sm else (sm, dm, minus)
        if best is None or max(sp, sm) > best[0]:
            best = pair
    assert best is not None
    return best[1], best[2]


Rough = tuple[np.float32, list[int], list[list[int]]]
"""Scale of a row, codes of its blocks' scales, and code vectors, before the last search."""


def rough_levels(row: Array, weights: Array, book: Book, again: bool) -> Rough:
    blocks = [block_levels(book, row, weights[at : at + 32], at, again) for at in range(0, len(row), 32)]
    scales, vectors = [b[0] for b in blocks], [b[1] for b in blocks]
    if not any(scales):
        return F(0), [0] * len(blocks), [[0] * 4] * len(blocks)
    d = row_scale(row, weights, book.values[np.concatenate(vectors)].ravel(), scales, linear=False)
    return d, [near(IQ4, F(F(F(1) / d) * s)) for s in scales], vectors


def encode_levels(row: Array, importance: Array | None, book: Book, again: bool) -> Rough:
    weights = weigh(row, importance)
    d, codes, vectors = rough_levels(row, weights, book, again)
    if not d:
        return d, codes, vectors
    for b, code in enumerate(codes):
        xs, ws, step = row[32 * b : 32 * b + 32], weights[32 * b : 32 * b + 32], F(d * IQ4[code])
        found = book.match(step, xs, ws)
        errors = []
        for candidate in (vectors[b], found):
            total = F(0)
            for x, w, q in zip(xs, ws, book.values[candidate].ravel(), strict=True):
                e = F(x - F(step * q))
                total = F(total + F(F(w * e) * e))
            errors.append(total)
        vectors[b] = vectors[b] if errors[0] < errors[1] else found
    s1, s2 = sums(row, weights, book.values[np.concatenate(vectors)].ravel(), [IQ4[c] for c in codes])
    return F(s1 / s2), codes, vectors


def nibbles(codes: list[int]) -> bytes:
    return bytes(a | b << 4 for a, b in zip(codes[:4], codes[4:8], strict=True))


def iq1_kt(row: Array, importance: Array | None) -> bytes:
    d, codes, vectors = encode_levels(row, importance, IQ1, again=True)
    out = struct.pack("<f", F(d * F(1.07)))
    for s in range(0, len(codes), 8):
        v = np.array(vectors[s : s + 8])
        out += bytes(
            int(c + sum((i >> 12) << 4 + g for g, i in enumerate(row))) for c, row in zip(codes[s:], v, strict=False)
        )
        out += (v & 255).astype(np.uint8).tobytes()
        out += ((v[:4] >> 8 & 15) | (v[4:] >> 8 & 15) << 4).astype(np.uint8).tobytes()
    return out


def iq2_kt(row: Array, importance: Array | None) -> bytes:
    d, codes, vectors = encode_levels(row, importance, IQ2, again=False)
    out = struct.pack("<f", d)
    for s in range(0, len(codes), 8):
        out += nibbles(codes[s : s + 8]) + np.array(vectors[s : s + 8], "<u2").tobytes()
    return out


def rough_iq3(row: Array, weights: Array) -> Rough:
    """Of magnitudes."""
    scales, vectors = [], []
    for at in range(0, len(row), 32):
        (top, start), xs, ws = starts(row, at, 84, 123), row[at : at + 32], weights[at : at + 32]
        best, scale, vector = F(0), F(0), [0] * 4
        for i in range(-3, 4) if top >= F(1e-16) else ():
            found = IQ3.match(F(top / F(start + F(8 * i))), xs, ws)
            d, score = fit(IQ3, xs, ws, found)
            if score > best:
                best, scale, vector = score, d, found
        scales.append(scale)
        vectors.append(vector)
    if not any(scales):
        return F(0), [0] * len(scales), vectors
    d = row_scale(row, weights, IQ3.values[np.concatenate(vectors)].ravel(), scales, linear=True)
    return d, [int(level(F(F(F(1) / d) * s), linear=True)) for s in scales], vectors


def iq3_kt(signed: Array, importance: Array | None) -> bytes:
    row, weights = abs(signed), weigh(signed, importance)
    d, codes, _ = rough_iq3(row, weights)
    levels = [F(c) for c in codes]
    vectors = [
        IQ3.match(F(d * q), row[32 * b : 32 * b + 32], weights[32 * b : 32 * b + 32]) for b, q in enumerate(levels)
    ]
    s1, s2 = sums(row, weights, IQ3.values[np.concatenate(vectors)].ravel(), levels)
    out = struct.pack("<f", F(s1 / s2) if s2 > 0 else d)
    for s in range(0, len(levels), 8):
        out += nibbles([int(q) for q in levels[s : s + 8]]) + np.array(vectors[s : s + 8], "<u2").tobytes()
        minus = signed[32 * s : 32 * s + 256].reshape(8, 32) < 0
        out += np.packbits(minus, axis=0, bitorder="little").tobytes()
    return out


def iq4_block(row: Array, ws: Array, at: int) -> tuple[np.float32, int]:
    """Scale and number of the set."""
    (top, start), xs = starts(row, at, 90, 124), row[at : at + 32]
    if top < F(1e-16):
        return F(0), 0
    steps = [F(sign * F(top / F(start + F(8 * i)))) for i in range(-2, 3) for sign in (1, -1)]
    best, scale, which = F(0), F(0), 0
    for number, book in enumerate(IQ4_SETS):
        if number == 1:
            d, score = fit(book, xs, ws, book.match(scale, xs, ws))
            if score > best:
                scale, which = d, 1
        for step in steps:
            d, score = fit(book, xs, ws, book.match(step, xs, ws))
            if score > best:
                best, scale, which = score, d, number
    return scale, which


def rough_iq4(row: Array, weights: Array) -> Rough:
    """Levels instead of codes, the number of its set instead of the code vectors of each block."""
    blocks = [iq4_block(row, weights[at : at + 32], at) for at in range(0, len(row), 32)]
    d, sets = F(-extreme([b[0] for b in blocks]) / F(64)), [[which] for _, which in blocks]
    return d, [min(63, int(nint(F(F(F(1) / d) * scale)))) if d else 0 for scale, _ in blocks], sets


def iq4_kt(row: Array, importance: Array | None) -> bytes:
    weights = weigh(row, importance)
    d, wholes, sets = rough_iq4(row, weights)
    if not d:
        return struct.pack("<f", d if row.any() else 0) + bytes(len(row) // 2)
    levels, vectors, values = [F(whole) for whole in wholes], [], []
    for b, (which,) in enumerate(sets):
        found = IQ4_SETS[which].match(F(d * levels[b]), row[32 * b : 32 * b + 32], weights[32 * b : 32 * b + 32])
        vectors.append(found)
        values.append(IQ4_SETS[which].values[found].ravel())
    s1, s2 = sums(row, weights, np.concatenate(values), levels)
    out = struct.pack("<f", F(s1 / s2) if s2 > 0 else d)
    for s in range(0, len(sets), 8):
        v = np.array(vectors[s : s + 8])
        for b in range(8):
            word = sum(int(i >> 12) << 8 + 3 * g for g, i in enumerate(v[b]))
            out += struct.pack("<I", word | (wholes[s + b] + 64) << 1 | sets[s + b][0])
        out += (v & 255).astype(np.uint8).tobytes()
        high = v.ravel() >> 8 & 15
        out += (high[:32] | high[32:] << 4).astype(np.uint8).tobytes()
    return out
