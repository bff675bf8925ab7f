"""IQ5_KS: a scale per row, 8 blocks of 32 weights with an odd scale each, 5-bit codes into one of two level tables.

A row starts with ``d``, a float32.  Layout of each super-block behind it, 168 bytes::

    0                                  8                      136                     168
    +----------------------------------+----------------------+-----------------------+
    | scales: byte j = scale j + 127,  | qs: low 4 bits of    | qh: bit 4 of all      |
    | bit 0 set if block j takes the   | the codes, field F64 | codes, field BP       |
    | shifted table; the scale is odd  |                      |                       |
    +----------------------------------+----------------------+-----------------------+
    weight = (d * scale) * (IQ5_LEVELS[code] + 2 * shifted)

Source: ``block_iq5_ks`` and ``quantize_row_iq5_ks_impl`` of ik_llama.cpp.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.common.superblock import SUPER, pack_bit, pack_nibbles
from qxmix.quants.jit import inlined
from qxmix.quants.level.codecs import rows_codec
from qxmix.quants.level.encoder import LevelType, odd_level, odd_unit
from qxmix.quants.level.iq5_k import BOTH, TABLES
from qxmix.quants.level.packing import odd_scale, pack_odd_scales
from qxmix.quants.level.search import level_search

BLOCK = 32
NBYTES = 168


@inlined
def _pack(codes, levels, shifted, packed):
    pack_odd_scales(levels, shifted, packed)
    pack_nibbles(codes, packed, 8)
    pack_bit(codes, np.uint8(4), packed, 136)


@inlined
def _put(data, at, d, row, start):
    for j in range(SUPER // BLOCK):
        step = d * odd_scale(data[at + j])
        table = 32 * (np.int32(data[at + j]) & 1)
        qs, qh, to = at + 8 + 32 * (j // 2), at + 136, start + BLOCK * j
        for t in range(BLOCK):
            low = (np.int32(data[qs + t]) >> (4 * (j % 2))) & 15
            row[to + t] = step * BOTH[table + low + (((np.int32(data[qh + t]) >> j) & 1) << 4)]


_KIND = LevelType(
    TABLES, level_search(TABLES, 5), BLOCK, NBYTES, 2.0, 0.0,
    unit=odd_unit, level=odd_level, pack=_pack, half=False,
)  # fmt: skip
CODECS = {"IQ5_KS": rows_codec(_KIND, _put)}
