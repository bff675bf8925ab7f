"""Q3_K: 16 blocks of 16 weights, a 6-bit scale each, 3-bit levels -4..3.

Layout of a super-block, 110 bytes::

    0                     32                  96             108     110
    +---------------------+-------------------+--------------+-------+
    | hmask: bit i of     | qs: low 2 bits,   | scales: 6    | d f16 |
    | byte t = bit 2 of   | field T128        | bits each    |       |
    | weight 32 i + t     |                   |              |       |
    +---------------------+-------------------+--------------+-------+
    scale of block j: low 4 bits in byte j % 8 (nibble j / 8), high 2 in byte 8 + j % 4 at bit 2 * (j / 4); minus 32
    weight = (d * scale) * (code - 4)

Source: ``block_q3_K`` of ggml; ``quantize_row_q3_K_impl`` of ik_llama.cpp with an importance, ``..._ref`` without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.codec import SEARCHES, Codec, Encoder, FeedbackEncoder, search_decides
from qxmix.quants.common.lanes import LANES, weigh_by_square
from qxmix.quants.common.numerics import half_round, load_half, nint
from qxmix.quants.common.search import ZERO_BLOCK, best_linear, largest_value, linear_search, scan_linear
from qxmix.quants.common.simd import WIDTH, any_lane, load, splat, store, where
from qxmix.quants.common.superblock import (
    largest_scale,
    pack_bit,
    pack_two_bits,
    put_half,
    sum_over,
    super_decoder,
    weigh_super,
)
from qxmix.quants.feedback.k_super import scaled_feedback
from qxmix.quants.feedback.nearest import nearest_linear
from qxmix.quants.jit import inlined, kernel, spliced
from qxmix.quants.k_quants.lattice import keep_lattices, leave_lattices
from qxmix.quants.k_quants.linear_k import BLOCK, N_BLOCKS, finding_scales, linear_encoder, round_linear

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxmix.quants.contracts import FindLevels

NBYTES = 110
NMAX = 4
SCALE_NMAX = 32

_0 = np.float32(0.0)
_1 = np.float32(1.0)
_LOW, _HIGH = np.float32(-NMAX), np.float32(NMAX - 1)
_INF = np.float32(np.inf)
_MAGIC = np.float32(12582912.0)


@inlined
def _level(y):
    return min(max((y + _MAGIC) - _MAGIC, _LOW), _HIGH)


@inlined
def _sweep(x, g, s1, s2, q):
    """Give each level in turn the value that fits the others best; the sums after it, and the lanes that changed."""
    changed = s1 < -_INF  # none
    for e in range(BLOCK):
        value, level = load(x, e * LANES + g), load(q, e * LANES + g)
        w = value * value
        wx = w * value
        a1, a2 = s1 - wx * level, s2 - (w * level) * level
        new = _level((value * a2) / a1)
        b1, b2 = a1 + wx * new, a2 + (w * new) * new
        better = (a1 > _0) & (new != level) & (b2 > _0) & ((b1 * b1) * s2 > (s1 * s1) * b2)
        store(q, e * LANES + g, where(better, new, level))
        s1, s2, changed = where(better, b1, s1), where(better, b2, s2), changed | better
    return s1, s2, changed


@kernel
def _search_without_importance(x, scale, q):
    """Scale and levels of each lane for weights ``x * x``: ``make_q3_quants`` of ggml.

    One trial, then up to five sweeps that give each level in turn the value that fits the others best.
    """
    for g in range(0, LANES, WIDTH):
        amax, mx = largest_value(x, g)
        inverse = _LOW / mx
        s1 = s2 = splat(_0)
        for e in range(BLOCK):
            value = load(x, e * LANES + g)
            w, level = value * value, _level(inverse * value)
            store(q, e * LANES + g, level)
            s1, s2 = s1 + (w * value) * level, s2 + (w * level) * level
        for _ in range(5):
            s1, s2, changed = _sweep(x, g, s1, s2, q)
            if not any_lane(changed):
                break
        zero = amax < ZERO_BLOCK
        store(scale, g, where(zero, splat(_0), s1 / s2))
        for e in range(BLOCK):
            store(q, e * LANES + g, where(zero, splat(_LOW), load(q, e * LANES + g)))


@spliced
def _round_scales(scales, levels, d):
    """Levels ``[-32, 31]`` of the block scales, the one of largest magnitude at -32, and the scale of the scales."""
    amax, mx = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    low, high = np.float32(-SCALE_NMAX), np.float32(SCALE_NMAX - 1)
    largest_scale(scales, amax, mx)
    for k in range(LANES):
        amax[k] = low / mx[k]
        d[k] = _1 / amax[k] if mx[k] != _0 else _0
    for j in range(N_BLOCKS):
        for k in range(LANES):
            level = min(max(nint(amax[k] * scales[j, k]), low), high)
            levels[j, k] = level if mx[k] != _0 else low


@spliced
def _pack_scales(levels, packed, at):
    for i in range(12):
        for k in range(LANES):
            packed[at + i, k] = 0
    for j in range(N_BLOCKS):
        for k in range(LANES):
            bits = np.uint8(np.int32(levels[j, k]) + SCALE_NMAX)
            packed[at + j % 8, k] |= np.uint8((bits & np.uint8(15)) << (4 * (j // 8)))
            packed[at + 8 + j % 4, k] |= np.uint8((bits >> np.uint8(4)) << (2 * (j // 4)))


@spliced
def _weigh(x, w, weighted):
    """Without an importance the search weighs each block itself."""
    if weighted:
        weigh_super(x, w, np.float32(2.0))


def _encoder(find: FindLevels, lattices: Callable[..., None], *, own_search: bool) -> Encoder:
    """Build the encoder around ``find``; with ``own_search`` blocks without importance have a search of their own.

    ``lattices`` as ``keep_lattices``.
    """

    @spliced
    def search(x, w, weighted, search, scale, q):
        if weighted or not own_search:
            if not weighted:
                weigh_by_square(x, w)
            find(x, w, np.int64(NMAX), search, scale, q)
        else:
            _search_without_importance(x, scale, q)

    @spliced
    def finish(x, w, weighted, search, scales, code, packed):
        levels, d = np.empty((N_BLOCKS, LANES), np.float32), np.empty(LANES, np.float32)
        if weighted:
            sum_w = np.empty((N_BLOCKS, LANES), np.float32)
            for j in range(N_BLOCKS):
                sum_over(w[BLOCK * j : BLOCK * (j + 1)], sum_w[j])
            find(scales, sum_w, np.int64(SCALE_NMAX), search, d, levels)
        else:
            _round_scales(scales, levels, d)
        lattices(x, NMAX, SCALE_NMAX, d, levels, np.empty(LANES, np.float32))
        _pack_scales(levels, packed, 96)
        put_half(packed, 108, d)
        for k in range(LANES):
            d[k] = half_round(d[k])
        round_linear(x, d, levels, NMAX, code)
        pack_bit(code, np.uint8(2), packed, 0)
        pack_two_bits(code, np.uint8(0), packed, 32)

    return linear_encoder(NMAX, NBYTES, _weigh, search, finish)


@inlined
def _put(data, at, flat, start):
    d = load_half(data, at + 108)
    for j in range(N_BLOCKS):
        low = (np.int32(data[at + 96 + j % 8]) >> (4 * (j // 8))) & 15
        high = (np.int32(data[at + 104 + j % 4]) >> (2 * (j // 4))) & 3
        step = d * np.float32((low | high << 4) - SCALE_NMAX)
        to, t = start + BLOCK * j, BLOCK * (j % 2)
        qs, two, bit = at + 32 + 32 * (j // 8) + t, 2 * (j % 8 // 2), j // 2
        for i in range(BLOCK):
            code = (np.int32(data[qs + i]) >> two) & 3 | ((np.int32(data[at + t + i]) >> bit) & 1) << 2
            flat[to + i] = step * np.float32(code - NMAX)


def _feedback(scan: FindLevels) -> FeedbackEncoder:
    @spliced
    def weigh(x, w, _unit):
        weigh_super(x, w, np.float32(2.0))

    @spliced
    def fill(codes, found, unit, block):
        _pack_scales(found[0], block, 96)
        put_half(block, 108, unit[0])
        pack_bit(codes, np.uint8(2), block, 0)
        pack_two_bits(codes, np.uint8(0), block, 32)

    return scaled_feedback(
        block=BLOCK, nbytes=NBYTES, levels=(-SCALE_NMAX, SCALE_NMAX - 1), weigh=weigh, find=finding_scales(scan, NMAX),
        nearest=nearest_linear(-NMAX, NMAX - 1), fill=fill, n_searched=8,
    )  # fmt: skip


CODECS = {
    "Q3_K": Codec(
        decode=super_decoder(NBYTES, _put),
        encode=search_decides(
            _encoder(scan_linear, leave_lattices, own_search=True),
            exhaustive=_encoder(best_linear, keep_lattices, own_search=False),
        ),
        searches=SEARCHES,
        feedback=search_decides(_feedback(scan_linear), exhaustive=_feedback(best_linear)),
        version=4,
        search_block=linear_search(NMAX),
    )
}
