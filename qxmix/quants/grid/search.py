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
searches; of the others' 13 to 19 trials 9 to 10, in 1.4 to 1.7 runs, and take 4 to 5.  Rounding to the grid takes 55
to 75 % of the time, some 40 ns for each search of IQ3_XXS.  Tried without gain: filling lists up to the width of
LLVM's loops for minima.  Trials in lanes and neighbours one after the other would need no margin, but eight lanes are
too short a loop to become SIMD: LLVM does it only with its vectorizer of straight code, which numba leaves off.

Levels are 0, 1, 2 .. and stand for 1, 3, 5 ..; a group's levels packed into an integer are its code (``grids.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.common.numerics import nint
from qxmix.quants.jit import inlined, kernel

if TYPE_CHECKING:
    from collections.abc import Callable

SUPER_BLOCK = 256
UNKNOWN, KNOWN, SURE = 0, 1, 2
"""Whether a trial's neighbour has been searched, and whether it won by the margin."""

_0 = np.float32(0.0)
_1 = np.float32(1.0)
_HALF = np.float32(0.5)
_MARGIN = np.float32(1e-4)
_TINY = np.float32(1e-30)  # far above where products of float32 underflow and lose their relative precision
_FARTHEST = np.int32(0x7FFFFFFF)


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


def grid_snap(n: int) -> Callable[..., None]:
    """Build the kernel that rounds trials to the grid: groups of ``n`` weights, 8 of three levels or 4 of eight."""
    bits, level = (2, _level3) if n == 8 else (3, _level8)  # noqa: PLR2004 - the two kinds of grid
    n_groups, value = SUPER_BLOCK // n, _value_of(n)
    place = np.array([1 << (bits * i) for i in range(n)], dtype=np.float32)

    # One piece on purpose: each function that takes arrays and is inlined into these loops would count references to
    # them, atomically; with the search of a run as a function of its own all this was 2.5 times slower.
    @kernel
    def snap(
        x, waux, energy, inverse, scale, n_trials, lanes, live, groups_per_block, code, snapped, index, offsets,
        neighbours, distance,
    ):  # fmt: skip
        bits_of = distance.view(np.int32)
        known, pending = np.empty(lanes, np.uint8), np.empty(lanes, np.uint32)
        for g in range(n_groups):
            b, at = np.uint32(g // groups_per_block), np.uint32(g * n)
            if not live[b]:
                continue
            for t in range(lanes):
                c = _0
                for i in range(n):
                    c += place[i] * level(inverse[b, t] * x[at + np.uint32(i)])
                code[g, t] = np.int32(c)
            left = np.uint32(0)
            while left < n_trials:
                c = code[g, left]
                stop = np.uint32(left + 1)
                while stop < n_trials and code[g, stop] == c:
                    stop = np.uint32(stop + 1)
                k = index[np.uint32(c)]
                if k >= 0:
                    for t in range(np.uint64(left), np.uint64(stop)):
                        snapped[g, t] = c
                    left = stop
                    continue
                start = np.uint32(offsets[np.uint32(-1 - k)])
                count = np.uint32(offsets[np.uint32(-k)]) - start
                for t in range(np.uint64(left), np.uint64(stop)):
                    known[t] = UNKNOWN
                depth, trial = 0, left
                pending[0] = stop - 1
                while depth >= 0:
                    s = scale[b, trial]
                    for j in range(count):
                        point = np.uint32(neighbours[start + j])
                        d = _0
                        for i in range(n):
                            e = s * value(point, i) - x[at + np.uint32(i)]
                            d += (waux[at + np.uint32(i)] * e) * e
                        distance[j] = d
                    least, which, second = _FARTHEST, np.int32(count), _FARTHEST
                    for j in range(count):
                        least = min(least, bits_of[j])
                    for j in range(count):
                        which = min(which, np.int32(j) if bits_of[j] == least else np.int32(count))
                    best = neighbours[start + np.uint32(which)]
                    for j in range(count):
                        second = min(second, bits_of[j] if neighbours[start + j] != best else _FARTHEST)
                    snapped[g, trial] = best
                    near, other = np.int32(least).view(np.float32), np.int32(second).view(np.float32)
                    known[trial] = SURE if other - near > _MARGIN * (energy[g] + other) + _TINY else KNOWN
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
