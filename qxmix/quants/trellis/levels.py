"""The encoder of the trellis types whose blocks have a level of ``IQ4_LEVELS`` as their scale: IQ1_KT and IQ2_KT."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qxmix.quants.common.levels import IQ4_LEVELS, thresholds
from qxmix.quants.trellis.batch import ZERO, Batch, Fitted, first_scales, try_scales
from qxmix.quants.trellis.codebook import Codebook
from qxmix.quants.trellis.rows import inverse_of, keep_nearer, refit, search_rows_iq4
from qxmix.quants.trellis.search import nearest
from qxmix.quants.trellis.sets import Sets

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


def rough_levels(batch: Batch, book: Codebook, offsets: tuple[float, ...]) -> Fitted:
    """Scales and code vectors of the search of the blocks, each block by itself, of a codebook of vectors of 8.

    ``offsets`` are added to the level that the largest weight of a block starts at, one for each pair of trials.
    """
    trials, signs = np.repeat(np.array(offsets, np.float32), 2), np.tile(SIGNS, len(offsets))
    x, w, every = batch.x, batch.w, np.arange(batch.tops.size)
    tried, scales, scores = try_scales(batch, book, first_scales(batch, LEAST, MOST, trials, signs))
    trial, live = _better_pair(scores), batch.tops >= ZERO
    scale = np.where(live, scales[every, trial].reshape(live.shape), _0)
    found = np.where(live.reshape(-1, 1), tried.reshape(len(every), GROUPS, -1)[every, :, trial], np.int32(0))
    d = np.empty(len(scale), np.float32)
    search_rows_iq4(x, w, book.values, found.reshape(*scale.shape, GROUPS), scale, d)
    # A row without a scale gets zero bytes throughout.
    codes = np.where(d[:, None] != _0, np.searchsorted(_FLIPS, inverse_of(d)[:, None] * scale, side="right"), 0)
    return batch.fitted(d, codes, found)


def refine_levels(batch: Batch, sets: Sets, rough: Fitted) -> Fitted:
    """Code vectors for the scales as they will be stored, and the row scale that fits them."""
    (book,), x, w, d = sets.books, batch.x, batch.w, rough.d.copy()
    levels = np.where(d[:, None] != _0, IQ4_LEVELS[rough.codes.reshape(len(d), -1)], _0)
    steps, before = (d[:, None] * levels).ravel(), rough.found.reshape(-1, GROUPS)
    found = nearest(book, x, w, inverse_of(steps)[:, None]).reshape(before.shape)
    keep_nearer(x, w, book.values, steps, before, found)
    refit(x, w, book.values, levels, found.reshape(*levels.shape, GROUPS), d)
    return batch.fitted(d, rough.codes, found)
