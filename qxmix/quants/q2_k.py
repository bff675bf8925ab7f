"""Q2_K: 16 blocks of 16 weights, a 4-bit scale and minimum each, 2-bit codes.

Layout of a super-block, 84 bytes::

    0                              16                    80      82         84
    +------------------------------+---------------------+-------+----------+
    | byte j: scale of block j in  | qs: codes,          | d f16 | dmin f16 |
    | the low, minimum in the high | field T128          |       |          |
    | nibble                       |                     |       |          |
    +------------------------------+---------------------+-------+----------+
    weight = (d * scale) * code - dmin * minimum

Source: ``block_q2_K`` of ggml; ``quantize_row_q2_K_impl`` of ik_llama.cpp with an importance, ``..._ref`` without.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.affine_k import round_positive
from qxmix.quants.codec import Codec
from qxmix.quants.jit import inlined, kernel
from qxmix.quants.lanes import LANES, load_blocks, load_importance, usable_importance
from qxmix.quants.numerics import half_round, load_half, nint
from qxmix.quants.search_affine import search_affine, search_affine_f32
from qxmix.quants.search_positive import POSITIVE_ROWS, search_positive
from qxmix.quants.superblock import SUPER, pack_two_bits, put_half, round_block, store_super, sum_over, weigh_super

BLOCK = 16
N_BLOCKS = SUPER // BLOCK
NBYTES = 84
NMAX = 3
TOP = 15

_0 = np.float32(0.0)
_1 = np.float32(1.0)
_HALF = np.float32(0.5)


@inlined
def _round_exactly(x, step, offset, code):
    """Codes of a block for the step before it is rounded to a half, by the inverse: with importance."""
    for k in range(LANES):
        step[k] = _1 / step[k] if step[k] != _0 else _0
    for e in range(BLOCK):
        for k in range(LANES):
            level = min(max(_0, nint((x[e, k] + offset[k]) * step[k])), np.float32(NMAX))
            code[e, k] = np.uint8(np.int32(level))


@kernel
def _prefer_ternary(x, d, dmin, ls, lm, code):
    """Take the levels -m, 0, m (m the largest magnitude) for super-blocks that they fit better: without importance.

    Four equal steps from -m to m miss the zero, so ternary weights lose a quarter of their magnitude and more.
    ik_llama.cpp tests all rows it is handed at once, against the largest weight of them all, and then encodes them all
    so: its bytes change with the number of rows per call.  llama.cpp has no such form.  Here each super-block decides,
    by the error that a decoder will see; and only if all three levels occur, since two of them the search fits as well.
    """
    lanes = np.zeros((6, LANES), np.float32)
    m, ordinary, ternary = lanes[0], lanes[1], lanes[2]
    n_low, n_zero, n_high = lanes[3], lanes[4], lanes[5]
    for e in range(SUPER):
        for k in range(LANES):
            m[k] = max(m[k], abs(x[e, k]))
    for k in range(LANES):
        m[k] = half_round(m[k])
    for e in range(SUPER):
        for k in range(LANES):
            step, offset = d[k] * ls[e // BLOCK, k], dmin[k] * lm[e // BLOCK, k]
            miss = x[e, k] - (step * np.float32(np.int32(code[e, k])) - offset)
            ordinary[k] += miss * miss
            low, high = x[e, k] < -_HALF * m[k], x[e, k] >= _HALF * m[k]
            miss = x[e, k] - ((m[k] if high else _0) - (m[k] if low else _0))
            ternary[k] += miss * miss
            n_low[k] += _1 if low else _0
            n_high[k] += _1 if high else _0
            n_zero[k] += _0 if low | high else _1
    for k in range(LANES):
        if ternary[k] < ordinary[k] and n_low[k] > _0 and n_zero[k] > _0 and n_high[k] > _0:
            d[k] = dmin[k] = m[k]
            for j in range(N_BLOCKS):
                ls[j, k] = lm[j, k] = _1
            for e in range(SUPER):
                code[e, k] = np.uint8(2 if x[e, k] >= _HALF * m[k] else 0 if x[e, k] < -_HALF * m[k] else 1)


@kernel
def _encode(rows, columns, out, method):  # noqa: ARG001 - the contract of encoders
    flat, packed = rows.ravel(), out.ravel()
    n_super = rows.size // SUPER
    x, w = np.empty((SUPER, LANES), np.float32), np.empty((SUPER, LANES), np.float32)
    code, block = np.empty((SUPER, LANES), np.uint8), np.empty((NBYTES, LANES), np.uint8)
    blocks = np.empty((5, N_BLOCKS, LANES), np.float32)
    scales, mins, sum_w, ls, lm = blocks[0], blocks[1], blocks[2], blocks[3], blocks[4]
    q, scratch = np.empty((BLOCK, LANES), np.float32), np.empty((POSITIVE_ROWS, LANES), np.float32)
    lanes = np.empty((4, LANES), np.float32)
    d, dmin, step, offset = lanes[0], lanes[1], lanes[2], lanes[3]
    weighted = len(columns) > 0
    columns = usable_importance(columns, BLOCK)
    for first in range(0, n_super, LANES):
        n = min(LANES, n_super - first)
        load_blocks(flat, first, n, x)
        if weighted:
            load_importance(columns, first, n, w)
            weigh_super(x, w, np.float32(0.75))
        for j in range(N_BLOCKS):
            xj, wj, cj = x[16 * j : 16 * j + 16], w[16 * j : 16 * j + 16], code[16 * j : 16 * j + 16]
            if weighted:
                sum_over(wj, sum_w[j])
                search_affine(xj, wj, NMAX, scales[j], mins[j], q)
            else:
                for e in range(BLOCK):
                    for k in range(LANES):
                        wj[e, k] = abs(xj[e, k])
                search_affine_f32(xj, wj, NMAX, np.float32(-0.5), 15, 1, scales[j], mins[j], q)
            for k in range(LANES):
                mins[j, k] = -mins[j, k]
            for e in range(BLOCK):
                for k in range(LANES):
                    cj[e, k] = np.uint8(np.int32(q[e, k]))
        if weighted:
            search_positive(scales, sum_w, TOP, d, ls, scratch)
            search_positive(mins, sum_w, TOP, dmin, lm, scratch)
        else:
            round_positive(scales, np.float32(TOP), ls, d, step)
            round_positive(mins, np.float32(TOP), lm, dmin, step)
        if not weighted:
            for k in range(LANES):
                d[k] = half_round(d[k])
                dmin[k] = half_round(dmin[k])
        for j in range(N_BLOCKS):
            for k in range(LANES):
                step[k] = d[k] * ls[j, k]
                offset[k] = dmin[k] * lm[j, k]
            xj, cj = x[16 * j : 16 * j + 16], code[16 * j : 16 * j + 16]
            if weighted:
                _round_exactly(xj, step, offset, cj)
            else:
                round_block(xj, step, offset, _0, np.float32(NMAX), cj)
        if not weighted:
            _prefer_ternary(x, d, dmin, ls, lm, code)
        put_half(block, 80, d)
        put_half(block, 82, dmin)
        for j in range(N_BLOCKS):
            for k in range(LANES):
                block[j, k] = np.uint8(np.int32(ls[j, k]) | np.int32(lm[j, k]) << 4)
        pack_two_bits(code, np.uint8(0), block, 16)
        store_super(block, first, n, packed)


@kernel
def _decode(packed, rows):
    data, flat = packed.ravel(), rows.ravel()
    for block in range(rows.size // SUPER):
        at = block * NBYTES
        d, dmin = load_half(data, at + 80), load_half(data, at + 82)
        for j in range(N_BLOCKS):
            byte = np.int32(data[at + j])
            step, offset = d * np.float32(byte & 15), dmin * np.float32(byte >> 4)
            to, qs, two = block * SUPER + BLOCK * j, at + 16 + 32 * (j // 8) + BLOCK * (j % 2), 2 * (j % 8 // 2)
            for i in range(BLOCK):
                flat[to + i] = step * np.float32((np.int32(data[qs + i]) >> two) & 3) - offset


CODECS = {"Q2_K": Codec(decode=_decode, encode=_encode)}
