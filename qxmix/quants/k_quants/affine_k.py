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

from qxmix.quants.common.lanes import LANES, sum_of_squares
from qxmix.quants.common.numerics import half_round, load_half, nint
from qxmix.quants.common.reinterpret import flattened
from qxmix.quants.common.search_affine import search_affine, search_affine_f32
from qxmix.quants.common.search_positive import search_positive
from qxmix.quants.common.superblock import SUPER, put_half, round_block, sum_over, super_encoder, weigh_super
from qxmix.quants.feedback.k_super import affine_super_feedback
from qxmix.quants.jit import kernel, spliced

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxmix.quants.codec import Decoder, Encoder, FeedbackEncoder
    from qxmix.quants.contracts import Weigh

BLOCK = 32
N_BLOCKS = SUPER // BLOCK
TOP = 63

_0 = np.float32(0.0)


@kernel
def _round_positive(values, top, codes, d):
    """Codes ``[0, top]`` of block scales or minimums, the largest at ``top``, and their scale: without importance."""
    inverse = np.empty(LANES, np.float32)
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


@spliced
def round_halves(d, dmin):
    """Both as a decoder reads them."""
    for k in range(LANES):
        d[k] = half_round(d[k])
        dmin[k] = half_round(dmin[k])


@spliced
def steps(d, dmin, scale, minimum, step, offset):
    """Step and offset of one block from the codes of its scale and minimum."""
    for k in range(LANES):
        step[k] = d[k] * scale[k]
        offset[k] = dmin[k] * minimum[k]


@spliced
def round_affine(x, d, dmin, ls, lm, nmax, code):
    """Codes ``[0, nmax]`` for the steps and offsets that a decoder will use."""
    step, offset = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    n = SUPER // len(ls)
    for j in range(len(ls)):
        steps(d, dmin, ls[j], lm[j], step, offset)
        part = slice(n * j, n * (j + 1))
        round_block(x[part], step, offset, _0, np.float32(nmax), code[part])


@spliced
def _pack_scales(scale, minimum, packed, at):
    for j in range(4):
        for k in range(LANES):
            s, m = np.uint8(np.int32(scale[j, k])), np.uint8(np.int32(minimum[j, k]))
            s4, m4 = np.uint8(np.int32(scale[j + 4, k])), np.uint8(np.int32(minimum[j + 4, k]))
            packed[at + j, k] = np.uint8(s | (s4 >> np.uint8(4)) << np.uint8(6))
            packed[at + 4 + j, k] = np.uint8(m | (m4 >> np.uint8(4)) << np.uint8(6))
            packed[at + 8 + j, k] = np.uint8((s4 & np.uint8(15)) | (m4 & np.uint8(15)) << np.uint8(4))


def affine_encoder(
    *, block: int, nmax: int, top: int, nbytes: int, weigh: Weigh, trials: tuple[float, int, int],
    finish: Callable[..., None],
) -> Encoder:  # fmt: skip
    """Build the encoder of super-blocks with a scale and a minimum for each ``block`` weights, codes ``[0, nmax]``.

    ``weigh`` is that of ``super_encoder``.  Without an importance the search has the ``trials`` (first, n_steps, power)
    of ``search_affine_f32``.  Scales and minimums get codes up to ``top``.  ``finish(x, weighted, d, dmin, ls, lm,
    code, packed)`` rounds and packs: the scale ``d`` of the scales and that of the minimums (LANES,), their codes
    (n_blocks, LANES), and the weights' codes (256, LANES) of the search, which it may replace.
    """
    n_blocks = SUPER // block
    first, n_steps, power = np.float32(trials[0]), trials[1], trials[2]

    @spliced
    def fill(x, w, weighted, _search, packed):
        blocks = np.empty((5, n_blocks, LANES), np.float32)
        scales, mins, sum_w, ls, lm = blocks[0], blocks[1], blocks[2], blocks[3], blocks[4]
        code, q = np.empty((SUPER, LANES), np.uint8), np.empty((block, LANES), np.float32)
        d, dmin = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
        for j in range(n_blocks):
            part = slice(block * j, block * (j + 1))
            if weighted:
                sum_over(w[part], sum_w[j])
                search_affine(x[part], w[part], nmax, scales[j], mins[j], q)
            else:
                search_affine_f32(x[part], w[part], nmax, first, n_steps, power, scales[j], mins[j], q)
            for k in range(LANES):
                mins[j, k] = -mins[j, k]
            for e in range(block):
                for k in range(LANES):
                    code[block * j + e, k] = np.uint8(np.int32(q[e, k]))
        if weighted:
            search_positive(scales, sum_w, top, d, ls)
            search_positive(mins, sum_w, top, dmin, lm)
        else:
            _round_positive(scales, np.float32(top), ls, d)
            _round_positive(mins, np.float32(top), lm, dmin)
        finish(x, weighted, d, dmin, ls, lm, code, packed)

    return super_encoder(nbytes, block, weigh, fill, apart=True)


@spliced
def _weigh(x, w, weighted):
    """Without an importance ``w = root of the mean square of the block + |x|``."""
    if weighted:
        weigh_super(x, w, np.float32(2.0))
    else:
        mean = np.empty(LANES, np.float32)
        for first in range(0, SUPER, BLOCK):
            sum_of_squares(x[first : first + BLOCK], mean)
            for k in range(LANES):
                mean[k] = np.sqrt(mean[k] / np.float32(BLOCK))
            for e in range(first, first + BLOCK):
                for k in range(LANES):
                    w[e, k] = mean[k] + abs(x[e, k])


def encode_affine_k(nmax: int, nbytes: int, first: float, n_steps: int, pack: Callable[..., None]) -> Encoder:
    """Build the encoder for blocks of 32 weights and codes ``[0, nmax]``: Q4_K and Q5_K.

    ``pack(code, packed)`` stores the codes (256, LANES) in the super-blocks (nbytes, LANES).  Without an importance the
    search has trials ``nmax + first + 0.1 * i`` for i in ``0..n_steps``.
    """

    @spliced
    def finish(x, _weighted, d, dmin, ls, lm, code, packed):
        put_half(packed, 0, d)
        put_half(packed, 2, dmin)
        _pack_scales(ls, lm, packed, 4)
        round_halves(d, dmin)
        round_affine(x, d, dmin, ls, lm, nmax, code)
        pack(code, packed)

    return affine_encoder(
        block=BLOCK, nmax=nmax, top=TOP, nbytes=nbytes, weigh=_weigh, trials=(first, n_steps, 2), finish=finish
    )


def feedback_affine_k(nmax: int, nbytes: int, pack: Callable[..., None]) -> FeedbackEncoder:
    """Build the encoder with error feedback for blocks of 32 weights; ``pack`` is that of ``encode_affine_k``."""

    @spliced
    def weigh(x, w, _unit):
        weigh_super(x, w, np.float32(2.0))

    @spliced
    def fill(codes, found, unit, block):
        put_half(block, 0, unit[0])
        put_half(block, 2, unit[1])
        _pack_scales(found[0], found[1], block, 4)
        pack(codes, block)

    return affine_super_feedback(block=BLOCK, nbytes=nbytes, nmax=nmax, top=TOP, weigh=weigh, fill=fill)


def decode_affine_k(nbytes: int, qs: int, fifth: int) -> Decoder:
    """Build the decoder: field F64 at ``qs``, the fifth bits at ``fifth`` as field BP, or none where that is 0."""

    @kernel
    def decode(packed, rows):
        data, flat = flattened(packed), flattened(rows)
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
