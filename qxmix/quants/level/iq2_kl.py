"""IQ2_KL: a scale per row; 8 blocks of 32 weights, a 6-bit scale each; pairs of weights from a grid of 32 points.

Layout of a row: the row's scale d as f16, then super-blocks of 86 bytes::

    0                    2                    6                   70                  86
    +--------------------+--------------------+-------------------+-------------------+
    | scales_h u16:      | scales_l: byte     | qs: byte 16 i + t | qh: bit j of byte |
    | upper 2 bits of    | j % 4, nibble      | = low 4 bits of   | t = 5th bit of    |
    | scale j from bit   | j / 4: low 4 bits  | pair t of blocks  | pair t of block j |
    | 2 j                | of scale j         | 2 i (low), 2 i+1  |                   |
    +--------------------+--------------------+-------------------+-------------------+
    weights 2 t, 2 t + 1 of a block = (d * (scale - 32)) * POINTS[pair t]

Source: ``block_iq2_kl``, ``quantize_row_iq2_kl_impl`` of ik_llama.cpp.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.codec import Codec, at_factor
from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.levels import IQ3_LEVELS
from qxmix.quants.common.numerics import nint
from qxmix.quants.common.row_encoder import row_encoder, units_by
from qxmix.quants.common.row_scale import row_decoder
from qxmix.quants.common.simd import WIDTH, load, splat, store, store_bytes, where
from qxmix.quants.common.superblock import SUPER
from qxmix.quants.common.weigh_ik import weigh_cleaned
from qxmix.quants.jit import inlined, kernel, spliced
from qxmix.quants.level.pair_grid import POINTS, distance, index_of, nearest_point

BLOCK = 32
N_BLOCKS = SUPER // BLOCK
NBYTES, NMAX = 86, 32
REACH = 5
"""Trial scales take the largest to the lowest level less and plus up to this much."""
VARIANCE = np.float32(2.25)
"""Of the variance of a super-block, what counts in a weight."""
ZERO = np.float32(1e-16)
"""A block whose largest magnitude is below this gets scale 0."""
_HUGE = np.finfo(np.float32).max

_0 = np.float32(0.0)
_1 = np.float32(1.0)


@spliced
def _weigh(x, w, n_lanes, weighted):
    """Weights of super-blocks, from importances if there are any; else that of a weight is its magnitude."""
    if weighted:
        weigh_cleaned(x, w, BLOCK, VARIANCE, n_lanes)
    else:
        for e in range(SUPER):
            for g in range(0, n_lanes, WIDTH):
                store(w, e * LANES + g, abs(load(x, e * LANES + g)))


@kernel
def _trial(x, w, g, inverse):
    """Both sums of the points nearest to ``inverse * x``, and of those nearest to ``-inverse * x``."""
    p1 = p2 = m1 = m2 = splat(_0)
    for e in range(0, BLOCK, 2):
        v1, v2 = load(x, e * LANES + g), load(x, e * LANES + LANES + g)
        w1, w2 = load(w, e * LANES + g), load(w, e * LANES + LANES + g)
        y1, y2 = inverse * v1, inverse * v2
        q1, q2 = nearest_point(y1, y2, w1, w2)
        p1 = p1 + ((w1 * q1) * v1 + (w2 * q2) * v2)
        p2 = p2 + ((w1 * q1) * q1 + (w2 * q2) * q2)
        q1, q2 = nearest_point(-y1, -y2, w1, w2)
        m1 = m1 + ((w1 * q1) * v1 + (w2 * q2) * v2)
        m2 = m2 + ((w1 * q1) * q1 + (w2 * q2) * q2)
    return p1, p2, m1, m2


@kernel
def _search(x, w, found):
    """Scale (1, LANES) of block ``x`` with weights ``w``, both (32, LANES), of each lane."""
    lowest = IQ3_LEVELS[0]
    for g in range(0, LANES, WIDTH):
        amax = mx = size = best = splat(_0)
        for e in range(BLOCK):
            value = load(x, e * LANES + g)
            larger = abs(value) > amax
            amax, mx = where(larger, abs(value), amax), where(larger, value, mx)
        for step in range(-REACH - 1, REACH + 1):
            # The first trial counts whatever it explains.
            start = splat(np.float32(step)) < np.float32(-REACH)
            inverse = where(start, _1 / (-mx / lowest), (np.float32(step) + lowest) / mx)
            p1, p2, m1, m2 = _trial(x, w, g, inverse)
            better = ((p2 > _0) & (p1 * p1 > best * p2)) | start
            size = where(better, p1 / p2, size)
            best = where(better, size * p1, best)
            better = (m2 > _0) & (m1 * m1 > best * m2)
            size = where(better, m1 / m2, size)
            best = where(better, size * m1, best)
        store(found, g, where(amax < ZERO, splat(_0), size))


@inlined
def _error(x, w, g, step, inverse):
    """Weighted squared error of a block at a scale."""
    total = splat(_0)
    for e in range(0, BLOCK, 2):
        v1, v2 = load(x, e * LANES + g), load(x, e * LANES + LANES + g)
        w1, w2 = load(w, e * LANES + g), load(w, e * LANES + LANES + g)
        q1, q2 = nearest_point(inverse * v1, inverse * v2, w1, w2)
        total = total + distance(v1, v2, w1, w2, step * q1, step * q2)
    return total


@kernel
def _choose_levels(x, w, n_lanes, d, level):
    """Replace the level of each lane's scale by its neighbour if that fits better; the first of equals."""
    low, high = np.float32(-NMAX), np.float32(NMAX - 1)
    for g in range(0, n_lanes, WIDTH):
        middle = kept = load(level, g)
        best = splat(_HUGE)
        for i in range(-1, 2):
            trial = middle + np.float32(i)
            step = load(d, g) * trial
            inverse = where(step != _0, _1 / step, splat(_0))
            error = _error(x, w, g, step, inverse)
            better = ((trial >= low) & (trial <= high)) & (error < best)
            best, kept = where(better, error, best), where(better, trial, kept)
        store(level, g, kept)


