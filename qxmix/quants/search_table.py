"""The scale search over a level table, for blocks side by side; see ``search`` for what a search maximizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.jit import inlined, kernel
from qxmix.quants.lanes import LANES
from qxmix.quants.levels import Levels, nearest_level
from qxmix.quants.search import GRADIENT, ZERO_BLOCK, block_max, keep_better, weigh

if TYPE_CHECKING:
    from collections.abc import Callable

_0 = np.float32(0.0)
_1 = np.float32(1.0)


def table_search(levels: Levels) -> Callable[..., None]:
    """Build the search over a level table: ``quantize_row_iq4_nl_impl`` of ik_llama.cpp, up to the scale."""
    level_of = nearest_level(levels)
    lowest, highest = levels[0], levels[-1]
    n_levels = len(levels)

    @inlined
    def try_table(x, w, inverse, t1, t2):
        for k in range(LANES):
            t1[k] = _0
            t2[k] = _0
        for e in range(x.shape[0]):
            for k in range(LANES):
                q = level_of(inverse[k] * x[e, k])
                t1[k] += (w[e, k] * q) * x[e, k]
                t2[k] += (w[e, k] * q) * q

    @inlined
    def refine_table(x, w, wx, scale, best, s1, s2, kept, code, scratch):
        """Move the level whose next neighbour is the shortest way along the gradient, while it explains more."""
        amax, shortest, at, active, toward = scratch[0], scratch[2], scratch[3], scratch[4], scratch[9]
        n = x.shape[0]
        for e in range(n):
            for k in range(LANES):
                y = level_of(kept[k] * x[e, k])
                c = 0
                for i in range(1, n_levels):
                    c += y >= levels[i]
                code[e, k] = c
        n_active = 0
        for k in range(LANES):
            active[k] = _1 if amax[k] >= ZERO_BLOCK else _0
            n_active += amax[k] >= ZERO_BLOCK
        moves = 0
        while n_active > 0 and moves < n * 32:
            moves += 1
            for k in range(LANES):
                shortest[k] = np.float32(np.inf)
                at[k] = _0
                toward[k] = _0
            for e in range(n):
                for k in range(LANES):
                    c = code[e, k]
                    g = (scale[k] * w[e, k]) * (x[e, k] - scale[k] * levels[c])
                    up = (g > _0) & (c < n_levels - 1)
                    down = (g < _0) & (c > 0)
                    target = c + (1 if up else 0) - (1 if down else 0)
                    step = (levels[target] - levels[c]) / g if up | down else np.float32(np.inf)
                    better = step < shortest[k]
                    shortest[k] = step if better else shortest[k]
                    at[k] = np.float32(e) if better else at[k]
                    toward[k] = (_1 if up else -_1) if better else toward[k]
            for k in range(LANES):
                if active[k] == _0:
                    continue
                e = int(at[k])
                old = levels[code[e, k]]
                target = code[e, k] + int(toward[k])
                new = levels[target]
                n1 = s1[k] + wx[e, k] * (new - old)
                n2 = s2[k] + w[e, k] * (new * new - old * old)
                if toward[k] != _0 and n2 > _0 and n1 * n1 > best[k] * n2:
                    s1[k] = n1
                    s2[k] = n2
                    scale[k] = n1 / n2
                    best[k] = scale[k] * n1
                    code[e, k] = target
                else:
                    active[k] = _0
                    n_active -= 1

    @kernel
    def search_table(x, w, method, scale, wx, code, scratch):
        """Scale of each lane.  The levels follow from it: the reference discards those of its last moves."""
        amax, mx, trial, t1, t2 = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4]
        kept, best, s1, s2 = scratch[5], scratch[6], scratch[7], scratch[8]
        weigh(x, w, wx)
        block_max(x, amax, mx)
        for k in range(LANES):
            kept[k] = _1 / (-mx[k] / lowest)
        try_table(x, w, kept, s1, s2)
        for k in range(LANES):
            scale[k] = s1[k] / s2[k]
            best[k] = scale[k] * s1[k]
        for step in range(-7, 8):
            for k in range(LANES):
                trial[k] = (np.float32(step) + lowest) / mx[k]
            try_table(x, w, trial, t1, t2)
            keep_better(trial, t1, t2, kept, best, s1, s2)
            if method == GRADIENT:
                for k in range(LANES):
                    trial[k] = (np.float32(step) + highest) / mx[k]
                try_table(x, w, trial, t1, t2)
                keep_better(trial, t1, t2, kept, best, s1, s2)
        for k in range(LANES):
            scale[k] = s1[k] / s2[k]
        if method == GRADIENT:
            refine_table(x, w, wx, scale, best, s1, s2, kept, code, scratch)
        for k in range(LANES):
            if amax[k] < ZERO_BLOCK:
                scale[k] = _0

    return search_table
