"""Batches of rows for the encoders of the trellis types: what their errors weigh, and the scales tried for each block.

Rows are taken many at a time, so that many queries of the search fall into the same cluster.  Sums keep the
reference's order.

Source: ``QuantizerIQKT`` and ``quantize_row_iq*_kt_impl`` of ik_llama.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qxmix.quants.codec import Columns, Packed, Rows
from qxmix.quants.common.lanes import row_mean_squares
from qxmix.quants.common.reinterpret import flattened, in_rows
from qxmix.quants.common.simd import fused
from qxmix.quants.common.superblock import SUPER
from qxmix.quants.jit import kernel
from qxmix.quants.trellis.codebook import Codebook
from qxmix.quants.trellis.queries import BLOCK
from qxmix.quants.trellis.search import nearest

BLOCKS_PER_SUPER = SUPER // BLOCK
BATCH = 1 << 18
"""Weights that are searched together: 64 or more queries for each cluster, and scratch of some megabytes."""
ZERO = np.float32(1e-16)
"""A block whose largest magnitude is below this is zero."""

_NO_ENERGY = np.float32(1e-14)
_EQUAL = np.float32(1e-4)
_0 = np.float32(0.0)
_1 = np.float32(1.0)
_2 = np.float32(2.0)


@dataclass(frozen=True, slots=True)
class Fitted:
    """What some rows are encoded as."""

    d: NDArray[np.float32]
    """(n_rows,) scale of each row."""
    codes: NDArray[np.uint8]
    """(n_rows, n_super, 8) scales of the blocks, as they are stored."""
    found: NDArray[np.int32]
    """(n_rows, n_super, n_groups) code vectors."""
    negative: NDArray[np.bool_]
    """(n_rows, n_super, 256) which weights are below zero."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows and what the search needs to know of them."""

    x: NDArray[np.float32]
    """(n_rows * n_cols,) weights, or their magnitudes."""
    w: NDArray[np.float32]
    """(n_rows * n_cols,) what an error weighs."""
    tops: NDArray[np.float32]
    """(n_rows, n_blocks) largest magnitude of each block."""
    rows: Rows
    """(n_rows, n_cols) the weights."""
    packed: Packed
    """Where the rows go."""

    def fitted(self, d: NDArray[np.float32], codes: NDArray[np.generic], found: NDArray[np.int32]) -> Fitted:
        """What ``d``, ``codes`` and ``found`` are of the rows, whatever the shapes of the last two."""
        shape = len(d), -1, BLOCKS_PER_SUPER
        codes = codes.astype(np.uint8).reshape(shape)
        supers = codes.shape[:2]
        return Fitted(d, codes, found.reshape(*supers, -1), self.rows.reshape(*supers, SUPER) < _0)


