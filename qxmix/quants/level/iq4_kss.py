"""IQ4_KSS: a scale per row; 8 blocks of 32 weights, a 7-bit scale and one of two level tables each, 3.75-bit codes.

Layout of a row: the row's scale d as f32, then super-blocks of 128 bytes, 64 u16, of which 8 j + k is::

     15                                                         1   0
    +------------------------------------------------------------+---+
    | codes of weights 2 k, 2 k + 16, 2 k + 1, 2 k + 17 of block | s |
    | j, 4 bits each, as bits that differ: see below             |   |
    +------------------------------------------------------------+---+

The four codes have an even number of one bits between them, so 15 bits tell them: bit i of the word (i > 0) is the
parity of bits i to 15 of the codes.  ``w & 0xfffe`` xor itself shifted right by one gives the codes back.  The bits s
are those of a byte, bit k in word k of the block: bit 0 names the shifted table, the others are the odd scale plus 127.

    weight = (d * scale) * (IQ4_LEVELS[code] + 4 * shifted)

Source: ``block_iq4_kss``, ``quantize_row_iq4_kss_impl`` of ik_llama.cpp.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.codec import Codec, at_factor
from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.row_encoder import row_encoder, units_by
from qxmix.quants.common.row_scale import load_float
from qxmix.quants.common.simd import WIDTH, gather, load, splat, store, store_bytes, where
from qxmix.quants.common.superblock import SUPER
from qxmix.quants.common.weigh_ik import weigh_lanes
from qxmix.quants.jit import inlined, kernel, spliced
from qxmix.quants.level.encoder import odd_level, odd_unit
from qxmix.quants.level.even_codes import (
    FIRST,
    HALF,
    SECOND,
    SIGN,
    THIRD,
    cheapest,
    code_of,
    even_four,
    levels_of,
    search_even,
)
from qxmix.quants.level.iq4_k import BOTH, TABLES

BLOCK = 32
N_BLOCKS = SUPER // BLOCK
NBYTES = 128
META_NBYTES = 4
VARIANCE = 2.0
"""Of the variance of a super-block, what counts in a weight."""
_SHIFT = TABLES.shift

_0 = np.float32(0.0)
_1 = np.float32(1.0)
_16 = np.float32(16.0)


@inlined
def _choose(x, w, g, e, inverse, step, side):
    """Of one weight: sign of its code, code, cost of the cheapest move, code after it."""
    v, u = load(x, e * LANES + g), load(w, e * LANES + g)
    code = code_of(inverse * v, side)
    tags = (code, gather(FIRST, code), gather(SECOND, code), gather(THIRD, code))
    cost, move = cheapest(v, u, step, side * _SHIFT, levels_of(code, side), tags)
    return gather(SIGN, code), code, cost, move


@kernel
def _fit(x, w, g, inverse, step, side, codes):
    """Codes (32, WIDTH) of a block in one of the tables, made even, and their weighted squared error."""
    error = splat(_0)
    for k in range(0, HALF, 2):
        even = even_four(
            _choose(x, w, g, k, inverse, step, side),
            _choose(x, w, g, k + HALF, inverse, step, side),
            _choose(x, w, g, k + 1, inverse, step, side),
            _choose(x, w, g, k + 1 + HALF, inverse, step, side),
        )
        for i in range(4):
            e = k + i // 2 + HALF * (i % 2)
            store(codes, e * WIDTH, even[i])
            away = load(x, e * LANES + g) - step * gather(BOTH, even[i] + _16 * side)
            error = error + (load(w, e * LANES + g) * away) * away
    return error


@kernel
def _code_block(x, w, n_lanes, d, level, shifted, s1, s2, codes):
    """Codes of a block in the better table, which ``shifted`` gets, and their terms added to the sums for the row."""
    base, other = np.empty(BLOCK * WIDTH, np.float32), np.empty(BLOCK * WIDTH, np.float32)
    for g in range(0, n_lanes, WIDTH):
        multiple = load(level, g)
        step = load(d, g) * multiple
        inverse = _1 / step
        error = _fit(x, w, g, inverse, step, splat(_0), base)
        shift = _fit(x, w, g, inverse, step, splat(_1), other) < error
        store(shifted, g, where(shift, splat(_1), splat(_0)))
        t1, t2 = load(s1, g), load(s2, g)
        for i in range(BLOCK):
            e = HALF * (i % 2) + i // 2
            code = where(shift, load(other, e * WIDTH), load(base, e * WIDTH))
            store_bytes(codes, e * LANES + g, code)
            q = multiple * gather(BOTH, code + where(shift, splat(_16), splat(_0)))
            weighted = load(w, e * LANES + g) * q
            t1, t2 = t1 + weighted * load(x, e * LANES + g), t2 + weighted * q
        store(s1, g, t1)
        store(s2, g, t2)


@inlined
def _pack_block(j, level, shifted, codes, packed):
    """The words of block j."""
    for i in range(8):
        for k in range(LANES):
            scale = np.int32(level[k] + np.float32(127.0)) | np.int32(shifted[k])
            a, b = np.int32(codes[2 * i, k]), np.int32(codes[2 * i + HALF, k])
            c, d = np.int32(codes[2 * i + 1, k]), np.int32(codes[2 * i + 1 + HALF, k])
            word = np.int32(a | b << 4 | c << 8 | d << 12)
            word ^= word >> 1
            word ^= word >> 2
            word ^= word >> 4
            word ^= word >> 8
            word = np.int32((word & 0xFFFE) | ((scale >> i) & 1))
            packed[16 * j + 2 * i, k] = np.uint8(word & 255)
            packed[16 * j + 2 * i + 1, k] = np.uint8(word >> 8)


@spliced
def _settle(x, w, n_lanes, d, found, s1, s2, codes, packed):
    """Levels, codes and fields of a super-block a lane, for scales that are odd multiples of ``d``."""
    shifted = np.empty(LANES, np.float32)
    for k in range(LANES):
        shifted[k] = _0
    for j in range(N_BLOCKS):
        part, level = slice(BLOCK * j, BLOCK * j + BLOCK), found[0, j]
        for k in range(LANES):
            level[k] = odd_level((_1 / d[k] if d[k] != _0 else _0) * level[k])
        _code_block(x[part], w[part], n_lanes, d, level, shifted, s1, s2, codes[part])
        _pack_block(j, level, shifted, codes[part], packed)


@inlined
def _last(s1, s2, d, factor):
    return (s1 / s2) * factor if s2 > _0 else d


@kernel
def _decode(packed, rows):
    for r in range(rows.shape[0]):
        data, row = packed[r], rows[r]
        d = load_float(data, 0)
        for j in range(rows.shape[1] // BLOCK):
            at, scale = META_NBYTES + 16 * j, np.int32(0)
            for k in range(8):
                scale |= (np.int32(data[at + 2 * k]) & 1) << k
            step, table = d * np.float32((scale & 254) - 127), 16 * (scale & 1)
            for k in range(8):
                word = np.int32(data[at + 2 * k]) & 0xFE | np.int32(data[at + 2 * k + 1]) << 8
                word ^= word >> 1
                to = BLOCK * j + 2 * k
                row[to] = step * BOTH[table + (word & 15)]
                row[to + HALF] = step * BOTH[table + (word >> 4 & 15)]
                row[to + 1] = step * BOTH[table + (word >> 8 & 15)]
                row[to + 1 + HALF] = step * BOTH[table + (word >> 12)]


_ENCODE = row_encoder(
    block=BLOCK, nbytes=NBYTES, half=False, n_found=1, weigh=weigh_lanes(BLOCK, VARIANCE, 0.0), search=search_even,
    units=units_by(odd_unit), settle=_settle, last=_last,
)  # fmt: skip
CODECS = {"IQ4_KSS": Codec(decode=_decode, encode=at_factor(_ENCODE, 1.01), scaled=_ENCODE)}
