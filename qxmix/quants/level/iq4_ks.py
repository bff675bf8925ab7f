"""IQ4_KS: a scale per row, 8 blocks of 32 weights with an odd scale each, 4-bit codes into one of two level tables.

A row starts with ``d``, a float32.  Layout of each super-block behind it, 136 bytes::

    0                                    8                                      136
    +------------------------------------+--------------------------------------+
    | scales: byte j = scale j + 127,    | qs: byte 16 j + t = weight 32 j + t  |
    | bit 0 set if block j takes the     | in the low, 32 j + 16 + t in the     |
    | shifted table; the scale is odd    | high nibble (field H16)              |
    +------------------------------------+--------------------------------------+
    weight = (d * scale) * (IQ4_LEVELS[nibble] + 4 * shifted)

Source: ``block_iq4_ks`` and ``quantize_row_iq4_k_impl_bs128`` of ik_llama.cpp.
"""

from __future__ import annotations

from qxmix.quants.common.superblock import SUPER
from qxmix.quants.jit import inlined
from qxmix.quants.level.codecs import rows_codec
from qxmix.quants.level.encoder import LevelType, odd_level, odd_unit
from qxmix.quants.level.iq4_k import BOTH, TABLES
from qxmix.quants.level.packing import odd_scale, pack_h16, pack_odd_scales
from qxmix.quants.level.search import level_search

BLOCK = 32
NBYTES = 136


@inlined
def _pack(codes, levels, shifted, packed):
    pack_odd_scales(levels, shifted, packed)
    pack_h16(codes, 8, packed)


@inlined
def _put(data, at, d, row, start):
    for j in range(SUPER // BLOCK):
        step = d * odd_scale(data[at + j])
        table = 16 * (data[at + j] & 1)
        qs, to = at + 8 + 16 * j, start + BLOCK * j
        for t in range(16):
            row[to + t] = step * BOTH[table + (data[qs + t] & 15)]
            row[to + 16 + t] = step * BOTH[table + (data[qs + t] >> 4)]


_KIND = LevelType(
    TABLES, level_search(TABLES, 7), BLOCK, NBYTES, 2.0, 0.0,
    unit=odd_unit, level=odd_level, pack=_pack, pairwise=True, half=False,
)  # fmt: skip
CODECS = {"IQ4_KS": rows_codec(_KIND, _put)}
