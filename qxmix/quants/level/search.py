"""The scale search over two level tables and both signs, for blocks side by side: IQ3_K to IQ6_K, IQ3_KS to IQ5_KS.

For each trial scale the reference fits the block four ways: to the table and to the shifted one, each as it is and
mirrored (a negative scale).  So a search is four scans, two that take the largest weight to the lowest level of a table
and two that take it as far up.  See ``search`` for what a fit maximizes.

As in ``search_table`` a weight has at most two levels within a scan, since its trials differ by less than neighbouring
thresholds do; a scan of the 64 levels of IQ6_K, whose thresholds differ by 5 %, is cut in two for that.  Both levels'
terms of the sums are prepared once per scan, and a trial is one comparison and two additions per weight.

Measured on one thread with an importance: 9 (IQ3_K) to 16 (IQ6_K) times as fast as ik_llama.cpp; IQ4_K, IQ4_KS and
IQ6_K 4.7 to 6.7 times with SSE2 alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.levels import Levels, thresholds
from qxmix.quants.common.search import largest_value
from qxmix.quants.common.simd import WIDTH, any_lane, gather, load, splat, store, where
from qxmix.quants.jit import inlined, kernel
from qxmix.quants.level.two_tables import TwoTables, entry_of

ZERO_BLOCK = np.float32(1e-16)
"""A block whose largest magnitude is below this has no scale."""

_AT_ONCE = 4
_N_TERMS = 5

_0 = np.float32(0.0)
_1 = np.float32(1.0)


def _offsets(reach: int, stride: int) -> Levels:
    """What the trials of a scan add to the lowest level; the start, of offset 0, stands behind the middle one."""
    steps = [*range(-reach, 1), 0, *range(1, reach + 1)]
    return np.array([stride * step for step in steps], dtype=np.float32)


def _parts(tables: TwoTables, offsets: Levels) -> tuple[tuple[int, int], ...]:
    """Trials ``first .. last`` that see each weight at no more than two levels: as many together as can be."""

    def fits(first: int, last: int) -> bool:
        for levels in (tables.levels, tables.levels + tables.shift):
            ends = np.abs(offsets[[first, last - 1]] + levels[0])
            ratios = [max(a / b, b / a) for a, b in itertools.pairwise(thresholds(levels)) if a * b > 0]
            if ends.max() / ends.min() > min(ratios) - 1e-5:
                return False
        return True

    parts, first = [], 0
    while first < len(offsets):
        last = max(n for n in range(first + _AT_ONCE, len(offsets) + 1, _AT_ONCE) if n == first + 4 or fits(first, n))
        parts.append((first, last))
        first = last
    return tuple(parts)


def _prepare(tables: TwoTables) -> Callable[..., None]:
    entry = entry_of(tables)
    flip, low_level, high_level = tables.last, tables.low, tables.high

    @kernel
    def prepare(x, w, g, side, trials, first, last, terms):
        """The two levels of each weight in trials ``first .. last``: the threshold, the terms of both sums of each."""
        side, one, other = splat(side), load(trials, first), load(trials, last)
        for e in range(x.shape[0]):
            v, u = load(x, e * LANES + g), load(w, e * LANES + g)
            # The last threshold that the largest product reaches; all others are out of the way.
            at, to = entry(max(one * v, other * v), side), _N_TERMS * WIDTH * e
            below, above = gather(low_level, at), gather(high_level, at)
            below_u, above_u = u * below, u * above
            store(terms, to, gather(flip, at))
            store(terms, to + WIDTH, below_u * v)
            store(terms, to + 2 * WIDTH, above_u * v)
            store(terms, to + 3 * WIDTH, below_u * below)
            store(terms, to + 4 * WIDTH, above_u * above)

    return prepare


@kernel
def _try_four(x, g, terms, trials, sums, at):
    """Sums of four trials, which share the loads of a weight; ``at`` is where their inverse scales stand."""
    i0, i1 = load(trials, at), load(trials, at + WIDTH)
    i2, i3 = load(trials, at + 2 * WIDTH), load(trials, at + 3 * WIDTH)
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = splat(_0)
    for e in range(x.shape[0]):
        v, term = load(x, e * LANES + g), _N_TERMS * WIDTH * e
        flip, below, above = load(terms, term), load(terms, term + WIDTH), load(terms, term + 2 * WIDTH)
        below2, above2 = load(terms, term + 3 * WIDTH), load(terms, term + 4 * WIDTH)
        r0, r1, r2, r3 = i0 * v >= flip, i1 * v >= flip, i2 * v >= flip, i3 * v >= flip
        a0, b0 = a0 + where(r0, above, below), b0 + where(r0, above2, below2)
        a1, b1 = a1 + where(r1, above, below), b1 + where(r1, above2, below2)
        a2, b2 = a2 + where(r2, above, below), b2 + where(r2, above2, below2)
        a3, b3 = a3 + where(r3, above, below), b3 + where(r3, above2, below2)
    to = 2 * at
    store(sums, to, a0)
    store(sums, to + WIDTH, b0)
    store(sums, to + 2 * WIDTH, a1)
    store(sums, to + 3 * WIDTH, b1)
    store(sums, to + 4 * WIDTH, a2)
    store(sums, to + 5 * WIDTH, b2)
    store(sums, to + 6 * WIDTH, a3)
    store(sums, to + 7 * WIDTH, b3)


def _choosing(n_trials: int, start: int, lowest: np.float32, *, careful: bool) -> Callable[..., Any]:
    @inlined
    def choose(mx, sums):
        """Scale and table of the trial that explains most; of equals the one that the reference tries first."""
        at = 2 * (n_trials + start) * WIDTH
        s1, s2 = load(sums, at), load(sums, at + WIDTH)
        d = s1 / s2
        best, side = d * s1, splat(_0)
        if careful:
            d, best = where(s2 > _0, d, -mx / lowest), where(s2 > _0, best, splat(_0))
        for t in range(-1, n_trials):
            for i in range(1 if t < 0 else 4):
                at = 2 * (i * n_trials + (start if t < 0 else t)) * WIDTH
                s1, s2 = load(sums, at), load(sums, at + WIDTH)
                better = (s2 > _0) & (s1 * s1 > best * s2)
                if t != start and any_lane(better):
                    trial = s1 / s2
                    d, best = where(better, trial, d), where(better, trial * s1, best)
                    side = where(better, splat(np.float32(i // 2)), side)
        return d, side

    return choose


def _fitting(tables: TwoTables) -> Callable[..., Any]:
    entry, level_at = entry_of(tables), tables.high

    @inlined
    def fit(x, w, g, d, side):
        inverse = _1 / d
        s1 = s2 = splat(_0)
        for e in range(x.shape[0]):
            v = load(x, e * LANES + g)
            level = gather(level_at, entry(inverse * v, side))
            weighted = load(w, e * LANES + g) * level
            s1, s2 = s1 + weighted * v, s2 + weighted * level
        return where((d != _0) & (s2 > _0), s1 / s2, d)

    return fit


def level_search(
    tables: TwoTables, reach: int, *, stride: int = 1, refit: bool = False, careful: bool = False
) -> Callable[..., None]:
    """Build the search of ik_llama.cpp for a pair of tables.

    Args:
        tables: The levels.
        reach: A scan tries this many scales on either side of the full range.
        stride: How far apart they are.
        refit: The scale found is fitted once more to the levels nearest to it.
        careful: A start whose levels are all zero counts nothing; without it the block has no scale to compare with.

    """
    offsets = _offsets(reach, stride)
    parts = _parts(tables, offsets)
    n_trials, start, lowest, shift = len(offsets), reach + 1, tables.levels[0], tables.shift
    prepare, fit, choose = _prepare(tables), _fitting(tables), _choosing(n_trials, start, lowest, careful=careful)

    @inlined
    def scan(x, w, g, mx, terms, trials, sums):
        """Sums of all trials of the four scans: table, mirrored, shifted, shifted and mirrored."""
        for side in range(2):
            down, up = 2 * side * n_trials * WIDTH, (2 * side + 1) * n_trials * WIDTH
            for t in range(n_trials):
                inverse = (offsets[t] + (lowest + np.float32(side) * shift)) / mx
                # The reference starts with the sign of the mirrored scan.
                inverse = -(_1 / (-mx / lowest)) if t == start and side == 0 else inverse
                store(trials, down + t * WIDTH, inverse)
                store(trials, up + t * WIDTH, -inverse)
        for i in range(4):
            for first, last in parts:
                at, end = (i * n_trials + first) * WIDTH, (i * n_trials + last - 1) * WIDTH
                prepare(x, w, g, np.float32(i // 2), trials, at, end, terms)
                for t in range(at, end, _AT_ONCE * WIDTH):
                    _try_four(x, g, terms, trials, sums, t)

    @kernel
    def search(x, w, found):
        """Of each lane of ``x`` and ``w`` (n, LANES) the scale, and 1 if it is for the shifted table, else 0.

        Both are written to ``found`` (2, LANES).
        """
        terms = np.empty(x.shape[0] * _N_TERMS * WIDTH, np.float32)
        trials = np.empty(4 * n_trials * WIDTH, np.float32)
        sums = np.empty(4 * n_trials * 2 * WIDTH, np.float32)
        for g in range(0, LANES, WIDTH):
            amax, mx = largest_value(x, g)
            scan(x, w, g, mx, terms, trials, sums)
            d, side = choose(mx, sums)
            if refit:
                d = fit(x, w, g, d, side)
            scaled = amax >= ZERO_BLOCK
            store(found, g, where(scaled, d, splat(_0)))
            store(found, LANES + g, where(scaled, side, splat(_0)))

    return search
