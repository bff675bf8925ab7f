"""IQ2_KS: a scale per row; 8 blocks of 32 weights, a 5-bit scale and one of two level tables each, 2-bit codes.

Layout of a row: the row's scale d as f16, then super-blocks of 70 bytes::

    0                    2                    6                   70
    +--------------------+--------------------+-------------------+
    | extra u16: bit j   | scales: byte i =   | qs: 2-bit codes,  |
    | set if block j has | low 4 bits of      | field T128        |
    | the shifted table, | scale 2 i (low     |                   |
    | bit 8 + j = bit 4  | nibble), 2 i + 1   |                   |
    | of scale j         |                    |                   |
    +--------------------+--------------------+-------------------+
    weight = (d * (scale - 16)) * table[code]

Source: ``block_iq2_ks``, ``quantize_row_iq2_ks_impl`` of ik_llama.cpp: the search of ``--slow-iq2-ks`` and of its
library.  The fast one that its llama-quantize takes by default sums with fused multiply-adds, which not every CPU has.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.codec import Codec, at_factor
from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.row_encoder import row_encoder
from qxmix.quants.common.row_scale import row_decoder
from qxmix.quants.common.search import search_plain
from qxmix.quants.common.superblock import SUPER, pack_two_bits, sum_over
from qxmix.quants.feedback.level_super import level_rows_feedback
from qxmix.quants.jit import inlined, spliced
from qxmix.quants.level.encoder import weigh_of
from qxmix.quants.level.four_levels import BASE, SHIFTED, code_block, fitted, four_level_type

BLOCK = 32
N_BLOCKS = SUPER // BLOCK
NBYTES = 70
NMAX = 16
FIRST_END = 24
THIRD_START = 8
"""The search looks at no split with the first boundary at or beyond the one, or the third before the other."""

_0 = np.float32(0.0)


@spliced
def _units(kept, first, n_rows, d):
    """Scale of each row for the scales of all its blocks, which become levels of it."""
    n_blocks, n_super = kept.shape[1], kept.shape[3]
    shape = (n_super * n_blocks, LANES)
    scales, sums, levels = np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.float32)
    for i in range(n_super):
        for j in range(n_blocks):
            for k in range(LANES):
                scales[n_blocks * i + j, k] = kept[0, j, first + k, i] if k < n_rows else _0
                sums[n_blocks * i + j, k] = kept[2, j, first + k, i] if k < n_rows else _0
    search_plain(scales, sums, NMAX, d, levels)
    for i in range(n_super):
        for j in range(n_blocks):
            for k in range(n_rows):
                kept[0, j, first + k, i] = levels[n_blocks * i + j, k]


@inlined
def _pack(codes, levels, shifted, packed):
    for j in range(N_BLOCKS):
        for k in range(LANES):
            scale, bit = np.int32(levels[j, k]) + NMAX, np.int32(shifted[j, k])
            low, at = np.uint8((scale & 15) << (4 * (j % 2))), 2 + j // 2
            packed[0, k] = np.uint8(bit if j == 0 else packed[0, k] | bit << j)
            packed[1, k] = np.uint8(scale >> 4 if j == 0 else packed[1, k] | (scale >> 4) << j)
            packed[at, k] = low if j % 2 == 0 else packed[at, k] | low
    pack_two_bits(codes, np.uint8(0), packed, 6)


_KIND = four_level_type(block=BLOCK, nbytes=NBYTES, nmax=NMAX, first_end=FIRST_END, third_start=THIRD_START, pack=_pack)
_search_block = _KIND.search


@spliced
def _search(x, w, found):
    """Scale, table and sum of weights of a block."""
    sum_over(w, found[2])
    _search_block(x, w, found)


@spliced
def _settle(x, w, _n_lanes, d, found, s1, s2, codes, packed):
    """Codes and fields of a super-block a lane, for the levels in ``found``."""
    for j in range(N_BLOCKS):
        part = slice(BLOCK * j, BLOCK * j + BLOCK)
        code_block(x[part], w[part], d, found[0, j], found[1, j], codes[part], s1, s2)
    _pack(codes, found[0], found[1], packed)


@inlined
def _put(data, at, d, row, start):
    for j in range(N_BLOCKS):
        low = (np.int32(data[at + 2 + j // 2]) >> (4 * (j % 2))) & 15
        high = (np.int32(data[at + 1]) >> j) & 1
        step = d * np.float32((low | high << 4) - NMAX)
        table = SHIFTED if (data[at] >> j) & 1 else BASE
        qs, two, to = at + 6 + 32 * (j // 4), 2 * (j % 4), start + BLOCK * j
        for t in range(BLOCK):
            row[to + t] = step * table[(np.int32(data[qs + t]) >> two) & 3]


@inlined
def _last(s1, s2, d, factor):
    return factor * fitted(s1, s2, d)


_ENCODE = row_encoder(
    block=BLOCK, nbytes=NBYTES, half=True, n_found=3, weigh=weigh_of(_KIND), search=_search, units=_units,
    settle=_settle, last=_last,
)  # fmt: skip
CODECS = {
    "IQ2_KS": Codec(
        decode=row_decoder(NBYTES, _put, half=True), encode=at_factor(_ENCODE, 1.03), scaled=_ENCODE,
        feedback=level_rows_feedback(_KIND), version=2,
    )
}  # fmt: skip
