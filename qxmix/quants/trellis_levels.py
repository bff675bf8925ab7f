"""The encoder of the trellis types whose blocks have a level of ``IQ4_LEVELS`` as their scale: IQ1_KT and IQ2_KT."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.jit import kernel
from qxmix.quants.levels import IQ4_LEVELS, nearest_code, nearest_level
from qxmix.quants.trellis_rows import (
    N_TRIALS,
    ZERO,
    batches,
    fit_blocks,
    keep_nearer,
    refit,
    row_search,
    starts,
    steps_of,
)
from qxmix.quants.trellis_search import match8

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxmix.quants.codec import Columns, Packed, Rows
    from qxmix.quants.trellis import Codebook

LEAST = np.float32(90.0)
MOST = np.float32(124.0)
GROUPS = 4
"""Groups of a block."""
SIGNS = np.array([1, -1], dtype=np.float32)
"""Each level is tried with both signs."""
_0 = np.float32(0.0)
_1 = np.float32(1.0)

code_of = nearest_code(IQ4_LEVELS)
_first = int(IQ4_LEVELS[0])
_search_rows = row_search([float(i - N_TRIALS // 2 + _first) for i in range(N_TRIALS)], nearest_level(IQ4_LEVELS))


@kernel
def _choose(tops, scales, scores, found, scale, chosen):
    """Scale and code vectors of each block: of the first pair of signs, or of the second if that explains more."""
    n_trials, n_blocks = scales.shape
    for block in range(n_blocks):
        scale[block] = _0
        if tops[block] < ZERO:
            for g in range(GROUPS):
                chosen[block, g] = 0
            continue
        t = 0 if scores[0, block] > scores[1, block] else 1
        for pair in range(2, n_trials, 2):
            plus, minus = scores[pair, block], scores[pair + 1, block]
            if plus > scores[t, block] or minus > scores[t, block]:
                t = pair if plus > minus else pair + 1
        scale[block] = scales[t, block]
        for g in range(GROUPS):
            chosen[block, g] = found[t, block * GROUPS + g]


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
    lists = (book.edges, book.first, book.members, book.candidates)
    trials, signs = np.repeat(np.array(offsets, np.float32), 2), np.tile(SIGNS, len(offsets))
    for batch in batches(rows, columns, packed):
        x, w, grouped = batch.x, batch.w, (*batch.shape, GROUPS)
        n_blocks = len(batch.tops)
        inverse = np.empty((len(trials), n_blocks), np.float32)
        starts(batch.tops, batch.row_tops, LEAST, MOST, trials, signs, inverse)
        tried = np.empty((len(trials), n_blocks * GROUPS), np.int32)
        match8(x, w, inverse, GROUPS, *lists, tried)
        scales, scores = np.empty_like(inverse), np.empty_like(inverse)
        fit_blocks(x, w, book.values, tried, scales, scores)
        scale, before, found = (
            np.empty(batch.shape, np.float32),
            np.empty(grouped, np.int32),
            np.empty(grouped, np.int32),
        )
        _choose(batch.tops, scales, scores, tried, scale.ravel(), before.reshape(n_blocks, GROUPS))
        d = np.empty(len(batch.rows), np.float32)
        _search_rows(x, w, book.values, before, scale, d)
        codes, levels = np.empty(batch.shape, np.uint8), np.empty_like(scale)
        _levels(d, scale, codes, levels)
        steps, inverse = np.empty_like(scale), np.empty((1, n_blocks), np.float32)
        steps_of(d, levels, steps, inverse.reshape(batch.shape))
        match8(x, w, inverse, GROUPS, *lists, found.reshape(1, -1))
        keep_nearer(x, w, book.values, steps.ravel(), before.reshape(n_blocks, GROUPS), found.reshape(n_blocks, GROUPS))
        refit(x, w, book.values, levels, found, d)
        pack(d * np.float32(factor), codes, found, batch.packed)
