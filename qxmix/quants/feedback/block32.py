"""Error feedback for the types with blocks of 32 weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.block32.encoder import BLOCK, codes_of_lane, weigh_by_variance
from qxmix.quants.codec import search_decides
from qxmix.quants.common.lanes import LANES, row_mean_squares, sum_of_squares
from qxmix.quants.common.numerics import half_round
from qxmix.quants.common.search import best_linear, scan_linear
from qxmix.quants.common.search_affine import search_affine
from qxmix.quants.feedback.encoder import FeedbackType, feedback_encoder
from qxmix.quants.feedback.nearest import nearest_affine, nearest_linear, nearest_of_table
from qxmix.quants.feedback.spans import SPAN
from qxmix.quants.jit import inlined, spliced

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxmix.quants.codec import FeedbackEncoder
    from qxmix.quants.level.two_tables import TwoTables

_0 = np.float32(0.0)


@spliced
def _variance_of_rows(rows, _columns, unit):
    """Mean square of each row."""
    row_mean_squares(rows, unit[0])


@inlined
def _weigh_by_row(x, w, unit):
    weigh_by_variance(x, w, unit[0])


@inlined
def _weigh_by_block(x, w, unit):
    for first in range(0, x.shape[0], BLOCK):
        sum_of_squares(x[first : first + BLOCK], unit[0])
        for k in range(LANES):
            unit[0, k] *= np.float32(2.0 / BLOCK)
        weigh_by_variance(x[first : first + BLOCK], w[first : first + BLOCK], unit[0])


@inlined
def _weigh_not(x, w, unit):
    pass


def _putting(nbytes: int, pack: Callable[..., None]) -> Callable[..., None]:
    n_spans = SPAN // BLOCK

    @spliced
    def put(codes, found, _unit, n_blocks, packed, first, n, span):
        line = np.empty(BLOCK, np.float32)
        for j in range(n_blocks):
            part = codes[BLOCK * j : BLOCK * (j + 1)]
            for k in range(n):
                low, high = codes_of_lane(part, k, line)
                pack(packed[first + k], nbytes * (n_spans * span + j), found[0, j, k], found[1, j, k], low, high)

    return put


def linear_feedback(nmax: int, nbytes: int, pack: Callable[..., None]) -> FeedbackEncoder:
    """Build the encoder for levels ``[-nmax, nmax - 1]``; ``pack`` is that of ``block32.encoder.block_encoder``."""

    def searching(search_block: Callable[..., None]) -> FeedbackEncoder:
        @spliced
        def find(x, w, search, _unit, found, step, offset):
            q = np.empty((BLOCK, LANES), np.float32)
            search_block(x, w, nmax, search, found[0], q)
            for k in range(LANES):
                step[k] = half_round(found[0, k])
                found[1, k] = offset[k] = _0

        nearest, put = nearest_linear(-nmax, nmax - 1), _putting(nbytes, pack)
        return feedback_encoder(FeedbackType(BLOCK, 2, _weigh_by_row, find, nearest, put, begin=_variance_of_rows))

    return search_decides(searching(scan_linear), exhaustive=searching(best_linear))


def affine_feedback(nmax: int, nbytes: int, pack: Callable[..., None]) -> FeedbackEncoder:
    """Build the encoder for a scale, a minimum and codes ``[0, nmax]``."""

    @spliced
    def find(x, w, _search, _unit, found, step, offset):
        q = np.empty((BLOCK, LANES), np.float32)
        search_affine(x, w, nmax, found[0], found[1], q)
        for k in range(LANES):
            step[k], offset[k] = half_round(found[0, k]), half_round(found[1, k])

    kind = FeedbackType(
        BLOCK, 2, _weigh_by_row, find, nearest_affine(nmax), _putting(nbytes, pack), begin=_variance_of_rows
    )
    return feedback_encoder(kind)


def table_feedback(
    tables: TwoTables, scan: Callable[..., None], best: Callable[..., None], nbytes: int, pack: Callable[..., None]
) -> FeedbackEncoder:
    """Build the encoder for a scale and levels of the first of ``tables``; both searches are of ``search_table``."""

    def searching(search_block: Callable[..., None]) -> FeedbackEncoder:
        @spliced
        def find(x, w, search, _unit, found, step, offset):
            q = np.empty((BLOCK, LANES), np.float32)
            search_block(x, w, search, found[0], q)
            for k in range(LANES):
                step[k] = half_round(found[0, k])
                found[1, k] = offset[k] = _0

        return feedback_encoder(
            FeedbackType(BLOCK, 2, _weigh_by_block, find, nearest_of_table(tables), _putting(nbytes, pack))
        )

    return search_decides(searching(scan), exhaustive=searching(best))


def whole_range_feedback(top: int, nbytes: int, pack: Callable[..., None]) -> FeedbackEncoder:
    """Build the encoder for levels ``[-top, top]`` whose scale is the largest magnitude over ``top``: Q8_0."""
    by = np.float32(top)

    @spliced
    def find(x, _w, _search, _unit, found, step, offset):
        for k in range(LANES):
            found[0, k] = _0
        for e in range(BLOCK):
            for k in range(LANES):
                found[0, k] = max(found[0, k], abs(x[e, k]))
        for k in range(LANES):
            found[0, k] /= by
            step[k] = half_round(found[0, k])
            found[1, k] = offset[k] = _0

    kind = FeedbackType(BLOCK, 2, _weigh_not, find, nearest_linear(-top, top), _putting(nbytes, pack))
    return feedback_encoder(kind)
