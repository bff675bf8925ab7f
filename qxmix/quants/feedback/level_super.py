"""Error feedback for the types with two level tables, a scale per super-block or per row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.numerics import half_round, store_half
from qxmix.quants.common.row_scale import load_columns, load_rows, store_float
from qxmix.quants.common.superblock import SUPER, put_half
from qxmix.quants.feedback.encoder import FeedbackType, feedback_encoder
from qxmix.quants.feedback.nearest import nearest_of_table
from qxmix.quants.feedback.super import gather_blocks, putting, widest_blocks
from qxmix.quants.jit import inlined, spliced
from qxmix.quants.level.encoder import LevelType, weigh_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxmix.quants.codec import FeedbackEncoder

ROOM = np.float32(1.05)

_OF_SIXTEEN = 6
"""Blocks of each super-block that are searched for its scale: with eight IQ3_K is half as fast as without feedback."""

_OF_A_ROW = 2
"""Blocks of each super-block that are searched for the scale of a row."""

_0 = np.float32(0.0)
_1 = np.float32(1.0)


def _find(kind: LevelType) -> Callable[..., None]:
    search_block, level_of = kind.search, kind.level

    @spliced
    def find(x, w, _search, unit, found, step, offset):
        search_block(x, w, found)
        for k in range(LANES):
            inverse = _1 / unit[0, k] if unit[0, k] != _0 else _0
            found[0, k] = level_of(inverse * found[0, k])
            step[k] = unit[0, k] * found[0, k]
            offset[k] = found[1, k]

    return find


def _widest(kind: LevelType, n_searched: int) -> Callable[..., None]:
    """Build the step that keeps in ``extreme`` (LANES,) the largest scale of ``n_searched`` blocks of super-blocks."""
    search_block, block = kind.search, kind.block

    @spliced
    def widest(x, w, extreme):
        at, found = np.empty((n_searched, LANES), np.int64), np.empty((2, LANES), np.float32)
        xs, ws = np.empty((block, LANES), np.float32), np.empty((block, LANES), np.float32)
        widest_blocks(x, block, at)
        for i in range(n_searched):
            gather_blocks(x, at[i], xs)
            gather_blocks(w, at[i], ws)
            search_block(xs, ws, found)
            for k in range(LANES):
                extreme[k] = found[0, k] if abs(found[0, k]) > abs(extreme[k]) else extreme[k]

    return widest


def _unit(kind: LevelType) -> Callable[..., None]:
    """Build the step that makes the unit of the largest scale ``extreme``."""
    unit_of, half = kind.unit, kind.half

    @spliced
    def set_unit(extreme, unit):
        for k in range(LANES):
            d = ROOM * unit_of(abs(extreme[k]), extreme[k])
            unit[0, k] = half_round(d) if half else d

    return set_unit


def level_feedback(kind: LevelType) -> FeedbackEncoder:
    """Build the encoder of a type with a half in front of each super-block."""
    pack, nbytes, weigh = kind.pack, kind.nbytes, weigh_of(kind)
    widest, set_unit = _widest(kind, _OF_SIXTEEN), _unit(kind)

    @spliced
    def fix(x, w, unit):
        extreme = np.zeros(LANES, np.float32)
        widest(x, w, extreme)
        set_unit(extreme, unit)

    @spliced
    def fill(codes, found, unit, block):
        pack(codes, found[0], found[1], block)
        put_half(block, 0, unit[0])

    @spliced
    def weigh_importance(x, w, _unit):
        weigh(x, w, LANES, True)  # noqa: FBT003 - a kernel

    return feedback_encoder(
        FeedbackType(
            kind.block, 2, weigh_importance, _find(kind), nearest_of_table(kind.tables), putting(nbytes, 0, fill),
            fix=fix,
        )
    )  # fmt: skip


def level_rows_feedback(kind: LevelType) -> FeedbackEncoder:
    """Build the encoder of a type with a scale in front of each row, a half or a float32."""
    pack, half, weigh = kind.pack, kind.half, weigh_of(kind)
    widest, set_unit = _widest(kind, _OF_A_ROW), _unit(kind)

    @inlined
    def fill(codes, found, _unit, block):
        pack(codes, found[0], found[1], block)

    @spliced
    def weigh_importance(x, w, _unit):
        weigh(x, w, LANES, True)  # noqa: FBT003 - a kernel

    @spliced
    def begin(rows, columns, unit):
        """Scale of each row, from the widest blocks of all its super-blocks."""
        n, n_super = rows.shape[0], rows.shape[1] // SUPER
        x, w = np.empty((SUPER, LANES), np.float32), np.empty((SUPER, LANES), np.float32)
        extreme = np.zeros(LANES, np.float32)
        for i in range(n_super):
            load_rows(rows, 0, n, SUPER * i, x)
            load_columns(columns, SUPER * i, w)
            weigh(x, w, LANES, True)  # noqa: FBT003 - a kernel
            widest(x, w, extreme)
        set_unit(extreme, unit)

    @spliced
    def end(unit, packed, first, n):
        for k in range(n):
            if half:
                store_half(packed[first + k], 0, unit[0, k])
            else:
                store_float(packed[first + k], 0, unit[0, k])

    return feedback_encoder(
        FeedbackType(
            kind.block, 2, weigh_importance, _find(kind), nearest_of_table(kind.tables),
            putting(kind.nbytes, 2 if half else 4, fill), begin=begin, end=end,
        )
    )  # fmt: skip