@kernel
def _code_block(x, w, n_lanes, d, level, codes, s1, s2):
    """Points (16, LANES) of a block, 0 where its level is 0, and their terms added to the sums for the row."""
    for g in range(0, n_lanes, WIDTH):
        size = load(level, g)
        live = size != _0
        inverse = where(live, _1 / (load(d, g) * size), splat(_0))
        t1, t2 = load(s1, g), load(s2, g)
        for e in range(0, BLOCK, 2):
            v1, v2 = load(x, e * LANES + g), load(x, e * LANES + LANES + g)
            w1, w2 = load(w, e * LANES + g), load(w, e * LANES + LANES + g)
            q1, q2 = nearest_point(inverse * v1, inverse * v2, w1, w2)
            store_bytes(codes, e // 2 * LANES + g, where(live, index_of(q1, q2), splat(_0)))
            q1, q2 = size * q1, size * q2
            t1 = t1 + ((w1 * q1) * v1 + (w2 * q2) * v2)
            t2 = t2 + ((w1 * q1) * q1 + (w2 * q2) * q2)
        store(s1, g, t1)
        store(s2, g, t2)


@inlined
def _pack_block(j, level, codes, packed):
    """Fields of block j; j ascends, and the fields' first writers clear them."""
    for k in range(LANES):
        six = np.uint8(np.int32(level[k]) + NMAX)
        low, high = np.uint8(six & np.uint8(15)), np.uint8(six >> np.uint8(4))
        at = 2 + j % 4
        packed[j // 4, k] = high if j % 4 == 0 else packed[j // 4, k] | np.uint8(high << np.uint8(2 * (j % 4)))
        packed[at, k] = low if j < 4 else packed[at, k] | np.uint8(low << np.uint8(4))  # noqa: PLR2004
    for t in range(BLOCK // 2):
        for k in range(LANES):
            low, high = np.uint8(codes[t, k] & np.uint8(15)), np.uint8(codes[t, k] >> np.uint8(4))
            at = 6 + 16 * (j // 2) + t
            packed[at, k] = low if j % 2 == 0 else packed[at, k] | np.uint8(low << np.uint8(4))
            packed[70 + t, k] = high if j == 0 else packed[70 + t, k] | np.uint8(high << np.uint8(j))


@spliced
def _settle(x, w, n_lanes, d, found, s1, s2, codes, packed):
    """Levels, points and fields of a super-block a lane, for scales that are multiples of ``d``."""
    for j in range(N_BLOCKS):
        xj, wj, level = x[32 * j : 32 * j + 32], w[32 * j : 32 * j + 32], found[0, j]
        for k in range(LANES):
            inverse = _1 / d[k] if d[k] != _0 else _0
            level[k] = min(max(nint(inverse * level[k]), np.float32(-NMAX)), np.float32(NMAX - 1))
        _choose_levels(xj, wj, n_lanes, d, level)
        _code_block(xj, wj, n_lanes, d, level, codes, s1, s2)
        _pack_block(j, level, codes, packed)


@inlined
def _unit(largest, extreme):
    """The scale of largest magnitude gets the lowest level."""
    return -extreme / np.float32(NMAX) if largest > _0 else _0


@inlined
def _last(s1, s2, d, factor):
    return factor * (s1 / s2 if s2 > _0 else d)


@inlined
def _scale(data, at, j):
    low = (np.int32(data[at + 2 + j % 4]) >> (4 * (j // 4))) & 15
    high = (np.int32(data[at + j // 4]) >> (2 * (j % 4))) & 3
    return np.float32((low | high << 4) - NMAX)


@inlined
def _put(data, at, d, row, start):
    for i in range(N_BLOCKS // 2):
        # Blocks 2 i and 2 i + 1 share their bytes.
        even, odd = d * _scale(data, at, 2 * i), d * _scale(data, at, 2 * i + 1)
        qs, qh, to = at + 6 + 16 * i, at + 70, start + 2 * BLOCK * i
        for t in range(BLOCK // 2):
            low, high = np.int32(data[qs + t]), np.int32(data[qh + t]) >> (2 * i)
            first, second = low & 15 | (high & 1) << 4, low >> 4 | (high >> 1 & 1) << 4
            row[to + 2 * t], row[to + 2 * t + 1] = even * POINTS[first, 0], even * POINTS[first, 1]
            row[to + BLOCK + 2 * t], row[to + BLOCK + 2 * t + 1] = odd * POINTS[second, 0], odd * POINTS[second, 1]


_ENCODE = row_encoder(
    block=BLOCK, nbytes=NBYTES, half=True, n_found=1, weigh=_weigh, search=_search, units=units_by(_unit),
    settle=_settle, last=_last,
)  # fmt: skip
CODECS = {
    "IQ2_KL": Codec(decode=row_decoder(NBYTES, _put, half=True), encode=at_factor(_ENCODE, 1.025), scaled=_ENCODE)
}
