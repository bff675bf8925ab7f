"""The search that the grid I-quants share: trial scales in lanes, one super-block of 256 weights at a time.

For each trial scale the reference rounds a block to levels, moves every group that is off the grid to the neighbour
with the least weighted squared error, and keeps the trial that explains most.  Here the trials of a block lie side by
side: codes of all trials come from SIMD, and of the 13 to 31 trials of a group only 2 to 4 differ in their code
(student-t weights), so a list of neighbours is searched about three times for each *run* of equal codes:

* the weighted distance of grid point q at scale s is ``s*s*A - 2*s*B + C`` with C the same for all q.  The difference
  of two of them, divided by s, is linear in s: a neighbour that wins at both ends of a run wins in between, too;
* that holds for exact numbers.  The reference rounds, with an error below ``2**-24 * (112 * C + 28 * distance)``, so
  the ends must win by a margin three times what the roundings of both and of the inner trials could bridge.
  Otherwise the run is halved, down to single trials.  The bytes are the reference's in either case.

Measured with student-t weights: of the 31 trials of a group of IQ3_XXS 22 are off the grid, in 2.8 runs, and take 9
searches; of the others' 13 to 19 trials 9 to 10, in 1.4 to 1.7 runs, and take 4 to 5.

A weight has three levels or eight, so what it can add to a distance is a table of so many numbers, in a register: for a
neighbour its term is one permutation by the bits of the code, instead of nine operations.  With that and with minima
held in vectors the five types are 1.3 to 1.5 times as fast (AVX2) as a loop over the neighbours of each search.

Levels are 0, 1, 2 .. and stand for 1, 3, 5 ..; a group's levels packed into an integer are its code (``grids.py``).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qxmix.quants.common.numerics import nint
from qxmix.quants.common.simd import WIDTH, least_lane, load, splat, where
from qxmix.quants.common.simd_few import load_halfwords, of_eight, of_four, spread_lane, two_least
from qxmix.quants.jit import inlined, kernel

SUPER_BLOCK = 256
UNKNOWN, KNOWN, SURE = 0, 1, 2
"""Whether a trial's neighbour has been searched, and whether it won by the margin."""

_0 = np.float32(0.0)
_1 = np.float32(1.0)
_HALF = np.float32(0.5)
_MARGIN = np.float32(1e-4)
_TINY = np.float32(1e-30)  # far above where products of float32 underflow and lose their relative precision
_FARTHEST = np.float32(np.inf)
_NUMBERS = np.arange(WIDTH, dtype=np.float32)
"""Places in a list of neighbours, of which vectors are made."""
_U3, _U6, _U9 = np.uint32(3), np.uint32(6), np.uint32(9)


@inlined
def _level3(y):
    """``clamp(nint(0.5 * (y - 1)), 0, 2)`` as a float32.  The ties, 2 and 4, go to the even level."""
    return (_1 if y > np.float32(2.0) else _0) + (_1 if y >= np.float32(4.0) else _0)


@inlined
def _level8(y):
    """``clamp(nint(0.5 * (y - 1)), 0, 7)`` as a float32."""
    return min(max(nint(_HALF * (y - _1)), _0), np.float32(7.0))


def _value_of(n: int) -> Callable[..., np.float32]:
    bits, mask = (2, 3) if n == 8 else (3, 7)  # noqa: PLR2004 - the two kinds of grid

    @inlined
    def value(code, i):
        """What level ``i`` of a code stands for."""
        return np.float32(np.int32((np.uint32(code >> np.uint32(bits * i)) & np.uint32(mask)) * 2 + 1))

    return value


@inlined
def _terms(values, s, x, u):
    """What one weight adds to the distance at scale ``s``, for each level: all that a grid point can ask of it."""
    e = s * values - x
    return (u * e) * e


@inlined
def _terms_of_4(values, s, x, u):
    """``_terms`` of the weights in the first four lanes of ``x`` and ``u``."""
    return (
        _terms(values, s, spread_lane(x, 0), spread_lane(u, 0)),
        _terms(values, s, spread_lane(x, 1), spread_lane(u, 1)),
        _terms(values, s, spread_lane(x, 2), spread_lane(u, 2)),
        _terms(values, s, spread_lane(x, 3), spread_lane(u, 3)),
    )


@inlined
def _terms_of_8(values, s, x, u):
    return (
        *_terms_of_4(values, s, x, u),
        _terms(values, s, spread_lane(x, 4), spread_lane(u, 4)),
        _terms(values, s, spread_lane(x, 5), spread_lane(u, 5)),
        _terms(values, s, spread_lane(x, 6), spread_lane(u, 6)),
        _terms(values, s, spread_lane(x, 7), spread_lane(u, 7)),
    )


@inlined
def _distance_of_4(terms, points):
    d = of_eight(terms[0], points) + of_eight(terms[1], points >> _U3)
    return (d + of_eight(terms[2], points >> _U6)) + of_eight(terms[3], points >> _U9)


@inlined
def _distance_of_8(terms, points):
    """The weighted distances of grid points of eight weights, one a lane: the sum over the weights in order."""
    d = of_four(terms[0], points) + of_four(terms[1], points >> np.uint32(2))
    d = (d + of_four(terms[2], points >> np.uint32(4))) + of_four(terms[3], points >> np.uint32(6))
    d = (d + of_four(terms[4], points >> np.uint32(8))) + of_four(terms[5], points >> np.uint32(10))
    return (d + of_four(terms[6], points >> np.uint32(12))) + of_four(terms[7], points >> np.uint32(14))


