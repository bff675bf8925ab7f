"""The encoder around the search of any type with super-blocks and one scale in front of each row.

First all blocks are searched, super-blocks side by side whatever row they belong to.  What was found gives the scale d
of a row; only then, row beside row, the blocks get the multiples of d that are stored, and their codes.  The sums for
the last fit of d collect on the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.common.lanes import LANES, load_blocks, load_importance
from qxmix.quants.common.numerics import store_half
from qxmix.quants.common.reinterpret import flattened
from qxmix.quants.common.row_scale import load_columns, load_rows, store_float, store_rows
from qxmix.quants.common.simd import WIDTH
from qxmix.quants.common.superblock import SUPER
from qxmix.quants.jit import inlined, kernel, spliced

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxmix.quants.contracts import WeighLanes

_0 = np.float32(0.0)


@inlined
def clear_lanes(packed, by):
    """Zero all bytes in the lanes where ``by`` is zero."""
    for i in range(packed.shape[0]):
        for k in range(LANES):
            packed[i, k] = packed[i, k] if by[k] != _0 else np.uint8(0)


def _search_rows(block: int, n_found: int, weigh: WeighLanes, search: Callable[..., None]) -> Callable[..., None]:
    @spliced
    def search_rows(rows, columns, x, w, kept):
        """What was found for each block: ``kept`` (n_found, n_blocks of a super-block, n_rows, n_super)."""
        flat, to, n_super, n_blocks = flattened(rows), flattened(kept), rows.size // SUPER, SUPER // block
        found = np.empty((n_found, LANES), np.float32)
        for first in range(0, n_super, LANES):
            n = min(LANES, n_super - first)
            load_blocks(flat, first, n, x)
            if len(columns):
                load_importance(columns, first, n, w)
            weigh(x, w, LANES, len(columns) > 0)
            for j in range(n_blocks):
                part = slice(block * j, block * j + block)
                search(x[part], w[part], found)
                for i in range(n_found):
                    for k in range(n):
                        to[(i * n_blocks + j) * n_super + first + k] = found[i, k]

    return search_rows


def units_by(unit_of: Callable[..., np.float32]) -> Callable[..., None]:
    """Build ``units`` of ``row_encoder``: the largest magnitude of a row's block scales, and the scale that has it."""

    @spliced
    def units(kept, first, n_rows, d):
        for k in range(n_rows):
            largest = extreme = _0
            for i in range(kept.shape[3]):
                for j in range(kept.shape[1]):
                    scale = kept[0, j, first + k, i]
                    extreme = scale if abs(scale) > largest else extreme
                    largest = max(abs(scale), largest)
            d[k] = unit_of(largest, extreme)

    return units


@inlined
def _take(kept, first, n_rows, super_block, found):
    """What a super-block of rows ``first ..`` has, a row a lane; zero in the lanes beyond."""
    for i in range(kept.shape[0]):
        for j in range(kept.shape[1]):
            for k in range(LANES):
                found[i, j, k] = kept[i, j, first + k, super_block] if k < n_rows else _0


def row_encoder(
    *,
    block: int,
    nbytes: int,
    half: bool,
    n_found: int,
    weigh: WeighLanes,
    search: Callable[..., None],
    units: Callable[..., None],
    settle: Callable[..., None],
    last: Callable[..., np.float32],
) -> Callable[..., None]:
    """Build an encoder ``encode(rows, columns, packed, given)``; behind a d of 0 a row is all zero bytes.

    Args:
        block: Weights per block.
        nbytes: Bytes of a super-block.
        half: d is stored as a half, else as a float32.
        n_found: Floats that a search leaves for each block.
        weigh: ``(x, w, n_lanes, weighted)`` turns importances, if there are any, into weights, both (256, LANES).
        search: ``(x, w, found)`` writes what it found for a block (n, LANES) to ``found`` (n_found, LANES).
        units: ``(kept, first, n_rows, d)`` writes d of rows ``first ..`` from ``kept``, (n_found, n_blocks, n_rows,
            n_super), which it may change.
        settle: ``(x, w, n_lanes, d, found, s1, s2, codes, packed)`` packs a super-block a lane and adds its terms to
            the sums; ``found`` is (n_found, n_blocks, LANES), ``codes`` (256, LANES) scratch.
        last: ``(s1, s2, d, given)`` gives the scale to store; ``given`` is the encoder's: a search, or a factor.

    """
    search_rows, meta_nbytes = _search_rows(block, n_found, weigh, search), 2 if half else 4

    @kernel
    def encode(rows, columns, packed, given):
        n_rows, n_super, n_blocks = rows.shape[0], rows.shape[1] // SUPER, SUPER // block
        x, w = np.empty((SUPER, LANES), np.float32), np.empty((SUPER, LANES), np.float32)
        codes, out = np.empty((SUPER, LANES), np.uint8), np.empty((nbytes, LANES), np.uint8)
        kept = np.empty((n_found, n_blocks, n_rows, n_super), np.float32)
        found = np.empty((n_found, n_blocks, LANES), np.float32)
        d, s1, s2 = np.empty(LANES, np.float32), np.empty(LANES, np.float32), np.empty(LANES, np.float32)
        search_rows(rows, columns, x, w, kept)
        for first in range(0, n_rows, LANES):
            n = min(LANES, n_rows - first)
            n_lanes = -(-n // WIDTH) * WIDTH
            for k in range(LANES):
                d[k] = s1[k] = s2[k] = _0
            units(kept, first, n, d)
            for i in range(n_super):
                load_rows(rows, first, n, SUPER * i, x)
                if len(columns):
                    load_columns(columns, SUPER * i, w)
                weigh(x, w, n_lanes, len(columns) > 0)
                _take(kept, first, n, i, found)
                settle(x, w, n_lanes, d, found, s1, s2, codes, out)
                clear_lanes(out, d)
                store_rows(out, first, n, packed, meta_nbytes + nbytes * i)
            for k in range(n):
                scale = last(s1[k], s2[k], d[k], given) if d[k] != _0 else d[k]
                if half:
                    store_half(packed[first + k], 0, scale)
                else:
                    store_float(packed[first + k], 0, scale)

    return encode
