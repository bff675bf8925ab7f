"""Error feedback for the types with two level tables, a scale per super-block or per row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.numerics import half_round, store_half
from qxmix.quants.common.row_scale import load_columns, load_rows, store_float
from qxmix.quants.common.simd import WIDTH, load, splat, store, where
from qxmix.quants.common.superblock import SUPER, put_half
from qxmix.quants.feedback.encoder import FeedbackType, feedback_encoder
from qxmix.quants.feedback.nearest import nearest_of_table
from qxmix.quants.feedback.super import AROUND, gather_blocks, putting, widest_blocks
from qxmix.quants.jit import inlined, kernel, spliced
from qxmix.quants.level.encoder import LevelType, weigh_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxmix.quants.codec import FeedbackEncoder

ROOM = np.float32(1.05)

_OF_SIXTEEN = 6
"""Blocks of each super-block that are searched for its scale: with eight IQ3_K is half as fast as without feedback."""

_OF_A_ROW = 2
"""Blocks of each super-block that are searched for the scale of a row."""

_INF = np.float32(np.inf)
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


def _find_among_three(kind: LevelType) -> Callable[..., None]:
    """Build ``find`` of a type whose scales are coarse beside its levels: of three multiples that with least error.

    With the nearest one IQ5_K lost 4 % in one ffn_down of four instead of winning some.
    """
    search_block, level_of, nearest = kind.search, kind.level, nearest_of_table(kind.tables)

    @kernel
    def keep_better(x, w, unit, trial, side, best, level):
        """Replace ``level`` by ``trial`` where its error is below ``best``; all but x and w are (LANES,)."""
        for g in range(0, LANES, WIDTH):
            step, total = load(unit, g) * load(trial, g), splat(_0)
            inverse = where(step != _0, _1 / step, splat(_0))
            for e in range(x.shape[0]):
                value = load(x, e * LANES + g)
                miss = value - nearest(value, step, inverse, load(side, g))[1]
                total = total + load(w, e * LANES + g) * (miss * miss)
            better = total < load(best, g)
            store(best, g, where(better, total, load(best, g)))
            store(level, g, where(better, load(trial, g), load(level, g)))

    @spliced
    def find(x, w, _search, unit, found, step, offset):
        lanes = np.empty((3, LANES), np.float32)
        multiple, trial, best = lanes[0], lanes[1], lanes[2]
        search_block(x, w, found)
        for k in range(LANES):
            inverse = _1 / unit[0, k] if unit[0, k] != _0 else _0
            multiple[k], best[k] = inverse * found[0, k], _INF
            found[0, k] = level_of(multiple[k])
        for i in range(3):
            for k in range(LANES):
                trial[k] = level_of(multiple[k] + AROUND[i])
            keep_better(x, w, unit[0], trial, found[1], best, found[0])
        for k in range(LANES):
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
    """Build the step that makes the unit of the largest scale ``extreme``.

    That of a coarse type is a whole multiple of it: a weight as large that counts a hundred times as much as others,
    which the encoder without feedback fits its scale to, was missed by 1.5 % else, and the error of its row tenfold.
    """
    unit_of, level_of, half, coarse = kind.unit, kind.level, kind.half, kind.coarse

    @spliced
    def set_unit(extreme, unit):
        for k in range(LANES):
            d = ROOM * unit_of(abs(extreme[k]), extreme[k])
            if coarse:
                d = extreme[k] / level_of(extreme[k] / d) if d != _0 else d
            unit[0, k] = half_round(d) if half else d

    return set_unit


def level_feedback(kind: LevelType) -> FeedbackEncoder:
    """Build the encoder of a type with a half in front of each super-block."""
    pack, nbytes, weigh = kind.pack, kind.nbytes, weigh_of(kind)
    widest, set_unit = _widest(kind, _OF_SIXTEEN), _unit(kind)
    find = _find_among_three(kind) if kind.coarse else _find(kind)

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
            kind.block, 2, weigh_importance, find, nearest_of_table(kind.tables), putting(nbytes, 0, fill),
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
