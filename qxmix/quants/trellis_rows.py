"""What the encoders of the trellis types do with blocks of 32 weights and with rows, once code vectors are found.

Rows are taken in batches, so that many queries of the search fall into the same cluster.  Sums keep the reference's
order; the trial scales of a row, whose sums run over the whole row, lie in two vectors.

Source: ``QuantizerIQKT`` and ``quantize_row_iq*_kt_impl`` of ik_llama.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.jit import inlined, kernel
from qxmix.quants.lanes import row_mean_squares
from qxmix.quants.simd import WIDTH, fused, load, splat, store
from qxmix.quants.superblock import SUPER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from qxmix.quants.codec import Columns, Packed, Rows

BLOCK = 32
BLOCKS_PER_SUPER = SUPER // BLOCK
BATCH = 1 << 18
"""Weights that are searched together: 64 or more queries for each cluster, and scratch of some megabytes."""
N_TRIALS = 19
"""Scales that are tried for a row."""
ZERO = np.float32(1e-16)
"""A block whose largest magnitude is below this is zero."""

_NO_ENERGY = np.float32(1e-14)
_EQUAL = np.float32(1e-4)
_0 = np.float32(0.0)
_1 = np.float32(1.0)
_2 = np.float32(2.0)


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows and what the search needs to know of them."""

    x: NDArray[np.float32]
    """(n_rows * n_cols,) weights, or their magnitudes."""
    w: NDArray[np.float32]
    """(n_rows * n_cols,) what an error weighs."""
    tops: NDArray[np.float32]
    """(n_rows * n_blocks,) largest magnitude of each block."""
    row_tops: NDArray[np.float32]
    """(n_rows,) largest magnitude of each row."""
    rows: Rows
    """(n_rows, n_cols) the weights."""
    packed: Packed
    """Where the rows go."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and blocks of a row."""
        return len(self.rows), self.rows.shape[1] // BLOCK