@inlined
def _nearest(least, second, place):
    """Place in the list of the least distance, of equals the first; that distance, and the next."""
    near, other = two_least(least, second)
    return np.uint32(least_lane(where(least == near, place, splat(_FARTHEST)))), near, other


@inlined
def _is_sure(near, other, energy):
    """Whether no rounding of the reference can make another neighbour the nearest."""
    return other - near > _MARGIN * (energy + other) + _TINY


def trial_codes(n: int) -> Callable[..., None]:
    """Build the kernel that rounds trials to levels, on the grid or not: groups of ``n`` weights, as ``grid_snap``."""
    bits, level = (2, _level3) if n == 8 else (3, _level8)  # noqa: PLR2004 - the two kinds of grid
    place = np.array([1 << (bits * i) for i in range(n)], dtype=np.float32)

    @kernel
    def codes(weights, inverse, lanes, live, groups_per_block, code):
        for g in range(SUPER_BLOCK // n):
            b, at = np.uint32(g // groups_per_block), np.uint32(g * n)
            if not live[b]:
                continue
            for t in range(lanes):
                c = _0
                for i in range(n):
                    c += place[i] * level(inverse[b, t] * weights[0, at + np.uint32(i)])
                code[g, t] = np.int32(c)

    return codes


def grid_snap(n: int) -> Callable[..., None]:
    """Build the kernel that moves trials to the grid: groups of ``n`` weights, 8 of three levels or 4 of eight.

    ``weights`` (2, SUPER_BLOCK + WIDTH) are magnitudes and the roots of what their errors count for; ``code`` and
    ``snapped`` (n_groups, lanes) the levels of each trial as ``trial_codes`` makes them, and those of its grid point.
    """
    n_levels, terms_of, distance_of = (4, _terms_of_8, _distance_of_8) if n == 8 else (8, _terms_of_4, _distance_of_4)  # noqa: PLR2004
    level_values = np.resize(np.arange(1, 2 * n_levels, 2), WIDTH).astype(np.float32)

    # Pieces take values and no arrays: a function that takes arrays and is inlined into these loops counts references
    # to them, atomically; with the search of a run as a function of its own all this was 2.5 times slower.
    @kernel
    def snap(weights, energy, scale, n_trials, live, groups_per_block, code, snapped, index, offsets, neighbours):
        known, pending = np.empty(n_trials, np.uint8), np.empty(n_trials, np.uint32)
        for g in range(SUPER_BLOCK // n):
            b, left = np.uint32(g // groups_per_block), np.uint32(0 if live[g // groups_per_block] else n_trials)
            x, u = load(weights, g * n), load(weights, SUPER_BLOCK + WIDTH + g * n)
            while left < n_trials:
                c = code[g, left]
                stop = np.uint32(left + 1)
                while stop < n_trials and code[g, stop] == c:
                    stop = np.uint32(stop + 1)
                k = index[np.uint32(c)]
                for t in range(np.uint64(left), np.uint64(stop)):
                    known[t] = UNKNOWN
                    snapped[g, t] = c
                if k >= 0:
                    left = stop
                    continue
                start, end = offsets[np.uint32(-1 - k)], offsets[np.uint32(-k)]
                depth, trial = 0, left
                pending[0] = stop - 1
                while depth >= 0:
                    terms = terms_of(load(level_values, 0), splat(scale[b, trial]), x, u)
                    least = second = splat(_FARTHEST)
                    place = here = load(_NUMBERS, 0)
                    for j in range(start, end, WIDTH):
                        d = distance_of(terms, load_halfwords(neighbours, j))
                        second = min(second, max(least, d))
                        place, least = where(d < least, here, place), min(least, d)
                        here = here + np.float32(WIDTH)
                    which, near, other = _nearest(least, second, place)
                    snapped[g, trial] = neighbours[np.uint32(start) + which]
                    known[trial] = SURE if _is_sure(near, other, energy[g]) else KNOWN
                    while depth >= 0:
                        right = np.uint32(pending[np.uint32(depth)])
                        if known[right] == UNKNOWN:
                            trial = right
                            break
                        same = snapped[g, left] == snapped[g, right] and known[left] == SURE and known[right] == SURE
                        if same or right <= np.uint32(left + 1):
                            for t in range(np.uint64(left) + np.uint64(1), np.uint64(right)):
                                snapped[g, t] = snapped[g, left]
                            left = right
                            depth -= 1
                        else:
                            depth += 1
                            pending[np.uint32(depth)] = np.uint32(left + right) >> np.uint32(1)
                left = stop

    return snap


def grid_sums(n: int) -> Callable[..., None]:
    """Build the kernel that sums the fit of each trial on the grid, for groups of ``n`` weights."""
    n_groups, value = SUPER_BLOCK // n, _value_of(n)

    @kernel
    def sums(w, wx, snapped, lanes, live, groups_per_block, s1, s2):
        for b in range(n_groups // groups_per_block):
            if not live[b]:
                continue
            for t in range(lanes):
                s1[b, t] = _0
                s2[b, t] = _0
            for g in range(b * groups_per_block, (b + 1) * groups_per_block):
                at = np.uint32(g * n)
                for t in range(lanes):
                    c = np.uint32(snapped[g, t])
                    t1, t2 = s1[b, t], s2[b, t]
                    for i in range(n):
                        q = value(c, i)
                        t1 += wx[at + np.uint32(i)] * q
                        t2 += (w[at + np.uint32(i)] * q) * q
                    s1[b, t] = t1
                    s2[b, t] = t2

    return sums
