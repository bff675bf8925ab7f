"""The scale search over a level table, for blocks side by side; see ``search`` for what a search maximizes.

A scan tries scales that differ by 20 % at most, while two neighbouring thresholds of the table differ by 23 % at least.
So within one scan a weight has at most two levels, and one threshold decides between them.  Both levels' terms of the
sums are prepared once per scan; a trial is then one comparison and two additions per weight, instead of a comparison
with each threshold.  Two trials share the loads of the terms: their sums take half of AVX2's registers, and with
AVX-512 they keep both of its ports busy.  As loops over 64 lanes that left the sums in memory, this took six times as
long on AVX2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.common.exhaustive import exhaustive_search
from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.levels import Levels, nearest_code, thresholds, vectors_chosen_by
from qxmix.quants.common.search import EXHAUSTIVE, GRADIENT, ZERO_BLOCK, largest_value
from qxmix.quants.common.simd import WIDTH, any_lane, load, splat, store, where
from qxmix.quants.jit import inlined, kernel

if TYPE_CHECKING:
    from qxmix.quants.contracts import FindScale
REACH = 7
"""A scan tries the full range less and plus up to this much."""
N_TRIALS = 16
"""Trials of a scan: the ``2 * REACH + 1`` of the reference and its start, all within the same two levels."""
_START = N_TRIALS - 1
_TRIAL = 2 * WIDTH
"""Floats of a trial's two sums."""

_0 = np.float32(0.0)
_1 = np.float32(1.0)
_INF = np.float32(np.inf)


@inlined
def _trial(t, bound, mx):
    """The inverse scale of trial t of the scan that takes the largest weight to around ``bound``."""
    return (np.float32(min(t, 2 * REACH) - REACH) + bound) / mx


@inlined
def _term(above, terms, at):
    return where(above, load(terms, at + WIDTH), load(terms, at))


@inlined
def _try_two(x, g, terms, first, second, sums):
    """Both sums of two trials into ``sums[:2 * _TRIAL]``; ``terms`` is what ``prepare`` wrote."""
    a1 = a2 = b1 = b2 = splat(_0)
    for e in range(x.shape[0]):
        value, at = load(x, e * LANES + g), 5 * WIDTH * e
        flip = load(terms, at)
        a, b = first * value >= flip, second * value >= flip
        a1, b1 = a1 + _term(a, terms, at + WIDTH), b1 + _term(b, terms, at + WIDTH)
        a2, b2 = a2 + _term(a, terms, at + 3 * WIDTH), b2 + _term(b, terms, at + 3 * WIDTH)
    store(sums, 0, a1)
    store(sums, WIDTH, a2)
    store(sums, _TRIAL, b1)
    store(sums, _TRIAL + WIDTH, b2)


def _prepare(levels: Levels) -> Callable[..., None]:
    flips = thresholds(levels)
    flip_below = vectors_chosen_by(flips, np.append(np.float32(-np.inf), flips))
    level_below = vectors_chosen_by(flips, np.append(levels[0], levels[:-1]))
    level = vectors_chosen_by(flips, levels)

    @inlined
    def prepare(x, w, g, one, other, terms):
        """The two levels of each weight between two inverse scales, the ends of a scan.

        Row ``5 e`` of ``terms`` (5 n, WIDTH) gets the threshold of weight e, the next four the terms of both sums on
        either side.
        """
        for e in range(x.shape[0]):
            value, weight, at = load(x, e * LANES + g), load(w, e * LANES + g), 5 * WIDTH * e
            # The last threshold that the largest product of the scan reaches; all others are out of the way.
            y = max(one * value, other * value)
            low, high = level_below(y), level(y)
            store(terms, at, flip_below(y))
            store(terms, at + WIDTH, (weight * low) * value)
            store(terms, at + 2 * WIDTH, (weight * high) * value)
            store(terms, at + 3 * WIDTH, (weight * low) * low)
            store(terms, at + 4 * WIDTH, (weight * high) * high)

    return prepare


