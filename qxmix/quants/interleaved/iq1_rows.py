"""IQ1_S_R4 and IQ1_M_R4: blocks of 32 weights on the grid of IQ1_S, one scale per row; interleaved only.

Not permutations of IQ1_S and IQ1_M: there are no super-blocks, and IQ1_M_R4's scales are linear.  Plain rows, as they
are interleaved; a group is 8 weights, a half 16::

    IQ1_S_R4  row: d f16, then blocks of 6 bytes         IQ1_M_R4  row: d f16, then blocks of 7 bytes
    +----------------------+-----------------------+     +---------------------+------------------------+-----------+
    | qs: byte g = low 8   | qh u16; bits 3 g:     |     | qs: byte g = low 8  | qh: byte h, nibble per | scales:   |
    | bits of group g's    | upper 3 bits of group |     | bits of group g's   | group of half h: upper | nibble h  |
    | index                | g; 12-14: scale; 15:  |     | index               | 3 bits, minus          | = half h  |
    |                      | minus                 |     |                     |                        |           |
    +----------------------+-----------------------+     +---------------------+------------------------+-----------+
    weight = d * (2 * scale + 1) * (grid + delta)         weight = d * scale * (grid + delta)
    delta = -0.125 where the minus is set, else 0.125

    IQ1_S_R4  4 d | unit: qs 16, one byte of each row in turn | qh 8: two bytes of each row
    IQ1_M_R4  4 d | unit: qs 16, qh 8, scales 4: one byte of each row in turn

All but zero blocks get the grid point of eight zeros.  The reference leaves the minus bits of an all but zero half to
what the half before had; here they are not set.  Source: ``quantize_iq1_s_r4`` and ``quantize_iq1_m_r4`` of
ik_llama.cpp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.codec import Codec
from qxmix.quants.common.lanes import LANES, load_blocks, load_importance, sum_of_squares
from qxmix.quants.common.numerics import load_half, nint, store_half
from qxmix.quants.common.reinterpret import flattened
from qxmix.quants.grid.grids import grid_points, load_grid
from qxmix.quants.grid.iq1_m import search_halves
from qxmix.quants.grid.iq1_s import search_block
from qxmix.quants.grid.ternary_grid import DELTA, LONGEST_LIST, N_WANTED
from qxmix.quants.interleaved.bit_fields import runs, span
from qxmix.quants.interleaved.interleave import interleaved
from qxmix.quants.interleaved.moves import Unit
from qxmix.quants.jit import inlined, kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxmix.quants.codec import Columns, Packed, Rows

BLOCK = 32
HALF = 16
S_NBYTES = 6
M_NBYTES = 7
ZEROS = 1029
"""Index of the grid point of eight zeros."""
TINY = np.float32(1e-14)
"""Squares, or squares times weights, that sum up to less say nothing."""

_0, _1, _HALF, _15 = np.float32(0.0), np.float32(1.0), np.float32(0.5), np.float32(15.0)


@kernel
def _weigh(x, w, sigma2, weighted):
    """``w *= root``, ``root = sqrt(sigma2 + x * x)``; the root alone without an importance that tells anything."""
    seen = np.zeros(LANES, np.float32)
    if weighted:
        for e in range(x.shape[0]):
            for k in range(LANES):
                w[e, k] *= np.sqrt(sigma2[k] + x[e, k] * x[e, k])
                seen[k] += w[e, k] * abs(x[e, k])
    for e in range(x.shape[0]):
        for k in range(LANES):
            w[e, k] = np.sqrt(sigma2[k] + x[e, k] * x[e, k]) if seen[k] < TINY else w[e, k]


@inlined
def _store_row_scale(packed, at, scales):
    """Store the scale of a row whose block scales are ``scales``; returns what maps the largest to 15."""
    largest = _0
    for b in range(len(scales)):
        largest = max(largest, scales[b])
    store_half(packed, at, np.float32(1.0625) * largest / _15)
    return _15 / largest if largest > _0 else _0


@kernel
def _encode_s(rows, columns, packed, _values, index, offsets, neighbours):
    flat, out, per_row = flattened(rows), flattened(packed), rows.shape[1] // BLOCK
    n_blocks, row_nbytes = rows.size // BLOCK, packed.shape[1]
    x, w = np.empty((BLOCK, LANES), np.float32), np.empty((BLOCK, LANES), np.float32)
    lanes = np.empty((4, LANES), np.float32)
    scale, shift, squares, sigma2 = lanes[0], lanes[1], lanes[2], lanes[3]
    point, scales = np.empty((4, LANES), np.int32), np.empty(n_blocks, np.float32)
    distance, weighted = np.empty(LONGEST_LIST, np.float32), len(columns) > 0
    for first in range(0, n_blocks, LANES):
        n = min(LANES, n_blocks - first)
        load_blocks(flat, first, n, x)
        if weighted:
            load_importance(columns, first, n, w)
        sum_of_squares(x, squares)
        for k in range(LANES):
            sigma2[k] = np.float32(1.5) * squares[k] / np.float32(BLOCK)
        _weigh(x, w, sigma2, weighted)
        search_block(x, w, scale, shift, point, index, offsets, neighbours, distance)
        for k in range(n):
            at = (first + k) // per_row * row_nbytes + 2 + (first + k) % per_row * S_NBYTES
            live = squares[k] >= TINY
            scales[first + k] = scale[k] if live else _0
            high = np.int32(0x8000 if live and shift[k] != _1 else 0)
            for g in range(4):
                this = point[g, k] if live else np.int32(ZEROS)
                out[at + g] = np.uint8(this & 255)
                high |= (this >> 8) << (3 * g)
            out[at + 4] = np.uint8(high & 255)
            out[at + 5] = np.uint8(high >> 8)
    for r in range(rows.shape[0]):
        own = scales[r * per_row : (r + 1) * per_row]
        inverse = _store_row_scale(out, r * row_nbytes, own)
        for b in range(per_row):
            code = min(max(nint(_HALF * (own[b] * inverse - _1)), _0), np.float32(7.0))
            out[r * row_nbytes + 2 + b * S_NBYTES + 5] |= np.uint8(np.int32(code) << 4)


@kernel
def _encode_m(rows, columns, packed, values, index, offsets, neighbours):
    flat, out, per_row = flattened(rows), flattened(packed), rows.shape[1] // BLOCK
    n_blocks, row_nbytes = rows.size // BLOCK, packed.shape[1]
    x, w = np.empty((BLOCK, LANES), np.float32), np.empty((BLOCK, LANES), np.float32)
    lanes = np.empty((7, LANES), np.float32)
    scale, shift, squares, sigma2 = lanes[0:2], lanes[2:4], lanes[4:6], lanes[6]
    point, level = np.empty((4, LANES), np.int32), np.empty((HALF, LANES), np.uint8)
    live, scales = np.empty((2, LANES), np.bool_), np.empty(2 * n_blocks, np.float32)
    distance, weighted = np.empty(LONGEST_LIST, np.float32), len(columns) > 0
    for first in range(0, n_blocks, LANES):
        n = min(LANES, n_blocks - first)
        load_blocks(flat, first, n, x)
        if weighted:
            load_importance(columns, first, n, w)
        sum_of_squares(x[:HALF], squares[0])
        sum_of_squares(x[HALF:], squares[1])
        for k in range(LANES):
            both = squares[0, k] + squares[1, k]
            sigma2[k] = np.float32(1.5) * both / np.float32(BLOCK)
            for h in range(2):
                live[h, k] = (both >= TINY) & (squares[h, k] > TINY)
        for h in range(2):
            xh, wh = x[HALF * h : HALF * h + HALF], w[HALF * h : HALF * h + HALF]
            _weigh(xh, wh, sigma2, weighted)
            search_halves(
                xh, wh, live[h], ZEROS, scale[h], shift[h], level, point[2 * h : 2 * h + 2], index, offsets,
                neighbours, values, distance,
            )  # fmt: skip
        for k in range(n):
            at = (first + k) // per_row * row_nbytes + 2 + (first + k) % per_row * M_NBYTES
            for h in range(2):
                scales[2 * (first + k) + h] = scale[h, k]
                a, b, minus = point[2 * h, k], point[2 * h + 1, k], np.int32(shift[h, k])
                out[at + 2 * h], out[at + 2 * h + 1] = np.uint8(a & 255), np.uint8(b & 255)
                out[at + 4 + h] = np.uint8(a >> 8 | (b >> 8) << 4 | (minus & 2) << 2 | (minus & 1) << 7)
    for r in range(rows.shape[0]):
        own = scales[2 * r * per_row : 2 * (r + 1) * per_row]
        inverse = _store_row_scale(out, r * row_nbytes, own)
        for b in range(per_row):
            low = np.int32(min(max(nint(own[2 * b] * inverse), _0), _15))
            high = np.int32(min(max(nint(own[2 * b + 1] * inverse), _0), _15))
            out[r * row_nbytes + 2 + b * M_NBYTES + 6] = np.uint8(low | high << 4)


@inlined
def _put(x, to, step, values, point, minus):
    for i in range(8):
        x[to + i] = step * (values[point, i] + (-DELTA if minus else DELTA))


@inlined
def _put_s(data, at, d, x, to, values):
    high = np.int32(data[at + 4]) | np.int32(data[at + 5]) << 8
    step = d * np.float32(2 * (high >> 12 & 7) + 1)
    for g in range(4):
        _put(x, to + 8 * g, step, values, np.int32(data[at + g]) | (high >> 3 * g & 7) << 8, high >> 15)


@inlined
def _put_m(data, at, d, x, to, values):
    for g in range(4):
        step = d * np.float32(np.int32(data[at + 6]) >> 4 * (g // 2) & 15)
        nibble = np.int32(data[at + 4 + g // 2]) >> 4 * (g % 2) & 15
        _put(x, to + 8 * g, step, values, np.int32(data[at + g]) | (nibble & 7) << 8, nibble & 8)


def _decoder(nbytes: int, put_block: Callable[..., None]) -> Callable[..., None]:
    @kernel
    def decode(packed, rows, values):
        for r in range(rows.shape[0]):
            data, x = packed[r], rows[r]
            d = load_half(data, 0)
            for b in range(len(x) // BLOCK):
                put_block(data, 2 + b * nbytes, d, x, BLOCK * b, values)

    return decode


def _plain(encode: Callable[..., None], decode: Callable[..., None]) -> Codec:
    def encode_rows(rows: Rows, columns: Columns, packed: Packed, _search: int) -> None:
        grid = load_grid("IQ1_S", N_WANTED)
        encode(rows, columns, packed, grid_points("IQ1_S"), grid.index, grid.offsets, grid.neighbours)

    def decode_rows(packed: Packed, rows: Rows) -> None:
        decode(packed, rows, grid_points("IQ1_S"))

    return Codec(decode=decode_rows, encode=encode_rows)


_INDEX = (span(0, 4), runs(0, 4, 4, 1))
_S = Unit(4, S_NBYTES, (_INDEX, (span(4, 2), runs(16, 4, 2, 2))), meta_nbytes=2)
_M = Unit(4, M_NBYTES, (_INDEX, (span(4, 2), runs(16, 4, 2, 1)), (span(6, 1), runs(24, 4, 1, 1))), meta_nbytes=2)

CODECS = {
    "IQ1_S_R4": interleaved(_plain(_encode_s, _decoder(S_NBYTES, _put_s)), _S),
    "IQ1_M_R4": interleaved(_plain(_encode_m, _decoder(M_NBYTES, _put_m)), _M),
}
