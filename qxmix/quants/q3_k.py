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
from qxmix.quants.jit import inlined, kernel
from qxmix.quants.lanes import LANES, load_blocks, load_importance, usable_importance
from qxmix.quants.numerics import half_round, load_half, nint
from qxmix.quants.search import EXHAUSTIVE, ZERO_BLOCK, block_max, search_linear
from qxmix.quants.superblock import (
    SUPER,
    largest_scale,
    pack_bit,
    pack_two_bits,
    put_half,
    round_block,
    store_super,
    sum_over,
    weigh_super,
)

BLOCK = 16
N_BLOCKS = SUPER // BLOCK
NBYTES = 110
NMAX = 4
SCALE_NMAX = 32

_0 = np.float32(0.0)
_1 = np.float32(1.0)


@kernel
def _search_without_importance(x, scale, q, w, wx, scratch):
    """Scale and levels of each lane for weights ``x * x``: ``make_q3_quants`` of ggml.

    One trial, then up to five sweeps that give each level in turn the value that fits the others best.
    """
    amax, mx, inverse, s1, s2 = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4]
    low, high = np.float32(-NMAX), np.float32(NMAX - 1)
    block_max(x, amax, mx)
    for k in range(LANES):
        inverse[k] = low / mx[k]
        s1[k] = _0
        s2[k] = _0
    for e in range(BLOCK):
        for k in range(LANES):
            w[e, k] = x[e, k] * x[e, k]
            wx[e, k] = w[e, k] * x[e, k]
            level = min(max(nint(inverse[k] * x[e, k]), low), high)
            q[e, k] = level
            s1[k] += wx[e, k] * level
            s2[k] += (w[e, k] * level) * level
    for _ in range(5):
        changed = False
        for e in range(BLOCK):
            for k in range(LANES):
                level = q[e, k]
                a1 = s1[k] - wx[e, k] * level
                a2 = s2[k] - (w[e, k] * level) * level
                new = min(max(nint((x[e, k] * a2) / a1), low), high)
                b1 = a1 + wx[e, k] * new
                b2 = a2 + (w[e, k] * new) * new
                better = (a1 > _0) & (new != level) & (b2 > _0) & ((b1 * b1) * s2[k] > (s1[k] * s1[k]) * b2)
                q[e, k] = new if better else level
                s1[k] = b1 if better else s1[k]
                s2[k] = b2 if better else s2[k]
                changed |= better
        if not changed:
            break
    for k in range(LANES):
        zero = amax[k] < ZERO_BLOCK
        scale[k] = _0 if zero else s1[k] / s2[k]
        for e in range(BLOCK):
            q[e, k] = low if zero else q[e, k]


@inlined
def _round_scales(scales, levels, d, scratch):
    """Levels ``[-32, 31]`` of the block scales, the one of largest magnitude at -32, and the scale of the scales."""
    amax, mx = scratch[0], scratch[1]
    low, high = np.float32(-SCALE_NMAX), np.float32(SCALE_NMAX - 1)
    largest_scale(scales, amax, mx)
    for k in range(LANES):
        amax[k] = low / mx[k]
        d[k] = _1 / amax[k] if mx[k] != _0 else _0
    for j in range(N_BLOCKS):
        for k in range(LANES):
            level = min(max(nint(amax[k] * scales[j, k]), low), high)
            levels[j, k] = level if mx[k] != _0 else low


@inlined
def _pack_scales(levels, packed, at):
    for i in range(12):
        for k in range(LANES):
            packed[at + i, k] = 0
    for j in range(N_BLOCKS):
        for k in range(LANES):
            bits = np.uint8(np.int32(levels[j, k]) + SCALE_NMAX)
            packed[at + j % 8, k] |= np.uint8((bits & np.uint8(15)) << (4 * (j // 8)))
            packed[at + 8 + j % 4, k] |= np.uint8((bits >> np.uint8(4)) << (2 * (j // 4)))


@kernel
def _encode(rows, columns, out, method):
    flat, packed = rows.ravel(), out.ravel()
    n_super = rows.size // SUPER
    x = np.empty((SUPER, LANES), np.float32)
    w = np.empty((SUPER, LANES), np.float32)
    code = np.empty((SUPER, LANES), np.uint8)
    block = np.empty((NBYTES, LANES), np.uint8)
    scales = np.empty((N_BLOCKS, LANES), np.float32)
    sum_w = np.empty((N_BLOCKS, LANES), np.float32)
    levels = np.empty((N_BLOCKS, LANES), np.float32)
    q = np.empty((BLOCK, LANES), np.float32)
    wx = np.empty((BLOCK, LANES), np.float32)
    d = np.empty(LANES, np.float32)
    step = np.empty(LANES, np.float32)
    none = np.zeros(LANES, np.float32)
    scratch = np.empty((5, LANES), np.float32)
    weighted = len(columns) > 0
    # As values, not as constants: numba would compile the search once for each of the two.
    nmax, scale_nmax = np.int64(NMAX), np.int64(SCALE_NMAX)
    columns = usable_importance(columns, BLOCK)
    for first in range(0, n_super, LANES):
        n = min(LANES, n_super - first)
        load_blocks(flat, first, n, x)
        if weighted:
            load_importance(columns, first, n, w)
            weigh_super(x, w, np.float32(2.0))
        for j in range(N_BLOCKS):
            xj, wj, cj = x[16 * j : 16 * j + 16], w[16 * j : 16 * j + 16], code[16 * j : 16 * j + 16]
            if weighted:
                sum_over(wj, sum_w[j])
                search_linear(xj, wj, nmax, method, scales[j], q)
            elif method == EXHAUSTIVE:
                for e in range(BLOCK):
                    for k in range(LANES):
                        wj[e, k] = xj[e, k] * xj[e, k]
                search_linear(xj, wj, nmax, method, scales[j], q)
            else:
                _search_without_importance(xj, scales[j], q, wj, wx, scratch)
            for e in range(BLOCK):
                for k in range(LANES):
                    cj[e, k] = np.uint8(np.int32(q[e, k]) + NMAX)
        if weighted:
            search_linear(scales, sum_w, scale_nmax, method, d, levels)
        else:
            _round_scales(scales, levels, d, scratch)
        _pack_scales(levels, block, 96)
        put_half(block, 108, d)
        for k in range(LANES):
            d[k] = half_round(d[k])
        for j in range(N_BLOCKS):
            for k in range(LANES):
                step[k] = d[k] * levels[j, k]
            xj, cj = x[16 * j : 16 * j + 16], code[16 * j : 16 * j + 16]
            round_block(xj, step, none, np.float32(-NMAX), np.float32(NMAX - 1), cj)
        pack_bit(code, np.uint8(2), block, 0)
        pack_two_bits(code, np.uint8(0), block, 32)
        store_super(block, first, n, packed)


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


CODECS = {"Q3_K": Codec(decode=_decode, encode=_encode, searches=SEARCHES)}
