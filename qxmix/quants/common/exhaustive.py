"""The exhaustive scale search: all roundings that are the best of some scale, each once.

For an inverse scale t the best level of x is the one nearest to ``t * x``.  While t grows from 0, x walks outward
from the level nearest zero and steps from level a to its neighbour b at ``t * |x| = |a + b| / 2``.  So only
``n * steps`` roundings can be the best of any scale of one sign; each differs from the one before in one level, so
running sums visit them all.  Both signs are walked, from zero to the end: nothing explains more than what is kept.

After the cumulative search of llama.cpp's pull request 12557, which stops early and picks the sign beforehand in its
fast forms.  Instead of a heap per block, the next step of each lane is found by a pass over all elements, which SIMD
does for many blocks at a time.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.common.lanes import LANES
from qxmix.quants.jit import inlined, kernel

_0 = np.float32(0.0)
_INF = np.float32(np.inf)


@inlined
def _due(x, levels, j, way):
    """How early x steps from level j to ``j + way``: ``2 / t`` of that step, 0 if there is no such level."""
    to = j + way
    if to < 0 or to >= len(levels):
        return _0
    return abs(x) / abs(levels[j] + levels[to])


@inlined
def _next_steps(due, first, at):
    """The largest ``due`` of each lane and its element; the lower element of two equal ones."""
    for k in range(LANES):
        first[k] = _0
        at[k] = 0
    for e in range(due.shape[0]):
        for k in range(LANES):
            better = due[e, k] > first[k]
            first[k] = due[e, k] if better else first[k]
            at[k] = np.int32(e) if better else at[k]


@inlined
def _start(x, w, levels, middle, sign, j, due, s1, s2):
    """All elements at the level nearest zero, with their sums and first steps."""
    level = np.float64(levels[middle])
    for k in range(LANES):
        s1[k] = 0.0
        s2[k] = 0.0
    for e in range(x.shape[0]):
        for k in range(LANES):
            y = sign * x[e, k]
            j[e, k] = middle
            due[e, k] = _due(y, levels, middle, 1 if y > _0 else -1)
            s1[k] += np.float64(w[e, k]) * np.float64(y) * level
            s2[k] += np.float64(w[e, k]) * level * level


@kernel
def search_exhaustive(x, w, levels, scale, q):
    """Scale (LANES,) and levels ``q`` (n, LANES) of each lane that explain most: the maximum over all scales.

    ``levels`` (n_levels,) ascend.  Sums are float64, so that thousands of steps do not drift.  A block whose weights or
    values are all zero gets scale 0 and the level nearest zero.
    """
    n, n_levels = x.shape[0], len(levels)
    middle = 0
    for i in range(n_levels):
        middle = i if abs(levels[i]) < abs(levels[middle]) else middle
    j, at = np.empty((n, LANES), np.int32), np.empty(LANES, np.int32)
    due, first = np.empty((n, LANES), np.float32), np.empty(LANES, np.float32)
    s1, s2 = np.empty(LANES, np.float64), np.empty(LANES, np.float64)
    best1, best2 = np.zeros(LANES, np.float64), np.ones(LANES, np.float64)
    # What is kept is told by its last step: the sign of the scale, when it came, which element and where to.
    kept_sign, kept_due = np.ones(LANES, np.float32), np.full(LANES, _INF, np.float32)
    kept_at, kept_j = np.full(LANES, -1, np.int32), np.zeros(LANES, np.int32)
    for sign in (np.float32(1.0), np.float32(-1.0)):
        _start(x, w, levels, middle, sign, j, due, s1, s2)
        for k in range(LANES):
            if s1[k] * s1[k] * best2[k] > best1[k] * best1[k] * s2[k]:
                best1[k], best2[k] = s1[k], s2[k]
                kept_sign[k], kept_due[k], kept_at[k] = sign, _INF, -1
        for _ in range(n * (n_levels - 1)):
            _next_steps(due, first, at)
            n_steps = 0
            for k in range(LANES):
                if first[k] == _0:
                    continue
                n_steps += 1
                e = at[k]
                y = sign * x[e, k]
                way = 1 if y > _0 else -1
                a = np.float64(levels[j[e, k]])
                j[e, k] += way
                b = np.float64(levels[j[e, k]])
                s1[k] += np.float64(w[e, k]) * np.float64(y) * (b - a)
                s2[k] += np.float64(w[e, k]) * (b * b - a * a)
                due[e, k] = _due(y, levels, j[e, k], way)
                if s1[k] * s1[k] * best2[k] > best1[k] * best1[k] * s2[k]:
                    best1[k], best2[k] = s1[k], s2[k]
                    kept_sign[k], kept_due[k], kept_at[k], kept_j[k] = sign, first[k], e, j[e, k]
            if n_steps == 0:
                break
    for k in range(LANES):
        scale[k] = kept_sign[k] * np.float32(best1[k] / best2[k])
    _walk(x, levels, middle, kept_sign, kept_due, kept_at, kept_j, q)


@inlined
def _walk(x, levels, middle, kept_sign, kept_due, kept_at, kept_j, q):
    """The levels after the steps up to the kept one, in the order in which ``_next_steps`` takes them."""
    for e in range(x.shape[0]):
        for k in range(LANES):
            y = kept_sign[k] * x[e, k]
            way = 1 if y > _0 else -1
            i = middle
            while True:
                due = _due(y, levels, i, way)
                if due == _0 or due < kept_due[k] or (due == kept_due[k] and e > kept_at[k]):
                    break
                i += way
            q[e, k] = levels[kept_j[k] if e == kept_at[k] else i]
