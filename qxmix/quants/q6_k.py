"""Q6_K: 16 blocks of 16 weights, an 8-bit scale each, 6-bit levels -32..31.

Layout of a super-block, 210 bytes, g counting its halves of 128 weights::

    0                              128                   192            208     210
    +------------------------------+---------------------+--------------+-------+
    | ql: byte 64 g + t (t < 64):  | qh: upper 2 bits,   | scales: i8   | d f16 |
    | low 4 bits of weights        | field T128          | of 16 blocks |       |
    | 128 g + t and 128 g + 64 + t |                     |              |       |
    +------------------------------+---------------------+--------------+-------+
    weight = (d * scale) * (code - 32)

Source: ``block_q6_K`` of ggml, ``quantize_row_q6_K_impl`` of ik_llama.cpp.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.codec import SEARCHES, Codec
from qxmix.quants.jit import inlined, kernel
from qxmix.quants.lanes import LANES, load_blocks, load_importance, usable_importance
from qxmix.quants.numerics import half_round, load_half, nint
from qxmix.quants.search import ZERO_BLOCK, search_linear
from qxmix.quants.superblock import SUPER, largest_scale, pack_two_bits, put_half, round_block, store_super

BLOCK = 16
N_BLOCKS = SUPER // BLOCK
NBYTES = 210
NMAX = 32

_0 = np.float32(0.0)
_1 = np.float32(1.0)


@inlined
def _pack_low(code, packed, at):
    for g in range(2):
        for t in range(64):
            for k in range(LANES):
                low, high = code[128 * g + t, k] & np.uint8(15), code[128 * g + 64 + t, k] & np.uint8(15)
                packed[at + 64 * g + t, k] = np.uint8(low | high << 4)


@inlined
def _clear_zero(amax, packed):
    """Zero all bytes of a super-block in which no block has a scale."""
    for i in range(NBYTES):
        for k in range(LANES):
            packed[i, k] = np.uint8(0) if amax[k] < ZERO_BLOCK else packed[i, k]


@kernel
def _encode(rows, columns, out, method):
    flat, packed = rows.ravel(), out.ravel()
    n_super = rows.size // SUPER
    x = np.empty((SUPER, LANES), np.float32)
    w = np.empty((SUPER, LANES), np.float32)
    code = np.empty((SUPER, LANES), np.uint8)
    block = np.empty((NBYTES, LANES), np.uint8)
    scales = np.empty((N_BLOCKS, LANES), np.float32)
    q = np.empty((BLOCK, LANES), np.float32)
    amax = np.empty(LANES, np.float32)
    inverse = np.empty(LANES, np.float32)
    d = np.empty(LANES, np.float32)
    step = np.empty(LANES, np.float32)
    none = np.zeros(LANES, np.float32)
    weighted = len(columns) > 0
    columns = usable_importance(columns, BLOCK)
    for first in range(0, n_super, LANES):
        n = min(LANES, n_super - first)
        load_blocks(flat, first, n, x)
        if weighted:  # the importance itself: alone among the types with linear levels this one adds no variance
            load_importance(columns, first, n, w)
        else:
            for e in range(SUPER):
                for k in range(LANES):
                    w[e, k] = x[e, k] * x[e, k]
        for j in range(N_BLOCKS):
            xj, wj, cj = x[16 * j : 16 * j + 16], w[16 * j : 16 * j + 16], code[16 * j : 16 * j + 16]
            search_linear(xj, wj, NMAX, method, scales[j], q)
            for e in range(BLOCK):
                for k in range(LANES):
                    cj[e, k] = np.uint8(np.int32(q[e, k]) + NMAX)
        largest_scale(scales, amax, step)
        for k in range(LANES):
            inverse[k] = np.float32(-128.0) / step[k]
            d[k] = _1 / inverse[k]
        put_half(block, 208, d)
        for k in range(LANES):
            d[k] = half_round(d[k])
        for j in range(N_BLOCKS):
            for k in range(LANES):
                level = min(nint(inverse[k] * scales[j, k]), np.float32(127.0))
                level = level if amax[k] >= ZERO_BLOCK else _0
                block[192 + j, k] = np.uint8(np.int32(level) & 255)
                step[k] = d[k] * level
            xj, cj = x[16 * j : 16 * j + 16], code[16 * j : 16 * j + 16]
            round_block(xj, step, none, np.float32(-NMAX), np.float32(NMAX - 1), cj)
        _pack_low(code, block, 0)
        pack_two_bits(code, np.uint8(4), block, 128)
        _clear_zero(amax, block)
        store_super(block, first, n, packed)


@kernel
def _decode(packed, rows):
    data, flat = packed.ravel(), rows.ravel()
    for block in range(rows.size // SUPER):
        at = block * NBYTES
        d = load_half(data, at + 208)
        for j in range(N_BLOCKS):
            step = d * np.float32(np.int8(data[at + 192 + j]))
            g, r, t = j // 8, j % 8 // 2, BLOCK * (j % 2)
            to, ql, qh = block * SUPER + BLOCK * j, at + 64 * g + 32 * (r % 2) + t, at + 128 + 32 * g + t
            for i in range(BLOCK):
                low = (np.int32(data[ql + i]) >> (4 * (r // 2))) & 15
                high = (np.int32(data[qh + i]) >> (2 * r)) & 3
                flat[to + i] = step * np.float32((low | high << 4) - NMAX)


CODECS = {"Q6_K": Codec(decode=_decode, encode=_encode, searches=SEARCHES)}
