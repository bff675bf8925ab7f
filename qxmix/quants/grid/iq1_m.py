"""IQ1_M: 16 blocks of 16 weights, a 3-bit scale each; groups of 8 weights are points of the grid of IQ1_S.

Layout of a super-block, 56 bytes::

    0                       32                        48                                         56
    +-----------------------+-------------------------+------------------------------------------+
    | qs: byte 2 j + g =    | qh: nibble g of byte j: | scales: 4 u16; bits 3 i of word v: scale |
    | low 8 bits of group g | upper 3 bits of group g | of block 4 v + i; the upper nibbles of   |
    | of block j            | and its minus           | the words, word 0 first: d f16           |
    +-----------------------+-------------------------+------------------------------------------+
    weight = d * (2 * scale + 1) * (grid + delta), delta = -0.125 where the minus is set, else 0.125

The reference leaves the minus bits of a zero block to what the block before had, or to what memory held; here they are
never set.  Source: ``block_iq1_m`` of ggml, ``quantize_row_iq1_m_impl`` of ik_llama.cpp (PR 327).
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.codec import Codec, at_factor
from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.numerics import half_bits, half_value, nint
from qxmix.quants.common.superblock import SUPER
from qxmix.quants.grid.iq1_m_split import BLOCK, HALF, best_split, refit
from qxmix.quants.grid.packing import grid_decoder, points_decoder
from qxmix.quants.grid.ternary_feedback import ternary_feedback
from qxmix.quants.grid.ternary_grid import DELTA, DOWN, UP, snap_group, split_levels, ternary_encoder
from qxmix.quants.jit import inlined, kernel, spliced

N_BLOCKS = SUPER // BLOCK
NBYTES = 56
ZERO = np.float32(1e-7)
"""A block whose largest magnitude is below this is zero (GROUP_MAX_EPS_IQ1_M in ggml)."""

_0 = np.float32(0.0)
_1 = np.float32(1.0)


@spliced
def _weigh(x, w, weighted):
    """``w *= sqrt(1.5 * mean square of the 32 weights + x * x)``, or ``w = x * x`` without an importance."""
    total = np.empty(LANES, np.float32)
    for first in range(0, SUPER, 32):
        for k in range(LANES):
            total[k] = _0
        for e in range(first, first + 32):
            for k in range(LANES):
                total[k] += x[e, k] * x[e, k]
        for k in range(LANES):
            total[k] = np.float32(1.5) * total[k] / np.float32(32.0)
        for e in range(first, first + 32):
            for k in range(LANES):
                square = x[e, k] * x[e, k]
                w[e, k] = w[e, k] * np.sqrt(total[k] + square) if weighted else square


@spliced
def _telling_weights(x, w, own, live):
    """Copy weights to ``own``, or ``x * x`` where they say nothing; ``live`` where the block is not all but zero."""
    largest, seen = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
    for e in range(BLOCK):
        for k in range(LANES):
            largest[k] = max(largest[k], abs(x[e, k]))
            seen[k] += w[e, k] * abs(x[e, k]) if e > 0 else _0  # the reference leaves out the first
    for k in range(LANES):
        live[k] = largest[k] >= ZERO
    for e in range(BLOCK):
        for k in range(LANES):
            own[e, k] = x[e, k] * x[e, k] if seen[k] == _0 else w[e, k]


@kernel
def search_halves(x, own, live, zero, scale, shift, level, point, index, offsets, neighbours, values, distance):
    """Scale, shift, levels (16, LANES) and grid points (2, LANES) of block ``x`` (16, LANES) with weights ``own``.

    Shifts are numbered as the reference does: bit 1 set where the first half is shifted down, bit 0 the second.  A
    block that is not ``live`` gets scale 0, no shift, and the grid point ``zero``.
    """
    split, at = np.empty(LANES, np.float32), np.empty((BLOCK, LANES), np.float32)
    off = np.zeros(LANES, np.bool_)
    best_split(x, own, at, scale, split, shift)
    split_levels(split, scale, at, level)
    for k in range(LANES):
        shift[k] = np.float32(3.0) - shift[k] if scale[k] < _0 else shift[k]
        scale[k] = abs(scale[k])
        for n in range(2):
            part = slice(8 * n, 8 * n + 8)
            minus = int(shift[k]) & (2 - n)
            if live[k]:
                found, on = snap_group(
                    x[part], own[part], level[part], k, scale[k], DOWN if minus else UP, index, offsets, neighbours,
                    distance,
                )  # fmt: skip
                point[n, k] = found
                off[k] |= not on
            else:
                point[n, k] = zero
                for i in range(8):
                    level[8 * n + i, k] = np.uint8(np.int32(values[zero, i]) + 1)
    refit(x, own, level, off, scale, shift)
    for k in range(LANES):
        scale[k] = scale[k] if live[k] else _0
        shift[k] = shift[k] if live[k] else _0


@spliced
def _code_scales(x, w, scales, shifts, level, factor, mx, codes, d):
    """3-bit codes of the scales, and the d that fits the super-block best with them, times ``factor``."""
    t1, t2 = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
    for k in range(LANES):
        mx[k] = _0
    for j in range(N_BLOCKS):
        for k in range(LANES):
            mx[k] = max(mx[k], scales[j, k])
    for k in range(LANES):
        d[k] = mx[k] / np.float32(15.0)
    for j in range(N_BLOCKS):
        for k in range(LANES):
            ratio = (_1 / d[k]) * scales[j, k] if d[k] != _0 else _0
            codes[j, k] = min(max(nint(np.float32(0.5) * (ratio - _1)), _0), np.float32(7.0))
        for i in range(BLOCK):
            e = BLOCK * j + i
            for k in range(LANES):
                down = np.int32(shifts[j, k]) & (2 if i < HALF else 1)
                q = np.float32(np.int32(level[e, k]) - 1) + (-DELTA if down else DELTA)
                q *= np.float32(2.0) * codes[j, k] + _1
                t1[k] += (w[e, k] * q) * x[e, k]
                t2[k] += (w[e, k] * q) * q
    for k in range(LANES):
        d[k] = t1[k] / t2[k] if t2[k] > _0 else d[k]
        d[k] = d[k] * factor if mx[k] > _0 else _0


@spliced
def _pack(points, shifts, codes, mx, d, packed):
    for j in range(N_BLOCKS):
        for k in range(LANES):
            shift = np.int32(shifts[j, k]) if mx[k] > _0 else np.int32(0)
            minus = (8 if shift & 2 else 0) | (128 if shift & 1 else 0)
            packed[2 * j, k] = np.uint8(points[j, 0, k] & 255)
            packed[2 * j + 1, k] = np.uint8(points[j, 1, k] & 255)
            packed[32 + j, k] = np.uint8(points[j, 0, k] >> 8 | (points[j, 1, k] >> 8) << 4 | minus)
    for v in range(4):
        for k in range(LANES):
            word = (np.int32(half_bits(d[k])) >> (4 * v) & 15) << 12
            for i in range(4):
                word |= np.int32(codes[4 * v + i, k]) << (3 * i)
            packed[48 + 2 * v, k] = np.uint8(word & 255)
            packed[49 + 2 * v, k] = np.uint8(word >> 8)


@spliced
def _fill(x, w, _weighted, given, packed):
    index, offsets, neighbours, distance, values, factor = given
    blocks = np.empty((3, N_BLOCKS, LANES), np.float32)
    scales, shifts, codes = blocks[0], blocks[1], blocks[2]
    level, points = np.empty((SUPER, LANES), np.uint8), np.empty((N_BLOCKS, 2, LANES), np.int32)
    own, live = np.empty((BLOCK, LANES), np.float32), np.empty(LANES, np.bool_)
    d, mx = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for j in range(N_BLOCKS):
        part = slice(BLOCK * j, BLOCK * (j + 1))
        _telling_weights(x[part], w[part], own, live)
        search_halves(
            x[part], own, live, 0, scales[j], shifts[j], level[part], points[j], index, offsets, neighbours, values,
            distance,
        )  # fmt: skip
    _code_scales(x, w, scales, shifts, level, factor, mx, codes, d)
    _pack(points, shifts, codes, mx, d, packed)


@inlined
def _take(data, at):
    """The scale of the super-block at ``data[at:]``."""
    bits = np.int32(0)
    for v in range(4):
        bits |= np.int32(data[at + 49 + 2 * v] >> 4) << (4 * v)
    return half_value(bits)


@inlined
def _put(data, at, values, flat, to):
    d = _take(data, at)
    for j in range(N_BLOCKS):
        word = np.int32(data[at + 48 + 2 * (j // 4)]) | np.int32(data[at + 49 + 2 * (j // 4)]) << 8
        step = d * np.float32(2 * (word >> 3 * (j % 4) & 7) + 1)
        for n in range(2):
            nibble = np.int32(data[at + 32 + j]) >> 4 * n & 15
            point = np.int32(data[at + 2 * j + n]) | (nibble & 7) << 8
            delta = -DELTA if nibble & 8 else DELTA
            start = to + BLOCK * j + 8 * n
            for i in range(8):
                flat[start + i] = step * (values[point, i] + delta)


@inlined
def _put_fed(row, at, k, codes, points, minus):
    for g in range(0, 2 * N_BLOCKS, 2):
        high = np.int32(0)
        for n in range(2):
            point = points[g + n, k]
            row[at + g + n] = np.uint8(point & 255)
            high |= (point >> 8 | minus[g + n, k] << 3) << (4 * n)
        row[at + 32 + g // 2] = np.uint8(high)
    for v in range(4):
        word = np.int32(row[at + 49 + 2 * v] & np.uint8(240)) << 8
        for i in range(4):
            word |= np.int32(codes[4 * v + i, k]) << (3 * i)
        row[at + 48 + 2 * v] = np.uint8(word & 255)
        row[at + 49 + 2 * v] = np.uint8(word >> 8)


_ENCODE = ternary_encoder(NBYTES, 0, _weigh, _fill)
_decode = grid_decoder("IQ1_S", points_decoder(NBYTES, _put))
_ENCODE_OWN = at_factor(_ENCODE, 1.085)
_FED = ternary_feedback(block=BLOCK, each=True, n_tried=2, encode=_ENCODE_OWN, nbytes=NBYTES, take=_take, put=_put_fed)
CODECS = {"IQ1_M": Codec(decode=_decode, encode=_ENCODE_OWN, feedback=_FED, scaled=_ENCODE, version=2)}
