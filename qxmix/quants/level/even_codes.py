"""IQ4_KSS: four 4-bit codes together must have an even number of one bits, and what that does to the search.

Where the nearest levels of a group of four make an odd number, one of the codes moves by one or two to a code of the
other parity: that which costs least.  The reference measures the cost from the error of the *unshifted* table's level,
whichever table it codes for, and for a mirrored trial (a negative scale) with the scale's sign wrong; both are kept,
since the bytes are the contract.

As in ``level.search`` a weight has at most two levels within a scan.  All that a trial may need of either, the level
and those it could move to, is looked up once per scan.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.levels import Levels
from qxmix.quants.common.search import largest_value
from qxmix.quants.common.simd import WIDTH, gather, load, splat, store, where
from qxmix.quants.jit import inlined, kernel
from qxmix.quants.level.iq4_k import BOTH, TABLES
from qxmix.quants.level.two_tables import entry_of

BLOCK = 32
HALF = 16
GROUPS = BLOCK // 4
REACH = 7
"""A scan tries this many scales on either side of the full range."""
N_TRIALS = 2 * REACH + 1
N_SCANS = 4
ZERO = np.float32(1e-16)
"""A block whose largest magnitude is below this gets scale 0."""
MOST = np.float32(np.finfo(np.float32).max)


def _moves() -> list[list[int]]:
    """For each code those of the other parity within two of it, ascending, filled up to three with the last."""
    lists = []
    for code in range(16):
        near = [c for c in range(max(0, code - 2), min(15, code + 2) + 1) if (c.bit_count() + code.bit_count()) % 2]
        lists.append(near + [near[-1]] * (3 - len(near)))
    return lists


def _both_tables(codes: list[int]) -> Levels:
    return np.concatenate([BOTH[:16][codes], BOTH[16:][codes]])


_FIRST, _SECOND, _THIRD = ([moves[i] for moves in _moves()] for i in range(3))
_TO_FIRST, _TO_SECOND, _TO_THIRD = _both_tables(_FIRST), _both_tables(_SECOND), _both_tables(_THIRD)
"""(32,) the levels of the codes that a code can move to, of one table after those of the other."""
FIRST, SECOND, THIRD = (np.array(codes, dtype=np.float32) for codes in (_FIRST, _SECOND, _THIRD))
"""(16,) the codes themselves."""
SIGN = np.array([-1.0 if code.bit_count() % 2 else 1.0 for code in range(16)], dtype=np.float32)
"""(16,) -1 for codes with an odd number of one bits."""
_N_KEPT = 11
_LOWEST, _SHIFT = TABLES.levels[0], TABLES.shift
_CODE, _FLIP = TABLES.code, TABLES.last
_entry = entry_of(TABLES)

_0, _1, _2, _3, _4 = (np.float32(i) for i in range(5))


@inlined
def code_of(y, side):
    """Code of the level nearest to ``y`` in a table."""
    return gather(_CODE, _entry(y, side))


@inlined
def levels_of(code, side):
    """Level of a code, and those of the three that it can move to."""
    at = code + np.float32(16.0) * side
    return gather(BOTH, at), gather(_TO_FIRST, at), gather(_TO_SECOND, at), gather(_TO_THIRD, at)


@inlined
def _keep(kept, to, code, levels):
    store(kept, to, gather(SIGN, code))
    for i in range(4):
        store(kept, to + WIDTH * (i + 1), levels[i])


@kernel
def _prepare(x, g, side, sign, trials, kept):
    """The two levels of each weight within a scan: the threshold between them, and all about either."""
    side, one, other = splat(side), load(trials, 0), load(trials, (N_TRIALS - 1) * WIDTH)
    for e in range(BLOCK):
        v, to = sign * load(x, e * LANES + g), _N_KEPT * WIDTH * e
        at = _entry(max(one * v, other * v), side)
        above = gather(_CODE, at)
        below = max(above - _1, splat(_0))
        store(kept, to, gather(_FLIP, at))
        _keep(kept, to + WIDTH, below, levels_of(below, side))
        _keep(kept, to + 6 * WIDTH, above, levels_of(above, side))


@inlined
def cheapest(v, u, step, offset, levels, tags):
    """What the move that costs least costs, the first of equals, and its tag of ``tags`` (the code's own and three)."""
    old = step * (levels[0] - offset) - v
    # Where all costs overflow the reference stops with an assertion.  Here none moves, and packing, which drops the
    # last bit, puts the first weight one level off.
    cost, tag = splat(MOST), tags[0]
    for i in range(1, 4):
        new = step * levels[i] - v
        trial = u * (new * new - old * old)
        better = trial < cost
        cost, tag = where(better, trial, cost), where(better, tags[i], tag)
    return cost, tag


@inlined
def even_four(a, b, c, d):
    """Tags of four weights with even parity; of each (sign of its code, tag, cost of the cheapest move, its tag).

    The first that costs least moves, if the parity is odd.
    """
    one = b[2] < a[2]
    least = where(one, b[2], a[2])
    two = c[2] < least
    least = where(two, c[2], least)
    three = d[2] < least
    which = where(three, splat(_3), where(two, splat(_2), where(one, splat(_1), splat(_0))))
    which = where(a[0] * b[0] * c[0] * d[0] < _0, which, splat(_4))
    return (
        where(which == _0, a[3], a[1]),
        where(which == _1, b[3], b[1]),
        where(which == _2, c[3], c[1]),
        where(which == _3, d[3], d[1]),
    )


@inlined
def _choose(x, w, g, e, kept, inverse, step, offset):
    """Of one weight: sign of its code, level, cost of the cheapest move, level after it."""
    v, u, at = load(x, e * LANES + g), load(w, e * LANES + g), _N_KEPT * WIDTH * e
    up = inverse * v >= load(kept, at)
    sign = where(up, load(kept, at + 6 * WIDTH), load(kept, at + WIDTH))
    levels = (
        where(up, load(kept, at + 7 * WIDTH), load(kept, at + 2 * WIDTH)),
        where(up, load(kept, at + 8 * WIDTH), load(kept, at + 3 * WIDTH)),
        where(up, load(kept, at + 9 * WIDTH), load(kept, at + 4 * WIDTH)),
        where(up, load(kept, at + 10 * WIDTH), load(kept, at + 5 * WIDTH)),
    )
    cost, level = cheapest(v, u, step, offset, levels, levels)
    return sign, levels[0], cost, level


@kernel
def _try(x, w, g, kept, inverse, step, offset):
    """Both sums of a trial: of the levels nearest to ``inverse * x``, made even for ``step``."""
    s1 = s2 = splat(_0)
    for k in range(0, HALF, 2):
        q = even_four(
            _choose(x, w, g, k, kept, inverse, step, offset),
            _choose(x, w, g, k + HALF, kept, inverse, step, offset),
            _choose(x, w, g, k + 1, kept, inverse, step, offset),
            _choose(x, w, g, k + 1 + HALF, kept, inverse, step, offset),
        )
        for i in range(4):
            at = (k + i // 2 + HALF * (i % 2)) * LANES + g
            weighted = load(w, at) * q[i]
            s1, s2 = s1 + weighted * load(x, at), s2 + weighted * q[i]
    return s1, s2


@inlined
def _scan(x, w, g, mx, i, trials, kept, sums):
    """Sums of all trials of one scan: table, mirrored, shifted, shifted and mirrored."""
    offset = _SHIFT if i > 1 else _0
    sign = -_1 if i % 2 else _1
    for t in range(N_TRIALS):
        store(trials, t * WIDTH, (np.float32(t - REACH) + (_LOWEST + offset)) / mx)
    _prepare(x, g, np.float32(i // 2), sign, trials, kept)
    for t in range(N_TRIALS):
        inverse = load(trials, t * WIDTH)
        s1, s2 = _try(x, w, g, kept, sign * inverse, _1 / inverse, offset)
        store(sums, 2 * (N_SCANS * t + i) * WIDTH, s1)
        store(sums, (2 * (N_SCANS * t + i) + 1) * WIDTH, s2)


@kernel
def search_even(x, w, found):
    """Scale (1, LANES) of block ``x`` with weights ``w``, both (32, LANES), of each lane."""
    kept, trials = np.empty(BLOCK * _N_KEPT * WIDTH, np.float32), np.empty(N_TRIALS * WIDTH, np.float32)
    sums = np.empty(2 * N_SCANS * N_TRIALS * WIDTH, np.float32)
    for g in range(0, LANES, WIDTH):
        amax, mx = largest_value(x, g)
        for i in range(N_SCANS):
            _scan(x, w, g, mx, i, trials, kept, sums)
        d, best = -mx / _LOWEST, splat(_0)
        for t in range(N_SCANS * N_TRIALS):
            s1, s2 = load(sums, 2 * t * WIDTH), load(sums, (2 * t + 1) * WIDTH)
            better = (s2 > _0) & (s1 * s1 > best * s2)
            d = where(better, s1 / s2, d)
            best = where(better, d * s1, best)
        store(found, g, where(amax < ZERO, splat(_0), d))
