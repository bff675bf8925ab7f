"""IQ4_K: 16 blocks of 16 weights, a 6-bit scale each, 4-bit codes into one of two tables of 16 uneven levels.

Layout of a super-block, 144 bytes::

    0       2                   4                    8                    16                              144
    +-------+-------------------+--------------------+--------------------+-------------------------------+
    | d f16 | extra u16: bit j, | scales_h: upper 2  | scales_l: byte i = | qs: byte 16 i + t = weight    |
    |       | block j takes the | bits of scale j at | low 4 bits of 2 i  | 32 i + t in the low,          |
    |       | shifted table     | bit 2 (j % 4) of   | (low nibble),      | 32 i + 16 + t in the high     |
    |       |                   | byte j / 4         | 2 i + 1            | nibble (field H16)            |
    +-------+-------------------+--------------------+--------------------+-------------------------------+
    weight = (d * (scale - 32)) * (IQ4_LEVELS[nibble] + 4 * shifted)

Source: ``block_iq4_k`` and ``quantize_row_iq4_k_impl_bs16`` of ik_llama.cpp.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.common.levels import IQ4_LEVELS
from qxmix.quants.common.numerics import load_half
from qxmix.quants.common.superblock import SUPER
from qxmix.quants.jit import inlined
from qxmix.quants.level.codecs import super_codec
from qxmix.quants.level.encoder import LevelType, clamped
from qxmix.quants.level.packing import pack_h16, pack_six_bit_scales, pack_tables, six_bit_scale
from qxmix.quants.level.search import level_search
from qxmix.quants.level.two_tables import TwoTables

BLOCK = 16
NBYTES = 144

TABLES = TwoTables(IQ4_LEVELS, 4)

BOTH = TABLES.both


@inlined
def _pack(codes, levels, shifted, packed):
    pack_tables(shifted, 2, packed)
    pack_six_bit_scales(levels, packed)
    pack_h16(codes, 16, packed)


@inlined
def _put(data, at, flat, start):
    d = load_half(data, at)
    for j in range(SUPER // BLOCK):
        step = d * six_bit_scale(data, at, j)
        table = 16 * ((np.int32(data[at + 2 + j // 8]) >> (j % 8)) & 1)
        qs, to = at + 16 + 16 * (j // 2), start + BLOCK * j
        for t in range(BLOCK):
            flat[to + t] = step * BOTH[table + ((np.int32(data[qs + t]) >> (4 * (j % 2))) & 15)]


_UNIT, _LEVEL = clamped(32, -32, 31)
_KIND = LevelType(TABLES, level_search(TABLES, 7), BLOCK, NBYTES, 2.0, 0.0, unit=_UNIT, level=_LEVEL, pack=_pack)
CODECS = {"IQ4_K": super_codec(_KIND, _put)}
