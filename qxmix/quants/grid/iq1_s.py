"""IQ1_S: 8 blocks of 32 weights, a 3-bit scale each; groups of 8 weights are points of a grid of three levels.

Layout of a super-block, 50 bytes::

    0       2                              34                                     50
    +-------+------------------------------+--------------------------------------+
    | d f16 | qs: byte 4 j + g = low 8     | qh: 8 u16; bits 3 g: upper 3 bits of |
    |       | bits of group g of block j   | group g; 12-14: scale; 15: minus     |
    +-------+------------------------------+--------------------------------------+
    weight = d * (2 * scale + 1) * (grid + delta), delta = -0.125 if the last bit is set, else 0.125

Source: ``block_iq1_s`` of ggml, ``quantize_row_iq1_s_impl`` of ik_llama.cpp.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.codec import Codec, at_factor
from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.numerics import load_half, nint
from qxmix.quants.common.simd import WIDTH, any_lane, load, splat, store, where
from qxmix.quants.common.superblock import SUPER, put_half, weighing
from qxmix.quants.grid.packing import grid_decoder, points_decoder
from qxmix.quants.grid.ternary_feedback import ternary_feedback
from qxmix.quants.grid.ternary_grid import (
    DELTA,
    DOWN,
    UP,
    snap_group,
    sort_lanes,
    sorting_network,
    split_levels,
    ternary_encoder,
)
from qxmix.quants.jit import inlined, kernel, spliced

BLOCK = 32
N_BLOCKS = SUPER // BLOCK
NBYTES = 50
ZERO = np.float32(1e-12)
"""A block whose largest magnitude is below this is zero (GROUP_MAX_EPS_IQ1_S in ggml)."""
_NETWORK = sorting_network(BLOCK)
_BELOW_ALL = np.float32(-1.1754943508222875e-38)

_0 = np.float32(0.0)
_1 = np.float32(1.0)


@inlined
def _end(sx, sw, g, of, to, level):
    """The terms of sorted weights ``of .. to`` at level 0 or 2, of both sums, for both shifts."""
    x, w = load(sx, to * LANES + g) - load(sx, of * LANES + g), load(sw, to * LANES + g) - load(sw, of * LANES + g)
    return x * UP[level], (w * UP[level]) * UP[level], x * DOWN[level], (w * DOWN[level]) * DOWN[level]


@kernel
def _best_split(sx, sw, scale, split, shift):
    """The pair of boundaries and the shift that explain most, from the running sums ``sx``, ``sw`` (33, LANES)."""
    for g in range(0, LANES, WIDTH):
        best, kept, which, up = splat(_BELOW_ALL), splat(_0), splat(_0), splat(_1)
        zero = splat(_0)
        for i in range(BLOCK + 1):
            ax, aw, bx, bw = _end(sx, sw, g, 0, i, 0)
            x1, w1 = load(sx, i * LANES + g), load(sw, i * LANES + g)
            for j in range(i, BLOCK + 1):
                x, w = load(sx, j * LANES + g) - x1, load(sw, j * LANES + g) - w1
                cx, cw, dx, dw = _end(sx, sw, g, j, BLOCK, 2)
                inner = (w * DELTA) * DELTA
                qx, q2 = (ax + x * UP[1]) + cx, (aw + inner) + cw
                better = (q2 > zero) & (qx * qx > best * q2)
                here = np.float32(64 * i + j)
                if any_lane(better):
                    kept = where(better, qx / q2, kept)
                    best = where(better, kept * qx, best)
                    which, up = where(better, splat(here), which), where(better, splat(_1), up)
                qx, q2 = (bx + x * DOWN[1]) + dx, (bw + inner) + dw
                better = (q2 > zero) & (qx * qx > best * q2)
                if any_lane(better):
                    kept = where(better, qx / q2, kept)
                    best = where(better, kept * qx, best)
                    which, up = where(better, splat(here), which), where(better, zero, up)
        store(scale, g, kept)
        store(split, g, which)
        store(shift, g, up)


@kernel
def search_block(x, w, scale, shift, point, index, offsets, neighbours, distance):
    """Scale, shift (1 up, 0 down) and grid points (4, LANES) of block ``x`` (32, LANES) of each super-block."""
    v, u, at = x.copy(), w.copy(), np.empty((BLOCK, LANES), np.float32)
    sx, sw = np.empty((BLOCK + 1, LANES), np.float32), np.empty((BLOCK + 1, LANES), np.float32)
    level, split = np.empty((BLOCK, LANES), np.uint8), np.empty(LANES, np.float32)
    off, largest = np.zeros(LANES, np.bool_), np.zeros(LANES, np.float32)
    for e in range(BLOCK):
        for k in range(LANES):
            largest[k] = max(largest[k], abs(x[e, k]))
    sort_lanes(_NETWORK, v, u, at)
    for k in range(LANES):
        sx[0, k] = _0
        sw[0, k] = _0
    for e in range(BLOCK):
        for k in range(LANES):
            sx[e + 1, k] = sx[e, k] + u[e, k] * v[e, k]
            sw[e + 1, k] = sw[e, k] + u[e, k]
    _best_split(sx, sw, scale, split, shift)
    split_levels(split, scale, at, level)
    for k in range(LANES):
        shift[k] = _1 - shift[k] if scale[k] < _0 else shift[k]
        scale[k] = abs(scale[k])
        for n in range(4):
            if largest[k] < ZERO:
                point[n, k] = 0
                continue
            xn, wn, part = x[8 * n : 8 * n + 8], w[8 * n : 8 * n + 8], level[8 * n : 8 * n + 8]
            values = UP if shift[k] == _1 else DOWN
            found, on = snap_group(xn, wn, part, k, scale[k], values, index, offsets, neighbours, distance)
            point[n, k] = found
            off[k] |= not on
    t1, t2 = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
    for e in range(BLOCK):
        for k in range(LANES):
            q = np.float32(np.int32(level[e, k]) - 1) + (DELTA if shift[k] == _1 else -DELTA)
            t1[k] += (w[e, k] * q) * x[e, k]
            t2[k] += (w[e, k] * q) * q
    for k in range(LANES):
        scale[k] = t1[k] / t2[k] if off[k] & (t1[k] > _0) & (t2[k] > _0) else scale[k]
        scale[k] = scale[k] if largest[k] >= ZERO else _0
        shift[k] = shift[k] if largest[k] >= ZERO else _1


@spliced
def _pack(scales, shifts, points, factor, packed):
    """Fields of the super-blocks in lanes, with the scales rounded to odd multiples of the largest over 15.

    What is stored is ``factor`` times as large.
    """
    d, mx = np.empty(LANES, np.float32), np.zeros(LANES, np.float32)
    for j in range(N_BLOCKS):
        for k in range(LANES):
            mx[k] = max(mx[k], scales[j, k])
    for k in range(LANES):
        d[k] = mx[k] / np.float32(15.0)
        mx[k] = d[k] * factor
    put_half(packed, 0, mx)
    for j in range(N_BLOCKS):
        for k in range(LANES):
            ratio = (_1 / d[k]) * scales[j, k] if d[k] != _0 else _0
            scale = np.int32(min(max(nint(np.float32(0.5) * (ratio - _1)), _0), np.float32(7.0)))
            scale |= 8 if (shifts[j, k] != _1) & (d[k] != _0) else 0
            high = scale << 12
            for n in range(4):
                packed[2 + 4 * j + n, k] = np.uint8(points[j, n, k] & 255)
                high |= (points[j, n, k] >> 8) << (3 * n)
            packed[34 + 2 * j, k] = np.uint8(high & 255)
            packed[35 + 2 * j, k] = np.uint8(high >> 8)


@spliced
def _fill(x, w, _weighted, given, packed):
    index, offsets, neighbours, distance, _, factor = given
    scales, shifts = np.empty((N_BLOCKS, LANES), np.float32), np.empty((N_BLOCKS, LANES), np.float32)
    points = np.empty((N_BLOCKS, 4, LANES), np.int32)
    for j in range(N_BLOCKS):
        xj, wj = x[32 * j : 32 * j + 32], w[32 * j : 32 * j + 32]
        search_block(xj, wj, scales[j], shifts[j], points[j], index, offsets, neighbours, distance)
    _pack(scales, shifts, points, factor, packed)


@inlined
def _put(data, at, values, flat, to):
    d = load_half(data, at)
    for j in range(N_BLOCKS):
        high = np.int32(data[at + 34 + 2 * j]) | np.int32(data[at + 35 + 2 * j]) << 8
        step = d * np.float32(2 * (high >> 12 & 7) + 1)
        delta = -DELTA if high >> 15 else DELTA
        for n in range(4):
            point = np.int32(data[at + 2 + 4 * j + n]) | (high >> 3 * n & 7) << 8
            start = to + BLOCK * j + 8 * n
            for i in range(8):
                flat[start + i] = step * (values[point, i] + delta)


@inlined
def _put_fed(row, at, k, numbers, points, minus):
    for j in range(N_BLOCKS):
        code = np.int32(numbers[j, k])
        high = (code >> 1) << 12 | minus[4 * j, k] << 15
        for n in range(4):
            point = points[4 * j + n, k]
            row[at + 2 + 4 * j + n] = np.uint8(point & 255)
            high |= (point >> 8) << (3 * n)
        row[at + 34 + 2 * j] = np.uint8(high & 255)
        row[at + 35 + 2 * j] = np.uint8(high >> 8)


_ENCODE = ternary_encoder(NBYTES, BLOCK, weighing(2.0), _fill)
_ENCODE_OWN = at_factor(_ENCODE, 1.125)
_decode = grid_decoder("IQ1_S", points_decoder(NBYTES, _put))
_FED = ternary_feedback(
    block=BLOCK, each=False, n_tried=2, encode=_ENCODE_OWN, nbytes=NBYTES, take=load_half, put=_put_fed
)
CODECS = {"IQ1_S": Codec(decode=_decode, encode=_ENCODE_OWN, feedback=_FED, scaled=_ENCODE, version=2)}
