"""What the types with super-blocks share in error feedback: their scale from the weights as given, and packing.

A super-block is a span.  Its scale must stand before its first block is rounded, and a search of all blocks for it
would cost as much as the one that follows.  The block with the largest magnitude is searched alone, since nearly
always its scale is the largest; with it as the unit goes a little room, because the errors of earlier blocks make later
weights larger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.row_scale import store_rows
from qxmix.quants.common.superblock import SUPER
from qxmix.quants.jit import inlined, kernel, spliced

if TYPE_CHECKING:
    from collections.abc import Callable

_0 = np.float32(0.0)


@kernel
def widest_block(x, block, at, most):
    """Of each lane of ``x`` (n, LANES) the block with the largest magnitude, and that.

    ``at`` (LANES,) int64 and ``most`` (LANES,) float32 are written.
    """
    for k in range(LANES):
        at[k] = 0
        most[k] = _0
    for e in range(x.shape[0]):
        for k in range(LANES):
            size = abs(x[e, k])
            at[k] = e // block if size > most[k] else at[k]
            most[k] = max(size, most[k])


@kernel
def gather_blocks(x, at, out):
    """Copy block ``at[k]`` of each lane of ``x`` to ``out`` (n, LANES)."""
    n = out.shape[0]
    for k in range(LANES):
        of = at[k] * n
        for e in range(n):
            out[e, k] = x[of + e, k]


@spliced
def bytes_of(codes, out):
    """Whole float32 0 .. 255 as bytes."""
    for e in range(SUPER):
        for k in range(LANES):
            out[e, k] = np.uint8(np.int32(codes[e, k]))


def putting(nbytes: int, meta_nbytes: int, fill: Callable[..., None]) -> Callable[..., None]:
    """Build ``FeedbackType.put`` of super-blocks of ``nbytes`` bytes behind ``meta_nbytes`` of row scales.

    ``fill(codes, found, unit, block)`` writes all bytes of ``block`` (nbytes, LANES) from ``codes`` (256, LANES) uint8.
    """

    @spliced
    def put(codes, found, unit, _n_blocks, packed, first, n, span):
        small, block = np.empty((SUPER, LANES), np.uint8), np.empty((nbytes, LANES), np.uint8)
        bytes_of(codes, small)
        fill(small, found, unit, block)
        store_rows(block, first, n, packed, meta_nbytes + nbytes * span)

    return put


@inlined
def clamped_level(scale, unit, low, high):
    """The whole multiple of ``unit`` nearest to ``scale``, within ``[low, high]``; 0 where there is no unit."""
    level = np.rint(scale / unit) if unit != _0 else _0
    return min(max(level, low), high)
