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

from qxmix.quants.codec import Codec
from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.numerics import half_round, load_half, nint
from qxmix.quants.common.superblock import SUPER, pack_two_bits, put_half, super_decoder, weigh_super
from qxmix.quants.feedback.k_super import affine_super_feedback
from qxmix.quants.jit import inlined, kernel, spliced
from qxmix.quants.k_quants.affine_k import affine_encoder, round_affine, round_halves, steps

BLOCK = 16
N_BLOCKS = SUPER // BLOCK
NBYTES = 84
NMAX = 3
TOP = 15

_0 = np.float32(0.0)
_1 = np.float32(1.0)
_HALF = np.float32(0.5)


@kernel
def _round_exactly(x, d, dmin, ls, lm, code):
    """Codes for the steps before they are rounded to halves, by the inverse: with importance."""
    step, offset = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for j in range(N_BLOCKS):
        steps(d, dmin, ls[j], lm[j], step, offset)
        for k in range(LANES):
            step[k] = _1 / step[k] if step[k] != _0 else _0
        for e in range(BLOCK * j, BLOCK * (j + 1)):
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


@spliced
def _weigh(x, w, weighted):
    """Without an importance ``w = |x|``."""
    if weighted:
        weigh_super(x, w, np.float32(0.75))
    else:
        for e in range(SUPER):
            for k in range(LANES):
                w[e, k] = abs(x[e, k])


@spliced
def _pack(ls, lm, code, packed):
    for j in range(N_BLOCKS):
        for k in range(LANES):
            packed[j, k] = np.uint8(np.int32(ls[j, k]) | np.int32(lm[j, k]) << 4)
    pack_two_bits(code, np.uint8(0), packed, 16)


@spliced
def _finish(x, weighted, d, dmin, ls, lm, code, packed):
    if weighted:
        _round_exactly(x, d, dmin, ls, lm, code)
    else:
        round_halves(d, dmin)
        round_affine(x, d, dmin, ls, lm, NMAX, code)
        _prefer_ternary(x, d, dmin, ls, lm, code)
    put_half(packed, 80, d)
    put_half(packed, 82, dmin)
    _pack(ls, lm, code, packed)


@spliced
def _weigh_importance(x, w, _unit):
    weigh_super(x, w, np.float32(0.75))


@spliced
def _fill(codes, found, unit, block):
    put_half(block, 80, unit[0])
    put_half(block, 82, unit[1])
    _pack(found[0], found[1], codes, block)


@inlined
def _put(data, at, flat, start):
    d, dmin = load_half(data, at + 80), load_half(data, at + 82)
    for j in range(N_BLOCKS):
        byte = np.int32(data[at + j])
        step, offset = d * np.float32(byte & 15), dmin * np.float32(byte >> 4)
        to, qs, two = start + BLOCK * j, at + 16 + 32 * (j // 8) + BLOCK * (j % 2), 2 * (j % 8 // 2)
        for i in range(BLOCK):
            flat[to + i] = step * np.float32((np.int32(data[qs + i]) >> two) & 3) - offset


_encode = affine_encoder(
    block=BLOCK, nmax=NMAX, top=TOP, nbytes=NBYTES, weigh=_weigh, trials=(-0.5, 15, 1), finish=_finish
)

_feedback = affine_super_feedback(block=BLOCK, nbytes=NBYTES, nmax=NMAX, top=TOP, weigh=_weigh_importance, fill=_fill)
CODECS = {"Q2_K": Codec(decode=super_decoder(NBYTES, _put), encode=_encode, feedback=_feedback, version=3)}
