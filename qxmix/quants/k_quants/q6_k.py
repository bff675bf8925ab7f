"""Q6_K: 16 blocks of 16 weights, an 8-bit scale each, 6-bit levels -32..31.

Layout of a super-block, 210 bytes, g counting its halves of 128 weights::

    0                              128                   192            208     210
    +------------------------------+---------------------+--------------+-------+
    | ql: byte 64 g + t (t < 64):  | qh: upper 2 bits,   | scales: i8   | d f16 |
    | low 4 bits of weights        | field T128          | of 16 blocks |       |
    | 128 g + t and 128 g + 64 + t |                     |              |       |
    +------------------------------+---------------------+--------------+-------+
    weight = (d * scale) * (code - 32)

Source: ``block_q6_K`` of ggml, ``quantize_row_q6_K_impl`` of ik_llama.cpp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.codec import SEARCHES, Codec, Encoder, FeedbackEncoder, search_decides
from qxmix.quants.common.lanes import LANES, weigh_by_square
from qxmix.quants.common.numerics import half_round, load_half, nint
from qxmix.quants.common.search import ZERO_BLOCK, best_linear, linear_search, scan_linear
from qxmix.quants.common.superblock import largest_scale, pack_nibbles, pack_two_bits, put_half, super_decoder
from qxmix.quants.feedback.k_super import scaled_feedback
from qxmix.quants.feedback.nearest import nearest_linear
from qxmix.quants.jit import inlined, spliced
from qxmix.quants.k_quants.lattice import keep_lattices, leave_lattices
from qxmix.quants.k_quants.linear_k import BLOCK, N_BLOCKS, finding_scales, linear_encoder, round_linear

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxmix.quants.contracts import FindLevels

NBYTES = 210
NMAX = 32

_0 = np.float32(0.0)
_1 = np.float32(1.0)


@spliced
def _clear_zero(amax, packed):
    """Zero all bytes of a super-block in which no block has a scale."""
    for i in range(NBYTES):
        for k in range(LANES):
            packed[i, k] = np.uint8(0) if amax[k] < ZERO_BLOCK else packed[i, k]


@spliced
def _weigh(x, w, weighted):
    """The importance itself: alone among the types with linear levels this one adds no variance."""
    if not weighted:
        weigh_by_square(x, w)


def _finishing(lattices: Callable[..., None]) -> Callable[..., None]:
    """Build what rounds and packs the scales; ``lattices`` as ``keep_lattices``."""

    @spliced
    def finish(x, _w, _weighted, _method, scales, code, packed):
        lanes = np.empty((4, LANES), np.float32)
        amax, mx, inverse, d = lanes[0], lanes[1], lanes[2], lanes[3]
        largest_scale(scales, amax, mx)
        for k in range(LANES):
            inverse[k] = np.float32(-128.0) / mx[k]
            d[k] = _1 / inverse[k]
        for j in range(N_BLOCKS):
            for k in range(LANES):
                level = min(nint(inverse[k] * scales[j, k]), np.float32(127.0))
                scales[j, k] = level if amax[k] >= ZERO_BLOCK else _0
        lattices(x, NMAX, 128, d, scales, amax)
        put_half(packed, 208, d)
        for k in range(LANES):
            d[k] = half_round(d[k])
        for j in range(N_BLOCKS):
            for k in range(LANES):
                packed[192 + j, k] = np.uint8(np.int32(scales[j, k]) & 255)
        round_linear(x, d, scales, NMAX, code)
        pack_nibbles(code, packed, 0, 64)
        pack_two_bits(code, np.uint8(4), packed, 128)
        _clear_zero(amax, packed)

    return finish


@inlined
def _put(data, at, flat, start):
    d = load_half(data, at + 208)
    for j in range(4):
        # Four blocks share their bytes: those of weights 32 on, 64 on and 96 on.
        g, t = j // 2, BLOCK * (j % 2)
        to, ql, qh, scale = start + 128 * g + t, at + 64 * g + t, at + 128 + 32 * g + t, at + 192 + 8 * g + j % 2
        step, step_32 = d * np.float32(np.int8(data[scale])), d * np.float32(np.int8(data[scale + 2]))
        step_64, step_96 = d * np.float32(np.int8(data[scale + 4])), d * np.float32(np.int8(data[scale + 6]))
        for i in range(BLOCK):
            a, b, high = np.int32(data[ql + i]), np.int32(data[ql + 32 + i]), np.int32(data[qh + i])
            flat[to + i] = step * np.float32((a & 15 | (high & 3) << 4) - NMAX)
            flat[to + 32 + i] = step_32 * np.float32((b & 15 | (high >> 2 & 3) << 4) - NMAX)
            flat[to + 64 + i] = step_64 * np.float32((a >> 4 | (high >> 4 & 3) << 4) - NMAX)
            flat[to + 96 + i] = step_96 * np.float32((b >> 4 | (high >> 6) << 4) - NMAX)


def _encoder(find: FindLevels, lattices: Callable[..., None]) -> Encoder:
    @spliced
    def search(x, w, _weighted, search, scale, q):
        find(x, w, np.int64(NMAX), search, scale, q)

    return linear_encoder(NMAX, NBYTES, _weigh, search, _finishing(lattices))


def _feedback(scan: FindLevels) -> FeedbackEncoder:
    @spliced
    def weigh(_x, _w, _unit):
        pass

    @spliced
    def fill(codes, found, unit, block):
        for j in range(N_BLOCKS):
            for k in range(LANES):
                block[192 + j, k] = np.uint8(np.int32(found[0, j, k]) & 255)
        put_half(block, 208, unit[0])
        pack_nibbles(codes, block, 0, 64)
        pack_two_bits(codes, np.uint8(4), block, 128)

    return scaled_feedback(
        block=BLOCK, nbytes=NBYTES, levels=(-128, 127), weigh=weigh, find=finding_scales(scan, NMAX),
        nearest=nearest_linear(-NMAX, NMAX - 1), fill=fill, n_searched=8,
    )  # fmt: skip


CODECS = {
    "Q6_K": Codec(
        decode=super_decoder(NBYTES, _put),
        encode=search_decides(_encoder(scan_linear, leave_lattices), exhaustive=_encoder(best_linear, keep_lattices)),
        searches=SEARCHES,
        feedback=search_decides(_feedback(scan_linear), exhaustive=_feedback(best_linear)),
        version=4,
        search_block=linear_search(NMAX),
    )
}
