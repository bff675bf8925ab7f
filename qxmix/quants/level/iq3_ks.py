"""IQ3_KS: a scale per row, 8 blocks of 32 weights with a 5-bit scale each, 3-bit codes into one of two level tables.

A row starts with ``d``, a half.  Layout of each super-block behind it, 102 bytes::

    0                         2                        6                70                 102
    +-------------------------+------------------------+----------------+------------------+
    | extra u16: bit j = bit  | scales: byte j % 4 =   | qs: low 2 bits | qh: bit 2 of all |
    | 4 of scale j, bit 8 + j | low 4 bits of scale j, | of the codes,  | codes, field BP  |
    | set if block j takes    | the low nibble for     | field T128     |                  |
    | the shifted table       | j < 4                  |                |                  |
    +-------------------------+------------------------+----------------+------------------+
    weight = (d * (scale - 16)) * (IQ3_LEVELS[code] + 4 * shifted)

Source: ``block_iq3_ks`` and ``quantize_row_iq3_ks_impl`` of ik_llama.cpp.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.superblock import SUPER, pack_bit, pack_two_bits
from qxmix.quants.jit import inlined
from qxmix.quants.level.codecs import rows_codec
from qxmix.quants.level.encoder import LevelType, clamped
from qxmix.quants.level.iq3_k import BOTH, TABLES
from qxmix.quants.level.packing import pack_tables
from qxmix.quants.level.search import level_search

BLOCK = 32
NBYTES = 102

_16 = np.float32(16.0)


@inlined
def _pack(codes, levels, shifted, packed):
    for j in range(SUPER // BLOCK):
        for k in range(LANES):
            code = np.uint8(np.int32(levels[j, k] + _16))
            high, low = np.uint8((code >> 4) << j), np.uint8((code & 15) << (4 * (j // 4)))
            packed[0, k] = high if j == 0 else packed[0, k] | high
            packed[2 + j % 4, k] = low if j < 4 else packed[2 + j % 4, k] | low  # noqa: PLR2004 - nibbles of 4 bytes
    pack_tables(shifted, 1, packed)
    pack_two_bits(codes, np.uint8(0), packed, 6)
    pack_bit(codes, np.uint8(2), packed, 70)


@inlined
def _put(data, at, d, row, start):
    for j in range(SUPER // BLOCK):
        low = (np.int32(data[at + 2 + j % 4]) >> (4 * (j // 4))) & 15
        step = d * np.float32((low | ((np.int32(data[at]) >> j) & 1) << 4) - 16)
        table = 8 * ((np.int32(data[at + 1]) >> j) & 1)
        qs, qh, to = at + 6 + 32 * (j // 4), at + 70, start + BLOCK * j
        for t in range(BLOCK):
            low = (np.int32(data[qs + t]) >> (2 * (j % 4))) & 3
            row[to + t] = step * BOTH[table + low + (((np.int32(data[qh + t]) >> j) & 1) << 2)]


_UNIT, _LEVEL = clamped(16, -16, 15)
_KIND = LevelType(
    TABLES, level_search(TABLES, 5, careful=True), BLOCK, NBYTES, 2.0, 0.0,
    unit=_UNIT, level=_LEVEL, pack=_pack,
)  # fmt: skip
CODECS = {"IQ3_KS": rows_codec(_KIND, _put)}
