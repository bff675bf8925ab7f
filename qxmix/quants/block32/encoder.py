"""What the types with blocks of 32 weights share: weights, and the encoders around a search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.block32.lattice import put_on_lattice, scales_on_lattice
from qxmix.quants.codec import search_decides
from qxmix.quants.common.lanes import (
    LANES,
    load_blocks,
    load_importance,
    row_mean_squares,
    sum_of_squares,
    usable_importance,
    weigh_by_square,
)
from qxmix.quants.common.reinterpret import flattened
from qxmix.quants.common.search import best_linear, scan_linear
from qxmix.quants.common.search_affine import search_affine
from qxmix.quants.common.simd import WIDTH, load
from qxmix.quants.jit import inlined, kernel, spliced

if TYPE_CHECKING:
    from qxmix.quants.codec import Encoder
    from qxmix.quants.contracts import FindBlock, PackBlock

BLOCK = 32

_0 = np.float32(0.0)


@inlined
def weigh_by_variance(x, w, sigma2):
    """``w *= sqrt(sigma2 + x * x)`` with ``sigma2`` (LANES,)."""
    for e in range(x.shape[0]):
        for k in range(LANES):
            w[e, k] *= np.sqrt(sigma2[k] + x[e, k] * x[e, k])


@spliced
def load_row_sigma2(sigma2_of_row, first, n_blocks, blocks_per_row, sigma2):
    """Mean square of the row that each lane's block belongs to."""
    for k in range(LANES):
        sigma2[k] = sigma2_of_row[(first + k) // blocks_per_row] if k < n_blocks else _0


@inlined
def codes_of_lane(q, k, line):
    """Codes of lane ``k`` of ``q`` (32, LANES) as two vectors, by way of ``line`` (32,)."""
    for e in range(BLOCK):
        line[e] = q[e, k]
    return load(line, 0), load(line, WIDTH)


def block_encoder(
    block_nbytes: int, find: FindBlock, pack: PackBlock, *, by_row: bool = True, always: bool = False
) -> Encoder:
    """Build the encoder of blocks of ``block_nbytes`` bytes, LANES of them at a time.

    Weights are ``importance * sqrt(variance + x * x)``, without an importance ``x * x``.  The variance is the mean
    square of the row, or twice that of the block if not ``by_row``.  ``always`` there is an importance: nothing else is
    compiled.  ``find(x, w, search, scale, minimum, q)`` writes scales (LANES,), minimums where the type has them, and
    codes (32, LANES), whole float32 from 0 up.  ``pack(packed, at, scale, minimum, low, high)`` stores a block at
    ``packed[at:]``: weights 0 .. 15 have the codes ``low``, the others ``high``, vectors of float32.
    """

    @kernel
    def encode(rows, columns, packed, search):
        flat, out = flattened(rows), flattened(packed)
        n_blocks, blocks_per_row = rows.size // BLOCK, rows.shape[1] // BLOCK
        x, w = np.empty((BLOCK, LANES), np.float32), np.empty((BLOCK, LANES), np.float32)
        q, minimum = np.empty((BLOCK, LANES), np.float32), np.empty(LANES, np.float32)
        scale, sigma2_of_row = np.empty(LANES, np.float32), np.empty(rows.shape[0], np.float32)
        line, weighted = np.empty(BLOCK, np.float32), len(columns) > 0
        if by_row and (always or weighted):
            row_mean_squares(rows, sigma2_of_row)
        columns = usable_importance(columns, BLOCK)
        for first in range(0, n_blocks, LANES):
            n = min(LANES, n_blocks - first)
            load_blocks(flat, first, n, x)
            if always or weighted:
                load_importance(columns, first, n, w)
                if by_row:
                    load_row_sigma2(sigma2_of_row, first, n, blocks_per_row, scale)
                else:
                    sum_of_squares(x, scale)
                    for k in range(LANES):
                        # 2 * sum / 32; both are powers of two, so the order of the two makes no difference
                        scale[k] *= np.float32(2.0 / BLOCK)
                weigh_by_variance(x, w, scale)
            else:
                weigh_by_square(x, w)
            find(x, w, search, scale, minimum, q)
            for k in range(n):
                low, high = codes_of_lane(q, k, line)
                pack(out, (first + k) * block_nbytes, scale[k], minimum[k], low, high)

    return encode


def linear_encoder(nmax: int, block_nbytes: int, pack: PackBlock, *, always: bool = False) -> Encoder:
    """Build the encoder that searches a scale for levels ``[-nmax, nmax - 1]``; codes are levels plus ``nmax``.

    ``always`` as for ``block_encoder``.
    """
    offset = np.float32(nmax)

    @inlined
    def pack_levels(packed, at, scale, minimum, low, high):
        pack(packed, at, scale, minimum, low + offset, high + offset)

    @spliced
    def scan(x, w, search, scale, _minimum, q):
        scan_linear(x, w, nmax, search, scale, q)

    @spliced
    def best(x, w, search, scale, _minimum, q):
        told = np.empty(LANES, np.float32)
        scales_on_lattice(x, w, nmax, told)
        best_linear(x, w, nmax, search, scale, q)
        put_on_lattice(x, told, scale, q)

    scanning, exhaustive = (block_encoder(block_nbytes, find, pack_levels, always=always) for find in (scan, best))
    return search_decides(scanning, exhaustive=exhaustive)


def affine_encoder(nmax: int, block_nbytes: int, pack: PackBlock) -> Encoder:
    """Build the encoder that searches scale and minimum for codes ``[0, nmax]``; it needs an importance."""

    @spliced
    def find(x, w, _search, scale, minimum, q):
        search_affine(x, w, nmax, scale, minimum, q)

    return block_encoder(block_nbytes, find, pack, always=True)
