"""Blocks side by side.

Inside a block every sum must keep the reference's order, so one block cannot use SIMD; but blocks do not depend on
each other.  ``LANES`` blocks are laid out as ``(n, LANES)``: element ``e`` of all blocks in one row.  A kernel is then
a loop over elements around a loop over lanes, and LLVM turns the inner one into full-width SIMD while every block
keeps its serial order.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.jit import inlined, kernel, spliced

LANES = 64
"""Blocks side by side.  Measured for Q4_0: 32, 64 and 128 are within 3 %; 64 keeps a block's scratch within L1."""


@spliced
def fill_lanes(x, first, value):
    """Set the lanes ``first ..`` of ``x`` (n, LANES), behind the last block.

    Lane by lane, for the few that there are: LLVM made 32 loops in vectors of the other order, half of all the text of
    Q4_1's encoder.
    """
    for k in range(first, LANES):
        for e in range(x.shape[0]):
            x[e, k] = np.float32(value)


@spliced
def load_blocks(flat, first, n_blocks, x):
    """Lay blocks ``first .. first + n_blocks`` of ``flat`` side by side in ``x`` (n, LANES); lanes beyond are zero."""
    n = x.shape[0]
    for k in range(n_blocks):
        at = (first + k) * n
        for e in range(n):
            x[e, k] = flat[at + e]
    fill_lanes(x, n_blocks, 0.0)


@spliced
def load_importance(columns, first, n_blocks, w):
    """Lay the importances of blocks ``first .. first + n_blocks`` side by side in ``w``; 1 in lanes beyond."""
    n = w.shape[0]
    blocks_per_row = len(columns) // n
    for k in range(n_blocks):
        at = ((first + k) % blocks_per_row) * n
        for e in range(n):
            w[e, k] = columns[at + e]
    fill_lanes(w, n_blocks, 1.0)


@kernel
def usable_importance(columns, n):
    """Copy of ``columns`` (n_cols,) in which the importances of a block of ``n`` are 1e-9 where they are all zero.

    With all weights of a block zero the reference divides 0 by 0 and stores a NaN scale (IQ4_NL aborts).  Equal tiny
    weights give that block the plain least-squares fit instead.  A block with any importance keeps its bytes.
    """
    out = np.empty(len(columns), np.float32)
    for c in range(len(columns)):
        out[c] = columns[c]
    for first in range(0, len(columns), n):
        largest = np.float32(0.0)
        for c in range(first, first + n):
            largest = max(largest, columns[c])
        if largest == np.float32(0.0):
            for c in range(first, first + n):
                out[c] = np.float32(1e-9)
    return out


@inlined
def weigh_by_square(x, w):
    """``w = x * x``: the weights where there is no importance."""
    for e in range(x.shape[0]):
        for k in range(LANES):
            w[e, k] = x[e, k] * x[e, k]


@inlined
def sum_of_squares(x, total):
    """Sum of the squares of each lane in element order."""
    for k in range(LANES):
        total[k] = np.float32(0.0)
    for e in range(x.shape[0]):
        for k in range(LANES):
            total[k] += x[e, k] * x[e, k]


@kernel
def row_mean_squares(rows, out):
    """Mean of the squares of each row into ``out`` (n_rows,), summed in float32 in element order as ggml does.

    Eight rows go through together: one serial sum waits for each addition, eight fill the pipeline.
    """
    n_rows, n_cols = rows.shape
    n = np.float32(n_cols)
    for first in range(0, n_rows, 8):
        last = min(first + 8, n_rows)
        for r in range(first, last):
            out[r] = np.float32(0.0)
        if last - first == 8:  # noqa: PLR2004 - the unrolled case
            a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = np.float32(0.0)
            for c in range(n_cols):
                a0 += rows[first, c] * rows[first, c]
                a1 += rows[first + 1, c] * rows[first + 1, c]
                a2 += rows[first + 2, c] * rows[first + 2, c]
                a3 += rows[first + 3, c] * rows[first + 3, c]
                a4 += rows[first + 4, c] * rows[first + 4, c]
                a5 += rows[first + 5, c] * rows[first + 5, c]
                a6 += rows[first + 6, c] * rows[first + 6, c]
                a7 += rows[first + 7, c] * rows[first + 7, c]
            out[first] = a0
            out[first + 1] = a1
            out[first + 2] = a2
            out[first + 3] = a3
            out[first + 4] = a4
            out[first + 5] = a5
            out[first + 6] = a6
            out[first + 7] = a7
        else:
            for r in range(first, last):
                total = np.float32(0.0)
                for c in range(n_cols):
                    total += rows[r, c] * rows[r, c]
                out[r] = total
        for r in range(first, last):
            out[r] /= n
