"""What the types with a scale per row share: lanes that are rows, and the scales in front of the blocks.

The blocks of a row are searched like any others, with super-blocks of all rows side by side; what they need of the row
comes after, when its largest scale is known.  In that second pass lane k is row k, and one super-block after the other
goes through all of them: a sum over a row keeps the reference's order and still fills the lanes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.common.lanes import LANES, fill_lanes
from qxmix.quants.common.numerics import load_half
from qxmix.quants.common.reinterpret import bits_of, float_of
from qxmix.quants.common.superblock import SUPER
from qxmix.quants.jit import inlined, kernel

if TYPE_CHECKING:
    from qxmix.quants.codec import Decoder
    from qxmix.quants.contracts import PutRow


@kernel
def load_rows(rows, first, n_rows, column, x):
    """Weights ``column .. column + n`` of rows ``first .. first + n_rows`` into ``x`` (n, LANES); zero beyond."""
    n = x.shape[0]
    for k in range(n_rows):
        row = rows[first + k]
        for e in range(n):
            x[e, k] = row[column + e]
    fill_lanes(x, n_rows, 0.0)


@kernel
def load_columns(columns, column, w):
    """Importances ``column .. column + n`` into all lanes of ``w`` (n, LANES): rows share them."""
    for e in range(w.shape[0]):
        for k in range(LANES):
            w[e, k] = columns[column + e]


@kernel
def store_rows(packed, first, n_rows, out, at):
    """Copy lanes ``0 .. n_rows`` of ``packed`` (nbytes, LANES) to bytes ``at ..`` of rows ``first ..`` of ``out``."""
    nbytes = packed.shape[0]
    for k in range(n_rows):
        row = out[first + k]
        for i in range(nbytes):
            row[at + i] = packed[i, k]


@inlined
def store_float(out, at, x):
    """Write float32 ``x`` little-endian to ``out[at:at + 4]``."""
    bits = bits_of(x)
    for i in range(4):
        out[at + i] = np.uint8((bits >> np.uint32(8 * i)) & np.uint32(255))


@inlined
def load_float(data, at):
    """The float32 at ``data[at:at + 4]``."""
    bits = np.uint32(0)
    for i in range(4):
        bits |= np.uint32(np.uint32(data[at + i]) << np.uint32(8 * i))
    return float_of(bits)


def row_decoder(nbytes: int, put: PutRow, *, half: bool, block: int = SUPER) -> Decoder:
    """Build the decoder of rows that start with a scale, a half or a float32, then blocks of ``nbytes`` bytes.

    ``put(data, at, d, row, start)`` decodes the block at ``data[at:]`` to ``row[start:]``; ``d`` is the scale.
    """
    meta_nbytes = 2 if half else 4

    @kernel
    def decode(packed, rows):
        for r in range(rows.shape[0]):
            data, row = packed[r], rows[r]
            d = load_half(data, 0) if half else load_float(data, 0)
            for i in range(rows.shape[1] // block):
                put(data, meta_nbytes + nbytes * i, d, row, block * i)

    return decode
