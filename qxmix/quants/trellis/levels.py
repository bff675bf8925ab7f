"""The encoder of the trellis types whose blocks have a level of ``IQ4_LEVELS`` as their scale: IQ1_KT and IQ2_KT."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qxmix.quants.codec import Columns, Packed, Rows
from qxmix.quants.common.levels import IQ4_LEVELS, thresholds
from qxmix.quants.trellis.batch import BLOCKS_PER_SUPER, ZERO, batches, first_scales, store, try_scales
from qxmix.quants.trellis.codebook import Codebook
from qxmix.quants.trellis.rows import inverse_of, keep_nearer, refit, search_rows_iq4
from qxmix.quants.trellis.search import nearest

LEAST, MOST = 90.0, 124.0
GROUPS = 4
"""Groups of a block."""
SIGNS = np.array([1, -1], dtype=np.float32)
"""Each level is tried with both signs."""
_0 = np.float32(0.0)
_FLIPS = thresholds(IQ4_LEVELS)


def _better_pair(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """The trial of each block that counts: of the first pair of signs, or of the second if that explains more."""
    trial = np.where(scores[:, 0] > scores[:, 1], 0, 1)
    rows = np.arange(len(scores))
    for pair in range(2, scores.shape[1], 2):
        plus, minus, best = scores[:, pair], scores[:, pair + 1], scores[rows, trial]
        trial = np.where((plus > best) | (minus > best), np.where(plus > minus, pair, pair + 1), trial)
    return trial


def encode_levels(
    rows: Rows, columns: Columns, packed: Packed, book: Codebook, *, offsets: tuple[float, ...], factor: np.float32,
    pack: Callable[[NDArray[np.uint8], NDArray[np.int32]], list[NDArray[np.uint8]]],
) -> None:  # fmt: skip
    """Encode ``rows`` with a codebook of vectors of 8.

    ``offsets`` are added to the level that the largest weight of a block starts at, one for each pair of trials; the
    refitted scale of a row is stored ``factor`` times as large.  ``pack(codes, found)`` makes the parts of the
    super-blocks of codes (n_rows, n_super, 8) and code vectors (n_rows, n_super, 32).
    """
    trials, signs = np.repeat(np.array(offsets, np.float32), 2), np.tile(SIGNS, len(offsets))
    for batch in batches(rows, columns, packed):
        x, w, every = batch.x, batch.w, np.arange(batch.tops.size)
        tried, scales, scores = try_scales(batch, book, first_scales(batch, LEAST, MOST, trials, signs))
        trial, live = _better_pair(scores), batch.tops >= ZERO
        scale = np.where(live, scales[every, trial].reshape(live.shape), _0)
        before = np.where(live.reshape(-1, 1), tried.reshape(len(every), GROUPS, -1)[every, :, trial], np.int32(0))
        d = np.empty(len(scale), np.float32)
        search_rows_iq4(x, w, book.values, before.reshape(*scale.shape, GROUPS), scale, d)
        # A row without a scale gets zero bytes throughout.
        codes = np.where(d[:, None] != _0, np.searchsorted(_FLIPS, inverse_of(d)[:, None] * scale, side="right"), 0)
        levels = np.where(d[:, None] != _0, IQ4_LEVELS[codes], _0)
        steps = (d[:, None] * levels).ravel()
        found = nearest(book, x, w, inverse_of(steps)[:, None]).reshape(before.shape)
        keep_nearer(x, w, book.values, steps, before, found)
        refit(x, w, book.values, levels, found.reshape(*scale.shape, GROUPS), d)
        shape = len(scale), -1, BLOCKS_PER_SUPER
        parts = pack(codes.astype(np.uint8).reshape(shape), found.reshape(*shape[:2], BLOCKS_PER_SUPER * GROUPS))
        store(d * factor, parts, batch.packed)
