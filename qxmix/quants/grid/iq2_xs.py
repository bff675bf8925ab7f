"""IQ2_XS: super-blocks of 256 weights; groups of 8 from a grid of 512 points, 7 signs each, a 4-bit scale per 16.

Layout of a super-block, 74 bytes; block ``b`` is weights 16 b .., group ``g`` weights 8 g .. of the super-block::

    0       2                                      66                74
    +-------+--------------------------------------+-----------------+
    | d f16 | 32 words of 16 bits, word g:         | scales: nibble  |
    |       |   bits 0 .. 8: grid index            | b, low half     |
    |       |   bits 9 ..: signs of weights 0 .. 6 | first           |
    |       |   of group g; the 8th sign makes the |                 |
    |       |   number of ones even                |                 |
    +-------+--------------------------------------+-----------------+
    weight = d * (0.5 + scale) * 0.25 * grid[index] * sign

Source: ``block_iq2_xs`` of ggml, ``quantize_row_iq2_xs_impl`` of ik_llama.cpp (PR 312).
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.common.numerics import load_half
from qxmix.quants.grid.encoder import ROUNDS, grid_codecs
from qxmix.quants.grid.packing import eighth_sign, put_group, step_of, store_nibbles, take_nibble
from qxmix.quants.jit import inlined, kernel

BLOCK = 16
N_BLOCKS = 16

_0 = np.float32(0.0)


@kernel
def _sort_blocks(v, u):
    """Sort each column of ``v`` (16, 16) ascending, equal values in their order, and ``u`` along with it.

    Odd-even transposition: only neighbours swap, and only where the first is larger, which keeps equal values in order.
    """
    for turn in range(BLOCK):
        for i in range(turn & 1, BLOCK - 1, 2):
            for b in range(N_BLOCKS):
                v0, v1, u0, u1 = v[i, b], v[i + 1, b], u[i, b], u[i + 1, b]
                swap = v0 > v1
                v[i, b] = v1 if swap else v0
                v[i + 1, b] = v0 if swap else v1
                u[i, b] = u1 if swap else u0
                u[i + 1, b] = u0 if swap else u1


@kernel
def _start_at_split(x, w, _wx, _largest, live, top, reach, scale):
    """Trial scales around the best split of the sorted weights into the levels 1, 3 and 5; the 16 blocks in lanes."""
    v, u = np.empty((BLOCK, N_BLOCKS), np.float32), np.empty((BLOCK, N_BLOCKS), np.float32)
    sx, sw = np.zeros((BLOCK + 1, N_BLOCKS), np.float32), np.zeros((BLOCK + 1, N_BLOCKS), np.float32)
    best = np.zeros(N_BLOCKS, np.float32)
    for b in range(N_BLOCKS):
        scale[b] = _0
        for i in range(BLOCK):
            v[i, b] = x[b * BLOCK + i]
            u[i, b] = w[b * BLOCK + i]
    _sort_blocks(v, u)
    for i in range(BLOCK):
        for b in range(N_BLOCKS):
            sx[i + 1, b] = sx[i, b] + u[i, b] * v[i, b]
            sw[i + 1, b] = sw[i, b] + u[i, b]
    for i in range(BLOCK + 1):
        for j in range(i, BLOCK + 1):
            for b in range(N_BLOCKS):
                s1 = sx[i, b] + (sx[j, b] - sx[i, b]) * np.float32(3.0)
                s2 = sw[i, b] + (sw[j, b] - sw[i, b]) * np.float32(9.0)
                s1 += (sx[BLOCK, b] - sx[j, b]) * np.float32(5.0)
                s2 += (sw[BLOCK, b] - sw[j, b]) * np.float32(25.0)
                better = (s2 > _0) & (s1 * s1 > best[b] * s2)
                ratio = s1 / s2
                scale[b] = ratio if better else scale[b]
                best[b] = ratio * s1 if better else best[b]
    for b in range(N_BLOCKS):
        live[b] &= abs(scale[b]) > _0
        reach[b] = scale[b] * top


@inlined
def _fit(d, rows, at, w, values, chosen, signs, ls):
    """The best ``d`` for the grid points, signs and block scales as they will be read, times 1.05."""
    if d == _0:
        return d
    s1, s2 = _0, _0
    for g in range(2 * N_BLOCKS):
        bits = eighth_sign(np.uint32(signs[g]) & np.uint32(127))
        factor = np.float32(0.125) * np.float32(2 * np.int32(ls[g >> 1]) + 1)
        for i in range(8):
            q = factor * values[chosen[g], i]
            q = -q if (bits >> i) & 1 else q
            e = 8 * g + i
            s1 += (w[e] * q) * rows[at + e]
            s2 += (w[e] * q) * q
    return (np.float32(1.05) * s1) / s2 if s2 > _0 else d


@inlined
def _pack(packed, at, ls, chosen, signs):
    for g in range(2 * N_BLOCKS):
        word = np.uint32(chosen[g]) | (np.uint32(signs[g] & 127) << np.uint32(9))
        packed[at + 2 + 2 * g] = np.uint8(word & np.uint32(255))
        packed[at + 3 + 2 * g] = np.uint8(word >> np.uint32(8))
    store_nibbles(packed, at + 66, ls)


@inlined
def _put(data, at, values, flat, to):
    d = load_half(data, at)
    for g in range(32):
        word = np.uint32(data[at + 2 + 2 * g]) | (np.uint32(data[at + 3 + 2 * g]) << np.uint32(8))
        scale = step_of(d, take_nibble(data, at + 66, g >> 1), 0.25)
        put_group(flat, to + 8 * g, scale, values, word & np.uint32(511), eighth_sign(word >> np.uint32(9)))


CODECS = grid_codecs(
    "IQ2_XS", n=8, block=BLOCK, n_wanted=2, trials=7, trial_step=0.1, eps=1e-15, even=True, floor=0.25,
    sigma_factor=1.0, again=ROUNDS, start=_start_at_split, fit=_fit, pack=_pack, put=_put,
    nbytes=74, factor=1.0, unit=0.125, n_tried=5,
)  # fmt: skip