def _refine(levels: Levels) -> Callable[..., object]:
    flips = thresholds(levels)
    up = np.append(np.diff(levels), np.float32(0.0))
    down = -np.append(np.float32(0.0), np.diff(levels))
    level = vectors_chosen_by(flips, levels)
    gap_up, gap_down = vectors_chosen_by(flips, up), vectors_chosen_by(flips, down)

    @inlined
    def shortest(x, w, g, size, state):
        """The element whose next level is the shortest way along the gradient; that way, its level, the gap."""
        way, at, old, gap = splat(_INF), splat(_0), splat(_0), splat(_0)
        for e in range(x.shape[0]):
            value, weight, q = load(x, e * LANES + g), load(w, e * LANES + g), load(state, 3 * WIDTH * e)
            slope = (size * weight) * (value - size * q)
            step = where(slope > _0, load(state, 3 * WIDTH * e + WIDTH), load(state, 3 * WIDTH * e + 2 * WIDTH))
            length = where((abs(slope) > _0) & (step != _0), step / slope, splat(_INF))
            nearer = length < way
            way, at = where(nearer, length, way), where(nearer, splat(np.float32(e)), at)
            old, gap = where(nearer, q, old), where(nearer, step, gap)
        return way, at, old, gap

    @inlined
    def refine(x, w, g, kept, active, best, s1, s2, state):
        """Move the level whose next neighbour is the shortest way along the gradient, while it explains more.

        ``state`` (3 n, WIDTH) gets the levels in rows 3 e, and the gaps to the next levels up and down behind them; the
        scale is returned.
        """
        n = x.shape[0]
        for e in range(n):
            y = kept * load(x, e * LANES + g)
            store(state, 3 * WIDTH * e, level(y))
            store(state, 3 * WIDTH * e + WIDTH, gap_up(y))
            store(state, 3 * WIDTH * e + 2 * WIDTH, gap_down(y))
        size, moves = s1 / s2, 0
        while any_lane(active) and moves < n * 32:
            moves += 1
            way, at, old, gap = shortest(x, w, g, size, state)
            new, value, weight = old + gap, splat(_0), splat(_0)
            for e in range(n):
                here = at == np.float32(e)
                value, weight = where(here, load(x, e * LANES + g), value), where(here, load(w, e * LANES + g), weight)
            n1, n2 = s1 + (weight * value) * (new - old), s2 + weight * (new * new - old * old)
            active = active & (way < _INF) & (n2 > _0) & (n1 * n1 > best * n2)
            if any_lane(active):
                s1, s2, size = where(active, n1, s1), where(active, n2, s2), where(active, n1 / n2, size)
                best = where(active, size * n1, best)
                above, below = gap_up(new), gap_down(new)
                for e in range(n):
                    here, row = active & (at == np.float32(e)), 3 * WIDTH * e
                    store(state, row, where(here, new, load(state, row)))
                    store(state, row + WIDTH, where(here, above, load(state, row + WIDTH)))
                    store(state, row + 2 * WIDTH, where(here, below, load(state, row + 2 * WIDTH)))
        return size

    return refine


def table_scan(levels: Levels) -> FindScale:
    """Build the search by trial scales: ``quantize_row_iq4_nl_impl`` of ik_llama.cpp up to the scale.

    The table's thresholds must leave two levels per scan; those of IQ4 do.
    """
    lowest, highest = levels[0], levels[-1]
    prepare, refine = _prepare(levels), _refine(levels)

    @kernel
    def scan_table(x, w, search, scale, q):
        """Scale (LANES,) and levels ``q`` (n, LANES) of each lane; the reference keeps only the scale."""
        n = x.shape[0]
        terms, sums = np.empty(5 * WIDTH * n, np.float32), np.empty((2, N_TRIALS * _TRIAL), np.float32)
        for g in range(0, LANES, WIDTH):
            amax, mx = largest_value(x, g)
            # The reference starts from the lowest level with the sign of the second scan.
            kept = _1 / (-mx / lowest)
            for side in range(2):
                bound = highest if side else lowest
                last = kept if side else _trial(_START, bound, mx)
                prepare(x, w, g, _trial(0, bound, mx), last, terms)
                for t in range(0, N_TRIALS, 2):
                    two = _trial(t + 1, bound, mx) if t + 1 < _START else last
                    _try_two(x, g, terms, _trial(t, bound, mx), two, sums[side, t * _TRIAL :])
            s1, s2 = load(sums[1], _START * _TRIAL), load(sums[1], _START * _TRIAL + WIDTH)
            best = (s1 / s2) * s1
            # The reference tries both scans in turns, and the first of two equals wins.
            for t in range(2 * REACH + 1):
                for side in range(2 if search == GRADIENT else 1):
                    t1, t2 = load(sums[side], t * _TRIAL), load(sums[side], t * _TRIAL + WIDTH)
                    better = (t2 > _0) & (t1 * t1 > best * t2)
                    kept = where(better, _trial(t, highest if side else lowest, mx), kept)
                    best, s1, s2 = where(better, (t1 / t2) * t1, best), where(better, t1, s1), where(better, t2, s2)
            found = amax >= ZERO_BLOCK
            moving = found if search == GRADIENT else amax < _0
            size = refine(x, w, g, kept, moving, best, s1, s2, terms)
            store(scale, g, where(found, size, splat(_0)))
            for e in range(n):
                store(q, e * LANES + g, load(terms, 3 * WIDTH * e))

    return scan_table


def table_best(levels: Levels) -> FindScale:
    """Build the exhaustive search over a level table."""
    nearest, code_of = vectors_chosen_by(thresholds(levels), levels), nearest_code(levels)

    @inlined
    def nearest_level(y, _low, _high):
        return nearest(y)

    @inlined
    def index_of(y, _low, _high):
        return code_of(y)

    best_of = exhaustive_search(nearest_level, index_of, mirrored=False)

    @kernel
    def best_table(x, w, _search, scale, q):
        """As ``scan_table``, the best of all scales."""
        best_of(x, w, levels.copy(), scale, q)
        for g in range(0, LANES, WIDTH):
            amax, _ = largest_value(x, g)
            store(scale, g, where(amax >= ZERO_BLOCK, load(scale, g), splat(_0)))

    return best_table


def either_search(scan: FindScale, best: FindScale) -> FindScale:
    """Build the search that goes by ``search``, for kernels that are not made for one of them."""

    @kernel
    def search_table(x, w, search, scale, q):
        if search == EXHAUSTIVE:
            best(x, w, search, scale, q)
        else:
            scan(x, w, search, scale, q)

    return search_table
