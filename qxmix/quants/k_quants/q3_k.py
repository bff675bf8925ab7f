"""Q3_K: 16 blocks of 16 weights, a 6-bit scale each, 3-bit levels -4..3.

Layout of a super-block, 110 bytes::

    0                     32                  96             108     110
    +---------------------+-------------------+--------------+-------+
    | hmask: bit i of     | qs: low 2 bits,   | scales: 6    | d f16 |
    | byte t = bit 2 of   | field T128        | bits each    |       |
    | weight 32 i + t     |                   |              |       |
    +---------------------+-------------------+--------------+-------+
    scale of block j: low 4 bits in byte j % 8 (nibble j / 8), high 2 in byte 8 + j % 4 at bit 2 * (j / 4); minus 32
    weight = (d * scale) * (code - 4)

Source: ``block_q3_K`` of ggml; ``quantize_row_q3_K_impl`` of ik_llama.cpp with an importance, ``..._ref`` without.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.codec import SEARCHES, Codec
from qxmix.quants.common.lanes import LANES, weigh_by_square
from qxmix.quants.common.numerics import half_round, load_half, nint
from qxmix.quants.common.search import EXHAUSTIVE, ZERO_BLOCK, block_max, linear_search, search_linear
from qxmix.quants.common.superblock import (
    SUPER,
    largest_scale,
    pack_bit,
    pack_two_bits,
    put_half,
    sum_over,
    weigh_super,
)
from qxmix.quants.jit import kernel, spliced
from qxmix.quants.k_quants.linear_k import BLOCK, N_BLOCKS, linear_encoder, round_linear

NBYTES = 110
NMAX = 4
SCALE_NMAX = 32

_0 = np.float32(0.0)
_1 = np.float32(1.0)


@kernel
def _search_without_importance(x, scale, q):
    """Scale and levels of each lane for weights ``x * x``: ``make_q3_quants`` of ggml.

    One trial, then up to five sweeps that give each level in turn the value that fits the others best.
    """
    scratch = np.empty((3, LANES), np.float32)
    inverse, s1, s2 = scratch[0], scratch[1], scratch[2]
    low, high = np.float32(-NMAX), np.float32(NMAX - 1)
    block_max(x, scale, inverse)
    for k in range(LANES):
        inverse[k] = low / inverse[k]
        s1[k] = _0
        s2[k] = _0
    for e in range(BLOCK):
        for k in range(LANES):
            w = x[e, k] * x[e, k]
            level = min(max(nint(inverse[k] * x[e, k]), low), high)
            q[e, k] = level
            s1[k] += (w * x[e, k]) * level
            s2[k] += (w * level) * level
    for _ in range(5):
        changed = False
        for e in range(BLOCK):
            for k in range(LANES):
                level, w = q[e, k], x[e, k] * x[e, k]
                wx = w * x[e, k]
                a1 = s1[k] - wx * level
                a2 = s2[k] - (w * level) * level
                new = min(max(nint((x[e, k] * a2) / a1), low), high)
                b1 = a1 + wx * new
                b2 = a2 + (w * new) * new
                better = (a1 > _0) & (new != level) & (b2 > _0) & ((b1 * b1) * s2[k] > (s1[k] * s1[k]) * b2)
                q[e, k] = new if better else level
                s1[k] = b1 if better else s1[k]
                s2[k] = b2 if better else s2[k]
                changed |= better
        if not changed:
            break
    for k in range(LANES):
        zero = scale[k] < ZERO_BLOCK
        scale[k] = _0 if zero else s1[k] / s2[k]
        for e in range(BLOCK):
            q[e, k] = low if zero else q[e, k]


@spliced
def _round_scales(scales, levels, d):
    """Levels ``[-32, 31]`` of the block scales, the one of largest magnitude at -32, and the scale of the scales."""
    amax, mx = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    low, high = np.float32(-SCALE_NMAX), np.float32(SCALE_NMAX - 1)
    largest_scale(scales, amax, mx)
    for k in range(LANES):
        amax[k] = low / mx[k]
        d[k] = _1 / amax[k] if mx[k] != _0 else _0
    for j in range(N_BLOCKS):
        for k in range(LANES):
            level = min(max(nint(amax[k] * scales[j, k]), low), high)
            levels[j, k] = level if mx[k] != _0 else low


@spliced
def _pack_scales(levels, packed, at):
    for i in range(12):
        for k in range(LANES):
            packed[at + i, k] = 0
    for j in range(N_BLOCKS):
        for k in range(LANES):
            bits = np.uint8(np.int32(levels[j, k]) + SCALE_NMAX)
            packed[at + j % 8, k] |= np.uint8((bits & np.uint8(15)) << (4 * (j // 8)))
            packed[at + 8 + j % 4, k] |= np.uint8((bits >> np.uint8(4)) << (2 * (j // 4)))


@spliced
def _weigh(x, w, weighted):
    """Without an importance the search weighs each block itself."""
    if weighted:
        weigh_super(x, w, np.float32(2.0))


@spliced
def _search(x, w, weighted, method, scale, q):
    if weighted or method == EXHAUSTIVE:
        if not weighted:
            weigh_by_square(x, w)
        search_linear(x, w, np.int64(NMAX), method, scale, q)
    else:
        _search_without_importance(x, scale, q)


@spliced
def _finish(x, w, weighted, method, scales, code, packed):
    levels, d = np.empty((N_BLOCKS, LANES), np.float32), np.empty(LANES, np.float32)
    if weighted:
        sum_w = np.empty((N_BLOCKS, LANES), np.float32)
        for j in range(N_BLOCKS):
            sum_over(w[BLOCK * j : BLOCK * (j + 1)], sum_w[j])
        search_linear(scales, sum_w, np.int64(SCALE_NMAX), method, d, levels)
    else:
        _round_scales(scales, levels, d)
    _pack_scales(levels, packed, 96)
    put_half(packed, 108, d)
    for k in range(LANES):
        d[k] = half_round(d[k])
    round_linear(x, d, levels, NMAX, code)
    pack_bit(code, np.uint8(2), packed, 0)
    pack_two_bits(code, np.uint8(0), packed, 32)


@kernel
def _decode(packed, rows):
    data, flat = packed.ravel(), rows.ravel()
    for block in range(rows.size // SUPER):
        at = block * NBYTES
        d = load_half(data, at + 108)
        for j in range(N_BLOCKS):
            low = (np.int32(data[at + 96 + j % 8]) >> (4 * (j // 8))) & 15
            high = (np.int32(data[at + 104 + j % 4]) >> (2 * (j // 4))) & 3
            step = d * np.float32((low | high << 4) - SCALE_NMAX)
            to, t = block * SUPER + BLOCK * j, BLOCK * (j % 2)
            qs, two, bit = at + 32 + 32 * (j // 8) + t, 2 * (j % 8 // 2), j // 2
            for i in range(BLOCK):
                code = (np.int32(data[qs + i]) >> two) & 3 | ((np.int32(data[at + t + i]) >> bit) & 1) << 2
                flat[to + i] = step * np.float32(code - NMAX)


_encode = linear_encoder(NMAX, NBYTES, _weigh, _search, _finish)

CODECS = {"Q3_K": Codec(decode=_decode, encode=_encode, searches=SEARCHES, search_block=linear_search(NMAX))}
