"""What IQ2_K and IQ2_KS share: two tables of four levels, and the search over all splits of the sorted weights.

For ordered weights the best of all roundings to four levels is three boundaries ``i1 <= i2 <= i3``; running sums give
the fit of each.  The reference tries both tables, and each in both directions, since a scale may be negative: four
candidates for each of 816 splits of 16 weights, or of the 5,744 of 32 weights that it looks at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.levels import Levels, nearest_code
from qxmix.quants.common.simd import WIDTH, any_lane, load, splat, store, where
from qxmix.quants.grid.ternary_grid import sort_lanes, sorting_network
from qxmix.quants.jit import inlined, kernel, spliced
from qxmix.quants.level.encoder import LevelType, clamped
from qxmix.quants.level.two_tables import TwoTables

if TYPE_CHECKING:
    from qxmix.quants.contracts import PackLevels

BASE: Levels = np.array([-31, -13, 1, 17], dtype=np.float32)
"""Levels of a block (``iq2nl_values`` in ik_llama.cpp)."""
_SHIFT = 5
SHIFTED: Levels = BASE + np.float32(_SHIFT)
"""Levels of a block whose flag is set."""
ZERO = np.float32(1e-16)
"""A block whose largest magnitude is below this gets scale 0."""
N_CANDIDATES = 4
_VARIANCE, _SHARE = 1.5, 0.25
"""Of the variance of a super-block, what counts in a weight; of that, what counts where there is no importance."""
_A, _B, _C, _D = (tuple(np.float32(table[i]) for table in (BASE, SHIFTED, BASE[::-1], SHIFTED[::-1])) for i in range(4))

_0 = np.float32(0.0)
_1 = np.float32(1.0)

base_code = nearest_code(BASE)
shifted_code = nearest_code(SHIFTED)


@inlined
def _terms(x, w, level):
    """Terms of both sums of a run of weights at one level, for each candidate."""
    return (
        (x * level[0], x * level[1], x * level[2], x * level[3]),
        (w * level[0] * level[0], w * level[1] * level[1], w * level[2] * level[2], w * level[3] * level[3]),
    )


@inlined
def _plus(a, b):
    return (
        (a[0][0] + b[0][0], a[0][1] + b[0][1], a[0][2] + b[0][2], a[0][3] + b[0][3]),
        (a[1][0] + b[1][0], a[1][1] + b[1][1], a[1][2] + b[1][2], a[1][3] + b[1][3]),
    )


@inlined
def _run(sx, sw, g, of, to, level):
    """The terms of the sorted weights ``of .. to`` at one level."""
    x, w = load(sx, to * LANES + g) - load(sx, of * LANES + g), load(sw, to * LANES + g) - load(sw, of * LANES + g)
    return _terms(x, w, level)


@inlined
def _store_last(sx, sw, g, last):
    """The terms of the last level for each third boundary."""
    n = sx.shape[0] - 1
    for i in range(n):
        qx, q2 = _run(sx, sw, g, i, n, _D)
        for c in range(N_CANDIDATES):
            store(last, (2 * N_CANDIDATES * i + c) * WIDTH, qx[c])
            store(last, (2 * N_CANDIDATES * i + N_CANDIDATES + c) * WIDTH, q2[c])


@inlined
def _load_last(last, i):
    at, up = 2 * N_CANDIDATES * i * WIDTH, N_CANDIDATES * WIDTH
    return (
        (load(last, at), load(last, at + WIDTH), load(last, at + 2 * WIDTH), load(last, at + 3 * WIDTH)),
        (
            load(last, at + up),
            load(last, at + up + WIDTH),
            load(last, at + up + 2 * WIDTH),
            load(last, at + up + 3 * WIDTH),
        ),
    )


@inlined
def _better(qx, q2, best):
    return (q2 > splat(_0)) & (qx * qx > best * q2)


@inlined
def _keep(qx, q2, flag, state):
    """The state (scale, explained, shifted), replaced in the lanes where this candidate explains more."""
    scale, best, shifted = state
    better = _better(qx, q2, best)
    scale = where(better, qx / q2, scale)
    return scale, where(better, scale * qx, best), where(better, splat(flag), shifted)


@kernel
def best_split(sx, sw, first_end, third_start, scale, shifted):
    """Scale and table (1 shifted, 0 not) that explain most, from running sums ``sx``, ``sw`` (n + 1, LANES).

    The first boundary stays below ``first_end``, the third at or above ``third_start``, all below n.
    """
    n = sx.shape[0] - 1
    last = np.empty(n * 2 * N_CANDIDATES * WIDTH, np.float32)
    for g in range(0, LANES, WIDTH):
        _store_last(sx, sw, g, last)
        state = splat(_0), splat(_0), splat(_0)
        for i1 in range(first_end):
            first = _run(sx, sw, g, 0, i1, _A)
            for i2 in range(i1, n):
                two = _plus(first, _run(sx, sw, g, i1, i2, _B))
                for i3 in range(max(i2, third_start), n):
                    qx, q2 = _plus(_plus(two, _run(sx, sw, g, i2, i3, _C)), _load_last(last, i3))
                    best = state[1]
                    # One branch for four candidates: that any of sixteen blocks finds a better one is rare.
                    if any_lane(
                        (_better(qx[0], q2[0], best) | _better(qx[1], q2[1], best))
                        | (_better(qx[2], q2[2], best) | _better(qx[3], q2[3], best))
                    ):
                        state = _keep(qx[0], q2[0], _0, state)
                        state = _keep(qx[1], q2[1], _1, state)
                        state = _keep(qx[2], q2[2], _0, state)
                        state = _keep(qx[3], q2[3], _1, state)
        store(scale, g, state[0])
        store(shifted, g, state[2])


@kernel
def search_four_levels(network, x, w, first_end, third_start, scale, shifted):
    """Scale and table of block ``x`` with weights ``w``, both (n, LANES), of each lane; 0 where the block is zero."""
    n = x.shape[0]
    v, u, at = np.empty((n, LANES), np.float32), np.empty((n, LANES), np.float32), np.empty((n, LANES), np.float32)
    sx, sw = np.empty((n + 1, LANES), np.float32), np.empty((n + 1, LANES), np.float32)
    for e in range(n):
        for k in range(LANES):
            v[e, k] = x[e, k]
            u[e, k] = w[e, k]
    sort_lanes(network, v, u, at)
    for k in range(LANES):
        sx[0, k] = sw[0, k] = _0
    for e in range(n):
        for k in range(LANES):
            sx[e + 1, k] = sx[e, k] + u[e, k] * v[e, k]
            sw[e + 1, k] = sw[e, k] + u[e, k]
    best_split(sx, sw, first_end, third_start, scale, shifted)
    for k in range(LANES):
        # The largest magnitude stands at one of the ends.
        zero = max(-v[0, k], v[n - 1, k]) < ZERO
        scale[k] = _0 if zero else scale[k]
        shifted[k] = _0 if zero else shifted[k]


@inlined
def code_block(x, w, d, level, shifted, code, s1, s2):
    """Codes of a block for its scale's level, and their terms added to the sums for the super-block's scale."""
    for e in range(x.shape[0]):
        for k in range(LANES):
            step = d[k] * level[k]
            y = (_1 / step) * x[e, k]
            low, high = base_code(y), shifted_code(y)
            c = np.int32(high if shifted[k] != _0 else low)
            # Gathering the level by the code costs more than choosing it by comparisons.
            q = BASE[0]
            for i in range(1, 4):
                q = BASE[i] if c >= i else q
            q = level[k] * (q + np.float32(5.0) if shifted[k] != _0 else q)
            code[e, k] = np.uint8(c) if step != _0 else np.uint8(0)
            s1[k] += (w[e, k] * q) * x[e, k]
            s2[k] += (w[e, k] * q) * q


def four_level_type(
    *, block: int, nbytes: int, nmax: int, first_end: int, third_start: int, pack: PackLevels
) -> LevelType:
    """What level types share of a type with scales ``-nmax .. nmax - 1``; the ends are those of ``best_split``."""
    network = sorting_network(block)

    @spliced
    def search(x, w, found):
        search_four_levels(network, x, w, first_end, third_start, found[0], found[1])

    unit, level = clamped(nmax, -nmax, nmax - 1)
    return LevelType(
        TwoTables(BASE, _SHIFT), search, block, nbytes, _VARIANCE, _SHARE, unit=unit, level=level, pack=pack
    )


@inlined
def fitted(s1, s2, d):
    """The scale that fits the sums best."""
    return s1 / s2 if s2 > _0 else d
