"""IQ3_K: 16 blocks of 16 weights, a sign and a 4-bit scale each, 3-bit codes into one of two tables of 8 uneven levels.

Layout of a super-block, 110 bytes::

    0       2                  4                  6                    14               78             110
    +-------+------------------+------------------+--------------------+----------------+--------------+
    | d f16 | extra u16: bit   | scales_h u16:    | scales_l: byte i = | qs: low 2 bits | qh: bit 2 of |
    |       | j, block j takes | bit j, the scale | scale 2 i (low     | of the codes,  | all codes,   |
    |       | the shifted      | of block j is    | nibble), 2 i + 1   | field T128     | field BP     |
    |       | table            | negative         |                    |                |              |
    +-------+------------------+------------------+--------------------+----------------+--------------+
    weight = (d * +-(2 scale + 1)) * (IQ3_LEVELS[code] + 4 * shifted)

Source: ``block_iq3_k`` and ``quantize_row_iq3_k_impl`` of ik_llama.cpp.  That one also moves single levels along the
gradient, and then uses nothing of what it finds.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.levels import IQ3_LEVELS
from qxmix.quants.common.numerics import load_half, nint
from qxmix.quants.common.superblock import SUPER, pack_bit, pack_two_bits
from qxmix.quants.jit import inlined
from qxmix.quants.level.codecs import super_codec
from qxmix.quants.level.encoder import LevelType
from qxmix.quants.level.packing import pack_tables
from qxmix.quants.level.search import level_search
from qxmix.quants.level.two_tables import TwoTables

BLOCK = 16
NBYTES = 110

TABLES = TwoTables(IQ3_LEVELS, 4)
BOTH = TABLES.both

_0 = np.float32(0.0)
_1 = np.float32(1.0)


@inlined
def _unit(largest, _extreme):
    return largest / np.float32(31.0)


@inlined
def _level(multiple):
    n = min(max(nint(np.float32(0.5) * (abs(multiple) - _1)), _0), np.float32(15.0))
    odd = np.float32(2.0) * n + _1
    return -odd if multiple < _0 else odd


@inlined
def _pack(codes, levels, shifted, packed):
    pack_tables(shifted, 2, packed)
    for j in range(SUPER // BLOCK):
        for k in range(LANES):
            negative = np.uint8((1 if levels[j, k] < _0 else 0) << (j % 8))
            packed[4 + j // 8, k] = negative if j % 8 == 0 else packed[4 + j // 8, k] | negative
            scale = np.uint8((np.int32(abs(levels[j, k])) >> 1) << (4 * (j % 2)))
            packed[6 + j // 2, k] = scale if j % 2 == 0 else packed[6 + j // 2, k] | scale
    pack_two_bits(codes, np.uint8(0), packed, 14)
    pack_bit(codes, np.uint8(2), packed, 78)


@inlined
def _put(data, at, flat, start):
    d = load_half(data, at)
    for j in range(SUPER // BLOCK):
        scale = 2 * ((np.int32(data[at + 6 + j // 2]) >> (4 * (j % 2))) & 15) + 1
        negative = (np.int32(data[at + 4 + j // 8]) >> (j % 8)) & 1
        step = d * np.float32(-scale if negative else scale)
        table = 8 * ((np.int32(data[at + 2 + j // 8]) >> (j % 8)) & 1)
        i, t = j // 2, BLOCK * (j % 2)
        qs, qh, to = at + 14 + 32 * (i // 4) + t, at + 78 + t, start + BLOCK * j
        for e in range(BLOCK):
            low = (np.int32(data[qs + e]) >> (2 * (i % 4))) & 3
            flat[to + e] = step * BOTH[table + low + (((np.int32(data[qh + e]) >> i) & 1) << 2)]


_KIND = LevelType(
    TABLES, level_search(TABLES, 3, stride=2, refit=True, careful=True), BLOCK, NBYTES, 1.5, 0.25,
    unit=_unit, level=_level, pack=_pack, skips=True,
)  # fmt: skip
CODECS = {"IQ3_K": super_codec(_KIND, _put, factor=1.01)}
