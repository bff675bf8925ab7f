"""The encoder of the trellis types whose blocks have a level of ``IQ4_LEVELS`` as their scale: IQ1_KT and IQ2_KT."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.jit import kernel
from qxmix.quants.levels import IQ4_LEVELS, nearest_code
from qxmix.quants.trellis_batch import ZERO, batches, first_scales, try_scales
from qxmix.quants.trellis_rows import inverse_of, keep_nearer, refit, search_rows_iq4
from qxmix.quants.trellis_search import nearest

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxmix.quants.codec import Columns, Packed, Rows
    from qxmix.quants.trellis import Codebook

LEAST, MOST = 90.0, 124.0
GROUPS = 4
"""Groups of a block."""
SIGNS = np.array([1, -1], dtype=np.float32)
"""Each level is tried with both signs."""
_0 = np.float32(0.0)
_1 = np.float32(1.0)

code_of = nearest_code(IQ4_LEVELS)


@kernel
def _choose(tops, scales, scores, found, scale, chosen):
    """Scale and code vectors of each block: of the first pair of signs, or of the second if that explains more."""
    n_blocks, n_trials = scales.shape
    for block in range(n_blocks):
        scale[block] = _0
        if tops[block] < ZERO:
            for g in range(GROUPS):
                chosen[block, g] = 0
            continue
        t = 0 if scores[block, 0] > scores[block, 1] else 1
        for pair in range(2, n_trials, 2):
            plus, minus = scores[block, pair], scores[block, pair + 1]
            if plus > scores[block, t] or minus > scores[block, t]:
                t = pair if plus > minus else pair + 1
        scale[block] = scales[block, t]
        for g in range(GROUPS):
            chosen[block, g] = found[block * GROUPS + g, t]


@kernel
def _levels(d, scales, codes, levels):
    """Level of each block for the scale of its row."""
    n_rows, n_blocks = scales.shape
    for r in range(n_rows):
        for block in range(n_blocks):
            code = np.uint8(np.int32(code_of(_1 / d[r] * scales[r, block]))) if d[r] != _0 else np.uint8(0)
            codes[r, block] = code
            levels[r, block] = IQ4_LEVELS[code] if d[r] != _0 else _0


def encode_levels(
    rows: Rows, columns: Columns, packed: Packed, book: Codebook, *, offsets: tuple[float, ...], factor: float,
    pack: Callable[..., None],
) -> None:  # fmt: skip
    """Encode ``rows`` with a codebook of vectors of 8.

    ``offsets`` are added to the level that the largest weight of a block starts at, one for each pair of trials; the
    refitted scale of a row is stored ``factor`` times as large.  ``pack(d, codes, found, out)`` writes rows.
    """
    trials, signs = np.repeat(np.array(offsets, np.float32), 2), np.tile(SIGNS, len(offsets))
    for batch in batches(rows, columns, packed):
        x, w, grouped = batch.x, batch.w, (len(batch.tops), GROUPS)
        tried, scales, scores = try_scales(batch, book, first_scales(batch, LEAST, MOST, trials, signs))
        scale, before = np.empty(batch.shape, np.float32), np.empty(grouped, np.int32)
        _choose(batch.tops, scales, scores, tried, scale.ravel(), before)
        d = np.empty(len(batch.rows), np.float32)
        search_rows_iq4(x, w, book.values, before.reshape(*batch.shape, GROUPS), scale, d)
        codes, levels = np.empty(batch.shape, np.uint8), np.empty_like(scale)
        _levels(d, scale, codes, levels)
        steps = (d[:, None] * levels).ravel()
        found = nearest(book, x, w, inverse_of(steps)[:, None]).reshape(grouped)
        keep_nearer(x, w, book.values, steps, before, found)
        vectors = found.reshape(*batch.shape, GROUPS)
        refit(x, w, book.values, levels, vectors, d)
        pack(d * np.float32(factor), codes, vectors, batch.packed)