def batches(
    rows: Rows, columns: Columns, packed: Packed, *, magnitudes: bool = False, size: int = BATCH
) -> Iterator[Batch]:
    """Whole rows of about ``size`` weights, one batch after the other."""
    n = max(1, size // max(1, rows.shape[1]))
    for at in range(0, len(rows), n):
        part, w = rows[at : at + n], np.empty_like(rows[at : at + n])
        _weigh(part, columns, w)
        x = np.abs(part)
        tops = x.reshape(len(part), -1, BLOCK).max(axis=2)
        yield Batch((x if magnitudes else part).ravel(), w.ravel(), tops, part, packed[at : at + n])


@kernel
def _weigh(rows, columns, w):
    """Weights ``w`` (n_rows, n_cols) of the errors.

    ``importance * sqrt(sigma2 + x * x)``, without importance ``sigma2 / 4 + x * x``, sigma2 twice the mean square of
    the super-block.  Where a super-block is nearly zero, or no importance decides a block, all weigh the same: no sum
    of weights is ever zero.
    """
    x, flat = flattened(rows), flattened(w)
    mean = np.empty(rows.size // SUPER, np.float32)
    row_mean_squares(in_rows(rows, SUPER), mean)
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
def _fit(x, w, values, found, scales, scores):
    """The scale that fits each block best for the code vectors of each trial, and the energy that explains.

    The products of a weight are added with one rounding, in 8 sums, as the reference's AVX2 code does on any compiler.
    """
    n_blocks, n_trials = scales.shape
    n = values.shape[1]
    per_block = BLOCK // n
    q = np.empty(BLOCK, np.float32)
    a, b = np.empty(8, np.float32), np.empty(8, np.float32)
    for block in range(n_blocks):
        for t in range(n_trials):
            for g in range(per_block):
                vector = found[block * per_block + g, t]
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
            scales[block, t] = s1 / s2 if s2 > _0 else _0
            scores[block, t] = s1 * s1 / s2 if s2 > _0 else _0


def first_scales(
    batch: Batch, least: float, most: float, offsets: NDArray[np.float32], signs: NDArray[np.float32]
) -> NDArray[np.float32]:
    """One over the scales that are tried for each block, (n_blocks, n_trials), 0 for a zero block.

    A trial puts the largest weight of a block at a level: ``most`` in the block with the largest weight of the row,
    less in others but not below ``least``, plus the offset of the trial; with the sign of the trial.
    """
    live = batch.tops >= ZERO
    tops = np.where(live, batch.tops, _1)  # anything but zero, for blocks that are not asked for
    largest = np.maximum(batch.tops.max(axis=1, keepdims=True), ZERO)
    start = np.maximum(np.float32(least), np.float32(most) * tops / largest)
    inverse = signs / (tops.reshape(-1, 1) / (start.reshape(-1, 1) + offsets))
    return np.where(live.reshape(-1, 1), inverse, _0)


@dataclass(frozen=True, slots=True)
class Best:
    """The best trial so far of each block."""

    scale: NDArray[np.float32]
    """(n_blocks,) its scale."""
    score: NDArray[np.float32]
    """(n_blocks,) the energy it explains."""
    trial: NDArray[np.int64]
    """(n_blocks,) its number among those that it was chosen from."""


def choose_best(batch: Batch, scales: NDArray[np.float32], scores: NDArray[np.float32], before: Best | None) -> Best:
    """The first trial with the highest score if that is above the score of ``before``, else ``before`` with trial -1.

    Without ``before`` and without a score above zero, the scale is zero and the trial the first; so are zero blocks.
    """
    # A score that is no number, of weights too large to be squared, is never above another.
    known = np.where((batch.tops.reshape(-1, 1) >= ZERO) & (scores > _0), scores, _0)
    trial = known.argmax(axis=1)
    at = np.arange(len(trial)), trial
    above = known[at] > (before.score if before else _0)
    return Best(
        np.where(above, scales[at], before.scale if before else _0),
        np.where(above, known[at], before.score if before else _0),
        np.where(above, trial, -1) if before else trial,
    )


def try_scales(
    batch: Batch, book: Codebook, inverse: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Code vectors (n_groups, n_trials), and the scales that fit them and their scores (n_blocks, n_trials)."""
    found = nearest(book, batch.x, batch.w, inverse)
    scales, scores = np.empty_like(inverse), np.empty_like(inverse)
    _fit(batch.x, batch.w, book.values, found, scales, scores)
    return found, scales, scores


def store(d: NDArray[np.float32], parts: list[NDArray[np.uint8]], packed: Packed) -> None:
    """Write rows: their scales ``d``, then the ``parts`` (n_rows, n_super, nbytes) of super-blocks."""
    packed[:, :4] = d[:, None].view(np.uint8)
    packed[:, 4:] = np.concatenate(parts, axis=2).reshape(len(d), -1)


def pair_nibbles(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Codes (n_rows, n_super, n) with code i in the low and i + n / 2 in the high nibble of byte i."""
    half = codes.shape[2] // 2
    return codes[:, :, :half] | codes[:, :, half:] << np.uint8(4)
