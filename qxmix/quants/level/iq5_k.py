"""IQ5_K: 16 blocks of 16 weights, a 6-bit scale each, 5-bit codes into one of two tables of 32 uneven levels.

Layout of a super-block, 176 bytes::

    0       2                   4                   8                  16                144            176
    +-------+-------------------+-------------------+------------------+-----------------+--------------+
    | d f16 | extra u16: bit j, | scales_h: upper   | scales_l: byte i | qs: low 4 bits, | qh: bit 4 of |
    |       | block j takes the | 2 bits of scale j | = low 4 bits of  | field F64       | all codes,   |
    |       | shifted table     | at bit 2 (j % 4)  | 2 i (low nibble) |                 | field BP     |
    |       |                   | of byte j / 4     | and 2 i + 1      |                 |              |
    +-------+-------------------+-------------------+------------------+-----------------+--------------+
    weight = (d * (scale - 32)) * (IQ5_LEVELS[code] + 2 * shifted)

Source: ``block_iq5_k`` and ``quantize_row_iq5_k_impl`` of ik_llama.cpp.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.common.levels import IQ5_LEVELS
from qxmix.quants.common.numerics import load_half
from qxmix.quants.common.superblock import SUPER, pack_bit, pack_nibbles
from qxmix.quants.jit import inlined
from qxmix.quants.level.codecs import super_codec
from qxmix.quants.level.encoder import LevelType, clamped
from qxmix.quants.level.packing import pack_six_bit_scales, pack_tables, six_bit_scale
from qxmix.quants.level.search import level_search
from qxmix.quants.level.two_tables import TwoTables

BLOCK = 16
NBYTES = 176

TABLES = TwoTables(IQ5_LEVELS, 2)
BOTH = TABLES.both


@inlined
def _pack(codes, levels, shifted, packed):
    pack_tables(shifted, 2, packed)
    pack_six_bit_scales(levels, packed)
    pack_nibbles(codes, packed, 16)
    pack_bit(codes, np.uint8(4), packed, 144)


@inlined
def _put(data, at, flat, start):
    d = load_half(data, at)
    for j in range(SUPER // BLOCK):
        step = d * six_bit_scale(data, at, j)
        table = 32 * ((np.int32(data[at + 2 + j // 8]) >> (j % 8)) & 1)
        i, t = j // 2, BLOCK * (j % 2)
        qs, qh, to = at + 16 + 32 * (i // 2) + t, at + 144 + t, start + BLOCK * j
        for e in range(BLOCK):
            low = (np.int32(data[qs + e]) >> (4 * (i % 2))) & 15
            flat[to + e] = step * BOTH[table + low + (((np.int32(data[qh + e]) >> i) & 1) << 4)]


_UNIT, _LEVEL = clamped(32, -32, 31)
_KIND = LevelType(
    TABLES, level_search(TABLES, 5, refit=True), BLOCK, NBYTES, 2.0, 0.25,
    unit=_UNIT, level=_LEVEL, pack=_pack, skips=True, coarse=True,
)  # fmt: skip
CODECS = {"IQ5_K": super_codec(_KIND, _put, version=4)}
