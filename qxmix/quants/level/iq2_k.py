"""IQ2_K: 16 blocks of 16 weights, a 4-bit scale and one of two level tables each, 2-bit codes.

Layout of a super-block, 76 bytes::

    0       2                     4                     12                  76
    +-------+---------------------+---------------------+-------------------+
    | d f16 | extra u16: bit j    | scales: byte i =    | qs: 2-bit codes,  |
    |       | set if block j has  | scale 2 i (low      | field T128        |
    |       | the shifted table   | nibble), 2 i + 1    |                   |
    +-------+---------------------+---------------------+-------------------+
    weight = (d * (scale - 8)) * table[code]

Source: ``block_iq2_k``, ``quantize_row_iq2_k_impl`` of ik_llama.cpp.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.codec import Codec, at_factor
from qxmix.quants.common.lanes import LANES, load_blocks, load_importance
from qxmix.quants.common.numerics import load_half, nint
from qxmix.quants.common.reinterpret import flattened
from qxmix.quants.common.row_encoder import clear_lanes
from qxmix.quants.common.search import search_plain
from qxmix.quants.common.superblock import (
    SUPER,
    pack_two_bits,
    put_half,
    store_super,
    sum_over,
    super_decoder,
)
from qxmix.quants.feedback.level_super import level_feedback
from qxmix.quants.jit import inlined, kernel, spliced
from qxmix.quants.level.encoder import weigh_of
from qxmix.quants.level.four_levels import BASE, SHIFTED, code_block, fitted, four_level_type
from qxmix.quants.level.packing import pack_tables

BLOCK = 16
N_BLOCKS = SUPER // BLOCK
NBYTES = 76
NMAX = 8

_0 = np.float32(0.0)
_1 = np.float32(1.0)


_BOTH = np.concatenate([BASE, SHIFTED])
"""One table, by which the decoder is a seventh faster than by a choice of two."""


@inlined
def _pack(codes, levels, shifted, packed):
    for j in range(N_BLOCKS):
        for k in range(LANES):
            level = np.uint8((np.int32(levels[j, k]) + NMAX) << (4 * (j % 2)))
            packed[4 + j // 2, k] = level if j % 2 == 0 else packed[4 + j // 2, k] | level
    pack_tables(shifted, 2, packed)
    pack_two_bits(codes, np.uint8(0), packed, 12)


_KIND = four_level_type(block=BLOCK, nbytes=NBYTES, nmax=NMAX, first_end=BLOCK, third_start=0, pack=_pack)
_search, _weigh = _KIND.search, weigh_of(_KIND)


@spliced
def _code_super(x, w, scales, shifted, d, code, factor, packed):
    """Codes and fields of super-blocks whose scales are found, and ``d`` fitted to them, times ``factor``."""
    s1, s2 = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for k in range(LANES):
        s1[k] = s2[k] = _0
    for j in range(N_BLOCKS):
        for k in range(LANES):
            level = min(max(nint((_1 / d[k]) * scales[j, k]), np.float32(-NMAX)), np.float32(NMAX - 1))
            scales[j, k] = level if d[k] != _0 else _0
        of, to = BLOCK * j, BLOCK * j + BLOCK
        code_block(x[of:to], w[of:to], d, scales[j], shifted[j], code[of:to], s1, s2)
    _pack(code, scales, shifted, packed)
    clear_lanes(packed, d)
    for k in range(LANES):
        s1[k] = factor * fitted(s1[k], s2[k], d[k])
    put_half(packed, 0, s1)


@kernel
def _encode(rows, columns, packed, factor):
    flat, out = flattened(rows), flattened(packed)
    n_super = rows.size // SUPER
    x, w = np.empty((SUPER, LANES), np.float32), np.empty((SUPER, LANES), np.float32)
    scales, shifted = np.empty((N_BLOCKS, LANES), np.float32), np.empty((N_BLOCKS, LANES), np.float32)
    found = np.empty((2, LANES), np.float32)
    sum_w, levels = np.empty((N_BLOCKS, LANES), np.float32), np.empty((N_BLOCKS, LANES), np.float32)
    d = np.empty(LANES, np.float32)
    code, block = np.empty((SUPER, LANES), np.uint8), np.empty((NBYTES, LANES), np.uint8)
    for first in range(0, n_super, LANES):
        n = min(LANES, n_super - first)
        load_blocks(flat, first, n, x)
        if len(columns):
            load_importance(columns, first, n, w)
        _weigh(x, w, LANES, len(columns) > 0)
        for j in range(N_BLOCKS):
            of, to = BLOCK * j, BLOCK * j + BLOCK
            sum_over(w[of:to], sum_w[j])
            _search(x[of:to], w[of:to], found)
            for k in range(LANES):
                scales[j, k], shifted[j, k] = found[0, k], found[1, k]
        search_plain(scales, sum_w, NMAX, d, levels)
        _code_super(x, w, scales, shifted, d, code, factor, block)
        store_super(block, first, n, out)


@inlined
def _put(data, at, flat, start):
    d = load_half(data, at)
    extra = np.int32(data[at + 2]) | np.int32(data[at + 3]) << 8
    for j in range(N_BLOCKS):
        step = d * np.float32(((np.int32(data[at + 4 + j // 2]) >> (4 * (j % 2))) & 15) - NMAX)
        table = 4 * ((extra >> j) & 1)
        qs, two = at + 12 + 32 * (j // 8) + 16 * (j % 2), 2 * (j % 8 // 2)
        to = start + BLOCK * j
        for i in range(BLOCK):
            flat[to + i] = step * _BOTH[table + ((np.int32(data[qs + i]) >> two) & 3)]


CODECS = {
    "IQ2_K": Codec(
        decode=super_decoder(NBYTES, _put), encode=at_factor(_encode, 1.03), scaled=_encode,
        feedback=level_feedback(_KIND), version=3,
    )
}  # fmt: skip
