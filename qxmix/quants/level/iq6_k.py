"""IQ6_K: 16 blocks of 16 weights, an 8-bit scale each, 6-bit codes into one of two tables of 64 uneven levels.

Layout of a super-block, 212 bytes::

    0       2                   4            20                     148                     212
    +-------+-------------------+------------+----------------------+-----------------------+
    | d f16 | extra u16: bit j, | scales: i8 | qs: low 4 bits of    | qh: upper 2 bits,     |
    |       | block j takes the | of 16      | the codes, field F64 | field T128            |
    |       | shifted table     | blocks     |                      |                       |
    +-------+-------------------+------------+----------------------+-----------------------+
    weight = (d * scale) * (level(code) + shifted)

The encoder and the engine's matrix products take ``IQ6_LEVELS`` for the levels, its scalar decoder the cubic that these
are rounded from; so does this one.

Source: ``block_iq6_k``, ``quantize_row_iq6_k_impl`` and ``dequantize_row_iq6_k`` of ik_llama.cpp.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.levels import IQ6_LEVELS
from qxmix.quants.common.numerics import load_half
from qxmix.quants.common.superblock import SUPER, pack_nibbles, pack_two_bits
from qxmix.quants.jit import inlined
from qxmix.quants.level.codecs import super_codec
from qxmix.quants.level.encoder import LevelType, clamped
from qxmix.quants.level.packing import pack_tables
from qxmix.quants.level.search import level_search
from qxmix.quants.level.two_tables import TwoTables

BLOCK = 16
NBYTES = 212

TABLES = TwoTables(IQ6_LEVELS, 1)

_CODE = np.arange(64, dtype=np.float32)
_CUBIC = np.float32(-127) + _CODE * (
    np.float32(6.2568) + _CODE * (np.float32(-0.11218) + _CODE * np.float32(0.0011972))
)
_BOTH = np.concatenate([_CUBIC, _CUBIC + np.float32(1)])


@inlined
def _pack(codes, levels, shifted, packed):
    pack_tables(shifted, 2, packed)
    for j in range(SUPER // BLOCK):
        for k in range(LANES):
            packed[4 + j, k] = np.uint8(np.int32(levels[j, k]) & 255)
    pack_nibbles(codes, packed, 20)
    pack_two_bits(codes, np.uint8(4), packed, 148)


@inlined
def _put(data, at, flat, start):
    d = load_half(data, at)
    for j in range(SUPER // BLOCK):
        step = d * np.float32(np.int8(data[at + 4 + j]))
        table = 64 * ((np.int32(data[at + 2 + j // 8]) >> (j % 8)) & 1)
        i, t = j // 2, BLOCK * (j % 2)
        qs, qh, to = at + 20 + 32 * (i // 2) + t, at + 148 + 32 * (i // 4) + t, start + BLOCK * j
        for e in range(BLOCK):
            low = (np.int32(data[qs + e]) >> (4 * (i % 2))) & 15
            flat[to + e] = step * _BOTH[table + low + (((np.int32(data[qh + e]) >> (2 * (i % 4))) & 3) << 4)]


_UNIT, _LEVEL = clamped(127, -127, 127)
_KIND = LevelType(
    TABLES, level_search(TABLES, 5, refit=True), BLOCK, NBYTES, 2.0, 0.25,
    unit=_UNIT, level=_LEVEL, pack=_pack, skips=True,
)  # fmt: skip
CODECS = {"IQ6_K": super_codec(_KIND, _put)}
