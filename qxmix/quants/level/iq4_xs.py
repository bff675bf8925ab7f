"""IQ4_XS: 8 blocks of 32 weights, a 6-bit scale each, 4-bit codes into the 16 uneven levels of IQ4_NL.

Layout of a super-block, 136 bytes::

    0       2                     4                    8                                      136
    +-------+---------------------+--------------------+--------------------------------------+
    | d f16 | scales_h u16: upper | scales_l: byte i = | qs: byte 16 j + t = weight 32 j + t  |
    |       | 2 bits of scale j   | low 4 bits of 2 i  | in the low, 32 j + 16 + t in the     |
    |       | from bit 2 j        | (low nibble), 2i+1 | high nibble                          |
    +-------+---------------------+--------------------+--------------------------------------+
    weight = (d * (scale - 32)) * IQ4_LEVELS[nibble]

Source: ``block_iq4_xs`` of ggml, ``quantize_row_iq4_nl_impl`` of ik_llama.cpp (PR 295) for super-blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.block32.iq4_nl import best_iq4, code_of, scan_iq4, search_iq4
from qxmix.quants.codec import SEARCHES, Codec, Encoder, FeedbackEncoder, search_decides
from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.levels import IQ4_LEVELS
from qxmix.quants.common.numerics import load_half, nint
from qxmix.quants.common.superblock import (
    SUPER,
    largest_scale,
    put_half,
    super_decoder,
    super_encoder,
    weigh_super,
    weighing,
)
from qxmix.quants.feedback.k_super import scaled_feedback
from qxmix.quants.feedback.nearest import nearest_of_table
from qxmix.quants.jit import inlined, spliced
from qxmix.quants.level.packing import pack_h16
from qxmix.quants.level.two_tables import TwoTables

if TYPE_CHECKING:
    from qxmix.quants.contracts import FindScale

BLOCK = 32
N_BLOCKS = SUPER // BLOCK
NBYTES = 136

_0 = np.float32(0.0)
_1 = np.float32(1.0)
_32 = np.float32(32.0)


@spliced
def _pack_block(x, inverse, j, packed):
    """Codes of block j: the nearest levels of ``inverse * x``."""
    for t in range(16):
        for k in range(LANES):
            low, high = code_of(inverse[k] * x[t, k]), code_of(inverse[k] * x[16 + t, k])
            packed[8 + 16 * j + t, k] = np.uint8(np.int32(low + np.float32(16.0) * high))


@spliced
def _pack_scale(level, j, packed):
    """The 6-bit scale ``level + 32`` of block j; j ascends, and the fields' first writers clear them."""
    for k in range(LANES):
        code = np.uint8(np.int32(level[k] + _32))
        low, high = np.uint8(code & np.uint8(15)), np.uint8(code >> np.uint8(4))
        packed[4 + j // 2, k] = low if j % 2 == 0 else packed[4 + j // 2, k] | np.uint8(low << np.uint8(4))
        packed[2 + j // 4, k] = high if j % 4 == 0 else packed[2 + j // 4, k] | np.uint8(high << np.uint8(2 * (j % 4)))


def _encoder(find: FindScale) -> Encoder:
    @spliced
    def fill(x, w, _weighted, search, packed):
        scales, q = np.empty((N_BLOCKS, LANES), np.float32), np.empty((BLOCK, LANES), np.float32)
        lanes = np.empty((4, LANES), np.float32)
        amax, mx, d, level = lanes[0], lanes[1], lanes[2], lanes[3]
        for j in range(N_BLOCKS):
            find(x[32 * j : 32 * j + 32], w[32 * j : 32 * j + 32], search, scales[j], q)
        largest_scale(scales, amax, mx)
        for k in range(LANES):
            d[k] = -mx[k] / _32
        put_half(packed, 0, d)
        for j in range(N_BLOCKS):
            for k in range(LANES):
                inverse = _1 / d[k] if d[k] != _0 else _0
                level[k] = min(max(nint(inverse * scales[j, k]), -_32), np.float32(31.0))
                # The codes are those of the step before d is rounded to a half, as in the reference.
                step = d[k] * level[k]
                mx[k] = _1 / step if step != _0 else _0
            _pack_scale(level, j, packed)
            _pack_block(x[32 * j : 32 * j + 32], mx, j, packed)

    return super_encoder(NBYTES, BLOCK, weighing(2.0), fill)


@inlined
def _put(data, at, flat, start):
    d = load_half(data, at)
    for j in range(N_BLOCKS):
        low = (np.int32(data[at + 4 + j // 2]) >> (4 * (j % 2))) & 15
        high = (np.int32(data[at + 2 + j // 4]) >> (2 * (j % 4))) & 3
        step = d * np.float32((low | high << 4) - 32)
        qs, to = at + 8 + 16 * j, start + BLOCK * j
        for t in range(16):
            flat[to + t] = step * IQ4_LEVELS[data[qs + t] & 15]
            flat[to + t + 16] = step * IQ4_LEVELS[data[qs + t] >> 4]


def _feedback(scan: Callable[..., None]) -> FeedbackEncoder:
    @spliced
    def weigh(x, w, _unit):
        weigh_super(x, w, np.float32(2.0))

    @spliced
    def find(x, w, search, scale):
        q = np.empty((BLOCK, LANES), np.float32)
        scan(x, w, search, scale, q)

    @spliced
    def fill(codes, found, unit, block):
        put_half(block, 0, unit[0])
        for j in range(N_BLOCKS):
            _pack_scale(found[0, j], j, block)
        pack_h16(codes, 8, block)

    return scaled_feedback(
        block=BLOCK, nbytes=NBYTES, levels=(-32, 31), weigh=weigh, find=find,
        nearest=nearest_of_table(TwoTables(IQ4_LEVELS, 4)), fill=fill, n_searched=1,
    )  # fmt: skip


CODECS = {
    "IQ4_XS": Codec(
        decode=super_decoder(NBYTES, _put),
        encode=search_decides(_encoder(scan_iq4), exhaustive=_encoder(best_iq4)),
        searches=SEARCHES,
        feedback=search_decides(_feedback(scan_iq4), exhaustive=_feedback(best_iq4)),
        version=3,
        search_block=search_iq4,
    )
}