def batches(rows: Rows, columns: Columns, packed: Packed, *, magnitudes: bool = False) -> Iterator[Batch]:
    """Whole rows of about ``BATCH`` weights, one batch after the other."""
    n = max(1, BATCH // max(1, rows.shape[1]))
    for at in range(0, len(rows), n):
        part = rows[at : at + n]
        w, n_blocks = np.empty_like(part), part.size // BLOCK
        tops, row_tops = np.empty(n_blocks, np.float32), np.empty(len(part), np.float32)
        weigh(part, columns, w)
        largest(part, tops, row_tops)
        x = np.abs(part) if magnitudes else part
        yield Batch(x.ravel(), w.ravel(), tops, row_tops, part, packed[at : at + n])


@kernel
def weigh(rows, columns, w):
    """Weights ``w`` (n_rows, n_cols) of the errors.

    ``importance * sqrt(sigma2 + x * x)``, without importance ``sigma2 / 4 + x * x``, sigma2 twice the mean square of
    the super-block.  Where a super-block is nearly zero, or no importance decides a block, all weigh the same: no sum
    of weights is ever zero.
    """
    x, flat = rows.ravel(), w.ravel()
    mean = np.empty(rows.size // SUPER, np.float32)
    row_mean_squares(rows.reshape((-1, SUPER)), mean)
    n_cols = rows.shape[1]
    for s in range(len(mean)):
        sigma2 = _2 * mean[s]
        quarter = np.float32(0.25) * sigma2
        for at in range(s * SUPER, (s + 1) * SUPER, BLOCK):
            weighted = _1
            if mean[s] < _NO_ENERGY:
                weighted = _0
            elif len(columns) == 0:
                for e in range(at, at + BLOCK):
                    flat[e] = quarter + x[e] * x[e]
            else:
                column = at % n_cols
                for e in range(BLOCK):
                    flat[at + e] = columns[column + e] * np.sqrt(sigma2 + x[at + e] * x[at + e])
                wx = ww = xx = _0
                for e in range(at, at + BLOCK):
                    wx += flat[e] * abs(x[e])
                    ww += flat[e] * flat[e]
                    xx += x[e] * x[e]
                weighted = _0 if (xx < _NO_ENERGY) | (ww < _NO_ENERGY) | (wx < _NO_ENERGY) else _1
            if weighted == _0:
                for e in range(at, at + BLOCK):
                    flat[e] = _EQUAL


@kernel
def largest(rows, blocks, tops):
    """Largest magnitude of each block (n_rows * n_blocks,) and of each row (n_rows,)."""
    n_rows, n_cols = rows.shape
    for r in range(n_rows):
        tops[r] = _0
        for c in range(0, n_cols, BLOCK):
            top = _0
            for e in range(c, c + BLOCK):
                top = max(top, abs(rows[r, e]))
            blocks[(r * n_cols + c) // BLOCK] = top
            tops[r] = max(tops[r], top)


@kernel
def starts(tops, row_tops, least, most, offsets, signs, inverse):
    """One over the scales that are tried for each block, 0 for a zero block, to ``inverse`` (n_trials, n_blocks).

    A trial puts the largest weight of a block at a level: ``most`` in the block with the largest weight of the row,
    less in others but not below ``least``, plus the offset of the trial; with the sign of the trial.
    """
    per_row = len(tops) // len(row_tops)
    for block in range(len(tops)):
        top = tops[block]
        level = max(least, most * top / row_tops[block // per_row])
        for t in range(len(offsets)):
            inverse[t, block] = signs[t] / (top / (level + offsets[t])) if top >= ZERO else _0


@kernel
def fit_blocks(x, w, values, found, scales, scores):
    """The scale that fits each block best for the code vectors of each trial, and the energy that explains.

    The products of a weight are added with one rounding, in 8 sums, as the reference's AVX2 code does on any compiler.
    """
    n_trials, n_blocks = scales.shape
    n = values.shape[1]
    per_block = BLOCK // n
    q = np.empty(BLOCK, np.float32)
    a, b = np.empty(8, np.float32), np.empty(8, np.float32)
    for t in range(n_trials):
        for block in range(n_blocks):
            for g in range(per_block):
                vector = found[t, block * per_block + g]
                for k in range(n):
                    q[g * n + k] = values[vector, k]
            for i in range(8):
                a[i] = _0
                b[i] = _0
            at = block * BLOCK
            for e in range(0, BLOCK, 8):
                for i in range(8):
                    wq = w[at + e + i] * q[e + i]
                    a[i] = fused(wq, x[at + e + i], a[i])
                    b[i] = fused(wq, q[e + i], b[i])
            s1 = ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
            s2 = ((b[0] + b[4]) + (b[2] + b[6])) + ((b[1] + b[5]) + (b[3] + b[7]))
            scales[t, block] = s1 / s2 if s2 > _0 else _0
            scores[t, block] = s1 * s1 / s2 if s2 > _0 else _0


@kernel
def choose_best(tops, scales, scores, scale, score, which):
    """Keep the first trial that explains most, if more than ``score``; ``which`` is its number, else as it was."""
    n_trials, n_blocks = scales.shape
    for block in range(n_blocks):
        if tops[block] >= ZERO:
            for t in range(n_trials):
                if scores[t, block] > score[block]:
                    score[block] = scores[t, block]
                    scale[block] = scales[t, block]
                    which[block] = t


@inlined
def first_largest(scales):
    """The scale of largest magnitude; the first one wins."""
    amax = mx = _0
    for s in scales:
        if abs(s) > amax:
            amax = abs(s)
            mx = s
    return mx


def row_search(tops: list[float], level_of: Callable[[np.float32], np.float32]) -> Callable[..., None]:
    """Build the kernel that searches the scale of each row.

    ``tops`` are the ``N_TRIALS`` levels that the largest scale of a row is put at, the middle one first of all;
    ``level_of`` rounds a scale to a level.
    """
    lanes = 2 * WIDTH
    trial_tops = np.array(tops + tops[-1:] * (lanes - N_TRIALS), dtype=np.float32)
    middle = trial_tops[N_TRIALS // 2]

    @kernel
    def search_rows(x, w, values, found, scales, d):
        """Scale ``d`` (n_rows,) of each row, 0 where all ``scales`` (n_rows, n_blocks) are.

        ``found`` (n_rows, n_blocks, groups per block) are the code vectors.
        """
        n_rows, n_blocks, per_block = found.shape
        n = values.shape[1]
        inverse, level = np.empty(lanes, np.float32), np.empty(lanes, np.float32)
        sums = np.empty((2, lanes), np.float32)
        for r in range(n_rows):
            mx = first_largest(scales[r])
            d[r] = mx / middle
            if mx == _0:
                continue
            for t in range(lanes):
                inverse[t] = trial_tops[t] / mx
            s1 = s2 = t1 = t2 = splat(_0)
            for block in range(n_blocks):
                for t in range(lanes):
                    level[t] = level_of(inverse[t] * scales[r, block])
                low, high = load(level, 0), load(level, WIDTH)
                at = (r * n_blocks + block) * BLOCK
                for g in range(per_block):
                    vector = found[r, block, g]
                    for k in range(n):
                        e = at + g * n + k
                        wx, weight, value = w[e] * x[e], w[e], values[vector, k]
                        q = low * value
                        s1, s2 = s1 + q * wx, s2 + (q * weight) * q
                        q = high * value
                        t1, t2 = t1 + q * wx, t2 + (q * weight) * q
            store(sums, 0, s1)
            store(sums, WIDTH, t1)
            store(sums, 2 * WIDTH, s2)
            store(sums, 3 * WIDTH, t2)
            best = _0
            for t in range(N_TRIALS):
                qx, q2 = sums[0, t], sums[1, t]
                if q2 > _0 and qx * qx > best * q2:
                    d[r] = qx / q2
                    best = d[r] * qx

    return search_rows


@kernel
def steps_of(d, levels, steps, inverse):
    """Step of each block, ``d`` of its row times its level, and one over it, 0 for step 0."""
    n_rows, n_blocks = levels.shape
    for r in range(n_rows):
        for block in range(n_blocks):
            steps[r, block] = d[r] * levels[r, block]
            inverse[r, block] = _1 / steps[r, block] if steps[r, block] != _0 else _0


@kernel
def keep_nearer(x, w, values, steps, before, found):
    """Put the code vectors of ``before`` back in blocks where their weighted squared error is smaller."""
    n_blocks, per_block = found.shape
    n = values.shape[1]
    for block in range(n_blocks):
        step = steps[block]
        error_before = error = _0
        for g in range(per_block):
            for k in range(n):
                e = (block * per_block + g) * n + k
                d = x[e] - step * values[before[block, g], k]
                error_before += (w[e] * d) * d
                d = x[e] - step * values[found[block, g], k]
                error += (w[e] * d) * d
        if error_before < error:
            found[block] = before[block]


@kernel
def refit(x, w, values, levels, found, d):
    """The scale of each row that fits the code vectors best; ``d`` stays where no weight is left to decide it."""
    n_rows, n_blocks, per_block = found.shape
    n = values.shape[1]
    for r in range(n_rows):
        s1 = s2 = _0
        for block in range(n_blocks):
            level = levels[r, block]
            for g in range(per_block):
                vector = found[r, block, g]
                for k in range(n):
                    e = ((r * n_blocks + block) * per_block + g) * n + k
                    q = values[vector, k] * level
                    s1 += (w[e] * x[e]) * q
                    s2 += (w[e] * q) * q
        if s2 > _0:
            d[r] = s1 / s2
