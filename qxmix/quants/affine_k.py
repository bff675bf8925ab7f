"""The encoder that Q4_K and Q5_K share: 8 blocks of 32 weights with a 6-bit scale and a 6-bit minimum each.

Layout of the 12 bytes of scales and minimums, j counting the blocks::

    byte 0..3             byte 4..7             byte 8..11
    +---------------------+---------------------+-----------------------+
    | 0..5 scale j        | 0..5 minimum j      | 0..3 scale j + 4      |
    | 6..7 scale j + 4,   | 6..7 minimum j + 4, | 4..7 minimum j + 4    |
    |      bits 4 and 5   |      bits 4 and 5   |                       |
    +---------------------+---------------------+-----------------------+
    weight = (d * scale) * code - dmin * minimum

Source: ``quantize_row_q4_K_impl`` and ``quantize_row_q4_K_ref`` of ik_llama.cpp, and the same for Q5_K.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.jit import inlined, kernel
from qxmix.quants.lanes import LANES, load_blocks, load_importance, usable_importance
from qxmix.quants.numerics import half_round, load_half, nint
from qxmix.quants.search_affine import search_affine, search_affine_f32
from qxmix.quants.search_positive import POSITIVE_ROWS, search_positive
from qxmix.quants.superblock import SUPER, put_half, round_block, store_super, sum_over, weigh_super

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxmix.quants.codec import Decoder, Encoder

BLOCK = 32
N_BLOCKS = SUPER // BLOCK
TOP = 63

_0 = np.float32(0.0)


@inlined
def round_positive(values, top, codes, d, inverse):
    """Codes ``[0, top]`` of block scales or minimums, the largest at ``top``, and their scale: without importance."""
    for k in range(LANES):
        d[k] = _0
    for j in range(values.shape[0]):
        for k in range(LANES):
            d[k] = max(d[k], values[j, k])
    for k in range(LANES):
        inverse[k] = top / d[k] if d[k] > _0 else _0
        d[k] /= top
    for j in range(values.shape[0]):
        for k in range(LANES):
            code = nint(inverse[k] * values[j, k])
            # The engine keeps the code in an unsigned byte: below zero it becomes large, and is then capped.
            codes[j, k] = top if code < _0 else min(code, top)


@inlined
def _pack_scales(scale, minimum, packed, at):
    for j in range(4):
        for k in range(LANES):
            s, m = np.uint8(np.int32(scale[j, k])), np.uint8(np.int32(minimum[j, k]))
            s4, m4 = np.uint8(np.int32(scale[j + 4, k])), np.uint8(np.int32(minimum[j + 4, k]))
            packed[at + j, k] = np.uint8(s | (s4 >> np.uint8(4)) << np.uint8(6))
            packed[at + 4 + j, k] = np.uint8(m | (m4 >> np.uint8(4)) << np.uint8(6))
            packed[at + 8 + j, k] = np.uint8((s4 & np.uint8(15)) | (m4 & np.uint8(15)) << np.uint8(4))


@inlined
def _weigh_without_importance(x, w, mean):
    """``w = root of the mean square of the block + |x|``."""
    for k in range(LANES):
        mean[k] = _0
    for e in range(BLOCK):
        for k in range(LANES):
            mean[k] += x[e, k] * x[e, k]
    for k in range(LANES):
        mean[k] = np.sqrt(mean[k] / np.float32(BLOCK))
    for e in range(BLOCK):
        for k in range(LANES):
            w[e, k] = mean[k] + abs(x[e, k])


def encode_affine_k(nmax: int, nbytes: int, first: float, n_steps: int, pack: Callable[..., None]) -> Encoder:
    """Build the encoder for codes ``[0, nmax]``.

    ``pack(code, block)`` stores the codes (256, LANES) in the block (nbytes, LANES).  Without an importance the search
    has trials ``nmax + first + 0.1 * i`` for i in ``0..n_steps``.
    """
    rmin, top = np.float32(first), np.float32(nmax)

    @kernel
    def encode(rows, columns, out, method):  # noqa: ARG001 - the contract of encoders
        flat, packed = rows.ravel(), out.ravel()
        n_super = rows.size // SUPER
        x, w = np.empty((SUPER, LANES), np.float32), np.empty((SUPER, LANES), np.float32)
        code, block = np.empty((SUPER, LANES), np.uint8), np.empty((nbytes, LANES), np.uint8)
        blocks = np.empty((5, N_BLOCKS, LANES), np.float32)
        scales, mins, sum_w, ls, lm = blocks[0], blocks[1], blocks[2], blocks[3], blocks[4]
        q, scratch = np.empty((BLOCK, LANES), np.float32), np.empty((POSITIVE_ROWS, LANES), np.float32)
        lanes = np.empty((4, LANES), np.float32)
        d, dmin, step, offset = lanes[0], lanes[1], lanes[2], lanes[3]
        weighted = len(columns) > 0
        columns = usable_importance(columns, BLOCK)
        for at in range(0, n_super, LANES):
            n = min(LANES, n_super - at)
            load_blocks(flat, at, n, x)
            if weighted:
                load_importance(columns, at, n, w)
                weigh_super(x, w, np.float32(2.0))
            for j in range(N_BLOCKS):
                xj, wj, cj = x[32 * j : 32 * j + 32], w[32 * j : 32 * j + 32], code[32 * j : 32 * j + 32]
                if weighted:
                    sum_over(wj, sum_w[j])
                    search_affine(xj, wj, nmax, scales[j], mins[j], q)
                else:
                    _weigh_without_importance(xj, wj, step)
                    search_affine_f32(xj, wj, nmax, rmin, n_steps, 2, scales[j], mins[j], q)
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
            put_half(block, 0, d)
            put_half(block, 2, dmin)
            _pack_scales(ls, lm, block, 4)
            for k in range(LANES):
                d[k] = half_round(d[k])
                dmin[k] = half_round(dmin[k])
            for j in range(N_BLOCKS):
                for k in range(LANES):
                    step[k] = d[k] * ls[j, k]
                    offset[k] = dmin[k] * lm[j, k]
                round_block(x[32 * j : 32 * j + 32], step, offset, _0, top, code[32 * j : 32 * j + 32])
            pack(code, block)
            store_super(block, at, n, packed)

    return encode


def decode_affine_k(nbytes: int, qs: int, fifth: int) -> Decoder:
    """Build the decoder: field F64 at ``qs``, the fifth bits at ``fifth`` as field BP, or none where that is 0."""

    @kernel
    def decode(packed, rows):
        data, flat = packed.ravel(), rows.ravel()
        for block in range(rows.size // SUPER):
            at = block * nbytes
            d, dmin = load_half(data, at), load_half(data, at + 2)
            for j in range(N_BLOCKS):
                a, b = np.int32(data[at + 4 + j % 4]), np.int32(data[at + 8 + j % 4])
                c = np.int32(data[at + 12 + j % 4])
                scale = a & 63 if j < 4 else c & 15 | (a >> 6) << 4  # noqa: PLR2004 - the first four are stored whole
                minimum = b & 63 if j < 4 else c >> 4 | (b >> 6) << 4  # noqa: PLR2004
                step, offset = d * np.float32(scale), dmin * np.float32(minimum)
                to, low, shift = block * SUPER + BLOCK * j, at + qs + BLOCK * (j // 2), 4 * (j % 2)
                for t in range(BLOCK):
                    code = (np.int32(data[low + t]) >> shift) & 15
                    if fifth:
                        code |= ((np.int32(data[at + fifth + t]) >> j) & 1) << 4
                    flat[to + t] = step * np.float32(code) - offset

    return decode
