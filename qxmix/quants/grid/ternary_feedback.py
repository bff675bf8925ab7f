"""Error feedback for IQ1_S and IQ1_M: scales of blocks, shifts and points are chosen anew, block by block.

The scale of a super-block stays as the encoder without feedback finds it; then, for each block of a span::

    reach       the errors of the blocks before get to it
    rough       what each code of the scale would leave if all points of three levels were there, with both shifts
    scale       of the few that would leave least that which does with the points there are; for IQ1_S with its shift
    for each eight columns
        shift   IQ1_M's, which has one for each: that which would leave less
        point   the nearest one; its errors get to the columns behind it in the block

Errors count as in ``feedback``.  The grid has 2,048 of the 3 ** 8 roundings to three levels: with what these would
leave alone the error of the output, on other text, was 0.6 to 0.8 % more than with two tried, with four tried the same.
IQ1_M's shifts by the points, too, took 0.8 % more off, in 1.4 times the time before points were found by terms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.row_scale import load_rows
from qxmix.quants.common.simd import WIDTH, load, splat, store, where
from qxmix.quants.feedback.carry import carry
from qxmix.quants.feedback.spans import SPAN
from qxmix.quants.grid.feedback import reach, weigh
from qxmix.quants.grid.grids import grid_points
from qxmix.quants.grid.ternary_grid import DELTA
from qxmix.quants.grid.ternary_search import (
    GROUP,
    find_points,
    least_errors,
    left_of,
    scratch,
    set_shift,
    ternary_points,
)
from qxmix.quants.jit import inlined, kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxmix.quants.codec import Columns, Encoder, Factors, FeedbackEncoder, Packed, Rows

N_CODES = 8
_INF = np.float32(np.inf)
_0 = np.float32(0.0)
_1 = np.float32(1.0)


def _roughing(*, block: int, each: bool) -> Callable[..., None]:
    """Build the kernel that sets what codes leave, or pairs of code and shift where a block has one shift."""
    n = GROUP if each else block

    @kernel
    def rough(x, w, base, errors):
        """Set ``errors`` (8 or 16, LANES) of block ``x``: of code c, or of c shifted up, 2 c, and down, 2 c + 1."""
        for g in range(0, LANES, WIDTH):
            d = load(base, g)
            for c in range(N_CODES):
                step = d * np.float32(2 * c + 1)
                size, half, total = abs(step), step * DELTA, splat(_0)
                for of in range(0, block, n):
                    up, down = splat(_0), splat(_0)
                    for e in range(of, of + n):
                        a = load(x, e * LANES + g)
                        up, down = up + left_of(a - half, size) * w[e], down + left_of(a + half, size) * w[e]
                    if each:
                        total = total + min(up, down)
                    else:
                        store(errors, 2 * c * LANES + g, up)
                        store(errors, (2 * c + 1) * LANES + g, down)
                if each:
                    store(errors, c * LANES + g, total)

    return rough


@kernel
def _pick(errors, picked):
    """Set ``picked`` (n, LANES) float32 to the numbers of the least of ``errors`` (.., LANES), made infinite."""
    for t in range(picked.shape[0]):
        for g in range(0, LANES, WIDTH):
            least, at = splat(_INF), splat(_0)
            for c in range(errors.shape[0]):
                error = load(errors, c * LANES + g)
                better = error < least
                least, at = where(better, error, least), where(better, splat(np.float32(c)), at)
            store(picked, t * LANES + g, at)
            for c in range(errors.shape[0]):
                taken = at == splat(np.float32(c))
                store(errors, c * LANES + g, where(taken, splat(_INF), load(errors, c * LANES + g)))


@inlined
def _set_step(base, number, each, step, half):
    """Set ``step`` and ``half``, step times shift, (LANES,) to what ``number`` (LANES,) of a block stands for."""
    for k in range(LANES):
        code = number[k] if each else np.floor(number[k] * np.float32(0.5))
        step[k] = base[k] * (code + code + _1)
        half[k] = step[k] * DELTA if each or number[k] == code + code else -(step[k] * DELTA)


def _trying(*, block: int, each: bool, n_tried: int) -> Callable[..., None]:
    """Build the kernel that chooses among what was picked."""

    @kernel
    def choose_scale(x, w, base, picked, tables, work, per, number):
        """Set ``number`` (LANES,) to that of ``picked`` (n_tried, LANES) with the least error."""
        step, half, error, total, least = per[0], per[1], per[2], per[3], per[4]
        for t in range(n_tried):
            _set_step(base, picked[t], each, step, half)
            for k in range(LANES):
                total[k] = _0
            for of in range(0, block, GROUP):
                part, by = x[of : of + GROUP], w[of : of + GROUP]
                if each:
                    set_shift(part, by, step, half)
                least_errors(part, by, step, half, tables, work, error)
                for k in range(LANES):
                    total[k] += error[k]
            for k in range(LANES):
                better = t == 0 or total[k] < least[k]
                least[k] = total[k] if better else least[k]
                number[k] = picked[t, k] if better else number[k]

    return choose_scale


@kernel
def _miss(error, step, half, points, at, minus):
    """Subtract from ``error`` (8, LANES) what points ``at`` (LANES,) are decoded to, and set ``minus`` (LANES,)."""
    for k in range(LANES):
        down = (half[k] < _0) != (step[k] < _0)
        minus[k] = 1 if down else 0
        shift = -DELTA if down else DELTA
        for e in range(GROUP):
            error[e, k] -= step[k] * (points[at[k], e] + shift)


def _walking(*, each: bool) -> Callable[..., None]:
    """Build the kernel that chooses the points of a block, and the shifts of eights."""

    @kernel
    def walk(x, error, factor, lo, w, base, number, tables, work, per, points, chosen, minus):
        """Points and shifts (block / 8, LANES) of the columns of a span from ``lo`` on."""
        step, half = per[0], per[1]
        _set_step(base, number, each, step, half)
        for i in range(0, len(w), GROUP):
            part, by, at = x[lo + i : lo + i + GROUP], w[i : i + GROUP], chosen[i // GROUP]
            if each:
                set_shift(part, by, step, half)
            find_points(part, by, step, half, tables, work, at)
            _miss(error[lo + i : lo + i + GROUP], step, half, points, at, minus[i // GROUP])
            reach(x, error, factor, lo + i, lo + i + GROUP, lo + len(w))

    return walk


def _choosing(*, block: int, each: bool, n_tried: int) -> Callable[..., None]:
    rough, choose_scale = _roughing(block=block, each=each), _trying(block=block, each=each, n_tried=n_tried)
    walk, n_rough = _walking(each=each), N_CODES if each else 2 * N_CODES

    @kernel
    def choose(
        rows, factors, bases, starts, behind, numbers, joined, term_starts, terms, points, scales, chosen, minus
    ):  # fmt: skip
        """Choose scales, shifts and points of up to LANES rows.

        Args:
            rows: (n_rows, n_cols) float32.
            factors: (n_super, 256, 256) float32.
            bases: (n_super, LANES) float32 the scales of the super-blocks.
            starts: Of ``Points``, like those that follow.
            behind: The second half of each point.
            numbers: Their numbers in the grid.
            joined: What terms are made of.
            term_starts: Where those of each first half begin.
            terms: The terms.
            points: (n_points, 8) float32 the grid.
            scales: (n_blocks, LANES) float32, written: codes of the scales, or twice the code and 1 if shifted down.
            chosen: (n_cols / 8, LANES) int32, written: the numbers of points.
            minus: (n_cols / 8, LANES) int32, written: 1 where the shift is down.

        """
        tables, work = (starts, behind, numbers, joined, term_starts, terms), scratch(joined)
        x, error = np.empty((SPAN, LANES), np.float32), np.empty((SPAN, LANES), np.float32)
        errors, picked = np.empty((n_rough, LANES), np.float32), np.empty((n_tried, LANES), np.float32)
        per, w = np.empty((7, LANES), np.float32), np.empty(block, np.float32)
        for of in range(0, rows.shape[1], SPAN):
            factor, base = factors[of // SPAN], bases[of // SPAN]
            load_rows(rows, 0, rows.shape[0], of, x)
            load_rows(rows, 0, rows.shape[0], of, error)
            for lo in range(0, SPAN, block):
                carry(x, error, factor, lo, lo + block)
                weigh(factor, lo, w)
                rough(x[lo : lo + block], w, base, errors)
                _pick(errors, picked)
                number = scales[(of + lo) // block]
                choose_scale(x[lo : lo + block], w, base, picked, tables, work, per, number)
                at, down = chosen[(of + lo) // GROUP :], minus[(of + lo) // GROUP :]
                walk(x, error, factor, lo, w, base, number, tables, work, per, points, at, down)

    return choose


def ternary_feedback(
    *, block: int, each: bool, n_tried: int, encode: Encoder, nbytes: int, take: Callable[..., float],
    put: Callable[..., None],
) -> FeedbackEncoder:  # fmt: skip
    """Build the encoder of a type on the grid of IQ1_S.

    Args:
        block: Weights that share a scale.
        each: Whether each eight has a shift, else each block.
        n_tried: Codes, or pairs of code and shift, that are tried with the points.
        encode: Finds the scales of super-blocks.
        nbytes: Of a super-block.
        take: ``take(row, at)``: the scale of the super-block at ``row[at:]``.
        put: ``put(row, at, k, codes, points, minus)``: write lane ``k`` of codes (n_blocks, LANES), points and shifts
            (32, LANES) to the super-block, whose scale is there.

    """
    choose, n_blocks, n_groups = _choosing(block=block, each=each, n_tried=n_tried), SPAN // block, SPAN // GROUP

    @kernel
    def take_scales(packed, bases):
        for k in range(packed.shape[0]):
            for b in range(bases.shape[0]):
                bases[b, k] = take(packed[k], nbytes * b)

    @kernel
    def put_all(scales, chosen, minus, packed):
        for b in range(packed.shape[1] // nbytes):
            codes, at = scales[n_blocks * b : n_blocks * (b + 1)], chosen[n_groups * b : n_groups * (b + 1)]
            down = minus[n_groups * b : n_groups * (b + 1)]
            for k in range(packed.shape[0]):
                put(packed[k], nbytes * b, k, codes, at, down)

    def encode_rows(rows: Rows, columns: Columns, factors: Factors, packed: Packed, search: int) -> None:
        encode(rows, columns, packed, search)
        points, n_super = grid_points("IQ1_S"), len(factors)
        bases, scales = np.zeros((n_super, LANES), np.float32), np.empty((n_super * n_blocks, LANES), np.float32)
        chosen = np.empty((2, n_super * n_groups, LANES), np.int32)
        for first in range(0, len(rows), LANES):
            part, out = rows[first : first + LANES], packed[first : first + LANES]
            take_scales(out, bases)
            choose(part, factors, bases, *ternary_points(), points, scales, chosen[0], chosen[1])
            put_all(scales, chosen[0], chosen[1], out)

    return encode_rows
