"""What the types with blocks of 32 weights share: weights, and the encoders around a search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.common.lanes import (
    LANES,
    load_blocks,
    load_importance,
    row_mean_squares,
    sum_of_squares,
    usable_importance,
    weigh_by_square,
)
from qxmix.quants.common.search import search_linear
from qxmix.quants.jit import inlined, kernel, spliced

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxmix.quants.codec import Encoder

BLOCK = 32

_0 = np.float32(0.0)
_1 = np.float32(1.0)


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


def block_encoder(
    block_nbytes: int, search: Callable[..., None], pack: Callable[..., None], *, by_row: bool = True
) -> Encoder:
    """Build the encoder of blocks of ``block_nbytes`` bytes, LANES of them at a time.

    Weights are ``importance * sqrt(variance + x * x)``, without an importance ``x * x``.  The variance is the mean
    square of the row, or twice that of the block if not ``by_row``.  ``search(x, w, method, scale, minimum, q)``
    writes scales (LANES,), minimums where the type has them, and levels (32, LANES).  ``pack(out, at, scale, minimum,
    q, k)`` stores lane ``k`` as the block at ``out[at:]``.
    """

    @kernel
    def encode(rows, columns, out, method):
        flat, packed = rows.ravel(), out.ravel()
        n_blocks, blocks_per_row = rows.size // BLOCK, rows.shape[1] // BLOCK
        x, w = np.empty((BLOCK, LANES), np.float32), np.empty((BLOCK, LANES), np.float32)
        q, minimum = np.empty((BLOCK, LANES), np.float32), np.empty(LANES, np.float32)
        scale, sigma2_of_row = np.empty(LANES, np.float32), np.empty(rows.shape[0], np.float32)
        weighted = len(columns) > 0
        if weighted and by_row:
            row_mean_squares(rows, sigma2_of_row)
        columns = usable_importance(columns, BLOCK)
        for first in range(0, n_blocks, LANES):
            n = min(LANES, n_blocks - first)
            load_blocks(flat, first, n, x)
            if weighted:
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
            search(x, w, method, scale, minimum, q)
            for k in range(n):
                pack(packed, (first + k) * block_nbytes, scale[k], minimum[k], q, k)

    return encode


def encode_linear(nmax: int, block_nbytes: int, pack: Callable[..., None]) -> Encoder:
    """Build the encoder that searches a scale for levels ``[-nmax, nmax - 1]``.

    ``pack(out, at, scale, q, k)`` stores lane ``k`` as the block at ``out[at:]``.
    """

    @spliced
    def search(x, w, method, scale, minimum, q):  # noqa: ARG001 - the signature of all
        search_linear(x, w, nmax, method, scale, q)

    @inlined
    def pack_lane(out, at, scale, minimum, q, k):  # noqa: ARG001 - the signature of all
        pack(out, at, scale, q, k)

    return block_encoder(block_nbytes, search, pack_lane)


def encode_rounding(nmax: int, block_nbytes: int, pack: Callable[..., None]) -> Encoder:
    """Build the encoder that only rounds: the weight of largest magnitude becomes level ``-nmax`` (``..._ref``)."""
    shift, top = np.float32(nmax + 0.5), np.float32(2 * nmax - 1)

    @kernel
    def encode(rows, columns, out, method):  # noqa: ARG001 - the contract of encoders
        flat, packed = rows.ravel(), out.ravel()
        q = np.empty((BLOCK, 1), np.float32)
        for block in range(rows.size // BLOCK):
            x = flat[block * BLOCK : (block + 1) * BLOCK]
            amax, mx = _0, _0
            for e in range(BLOCK):
                if abs(x[e]) > amax:
                    amax, mx = abs(x[e]), x[e]
            scale = mx / np.float32(-nmax)
            inverse = _1 / scale if scale != _0 else _0
            for e in range(BLOCK):
                # The reference adds before it truncates: floor of a positive float, then the offset comes off again.
                q[e, 0] = min(top, np.floor(x[e] * inverse + shift)) - np.float32(nmax)
            pack(packed, block * block_nbytes, scale, q, 0)

    return encode
