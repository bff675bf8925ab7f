"""The split of an IQ1_M block: two halves of eight weights share the boundaries, each with a shift of its own."""

from __future__ import annotations

import numpy as np

from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.simd import WIDTH, any_lane, load, splat, store, where
from qxmix.quants.grid.ternary_grid import DELTA, DOWN, UP, sort_lanes, sorting_network
from qxmix.quants.jit import inlined, kernel

BLOCK = 16
HALF = 8
_N = BLOCK + 1
_NETWORK = sorting_network(BLOCK)

_0 = np.float32(0.0)


@inlined
def _half(sx, sw, g, i, j):
    """Terms of one half for the boundaries i, j: of the first sum up, of the first down, of the second likewise."""
    x0, x1, x2 = load(sx, i * LANES + g), load(sx, j * LANES + g), load(sx, BLOCK * LANES + g)
    w0, w1, w2 = load(sw, i * LANES + g), load(sw, j * LANES + g), load(sw, BLOCK * LANES + g)
    a, b, c, r, s, t = x0, x1 - x0, x2 - x1, w0, w1 - w0, w2 - w1
    return (
        (a * UP[0], b * UP[1], c * UP[2]),
        (a * DOWN[0], b * DOWN[1], c * DOWN[2]),
        ((r * UP[0]) * UP[0], (s * DELTA) * DELTA, (t * UP[2]) * UP[2]),
        ((r * DOWN[0]) * DOWN[0], (s * DELTA) * DELTA, (t * DOWN[2]) * DOWN[2]),
    )


@inlined
def _sum3(terms):
    return (terms[0] + terms[1]) + terms[2]


@inlined
def _add3(total, terms):
    return ((total + terms[0]) + terms[1]) + terms[2]


@inlined
def _keep(qx, q2, here, combination, state):
    """The state (scale, explained, split, combination), replaced in the lanes where this explains more."""
    kept, best, which, shift = state
    better = (q2 > splat(_0)) & (qx * qx > best * q2)
    if any_lane(better):
        kept = where(better, qx / q2, kept)
        best = where(better, kept * qx, best)
        which, shift = where(better, splat(here), which), where(better, splat(combination), shift)
    return kept, best, which, shift


@kernel
def best_split(x, w, at, scale, split, shift):
    """The boundaries and the combination of shifts that explain most; ``at`` gets the order of the elements."""
    v, u = x.copy(), w.copy()
    sort_lanes(_NETWORK, v, u, at)
    sums = np.zeros((4, _N, LANES), np.float32)
    for e in range(BLOCK):
        for k in range(LANES):
            first = at[e, k] < np.float32(HALF)
            wx = u[e, k] * v[e, k]
            sums[0, e + 1, k] = sums[0, e, k] + wx if first else sums[0, e, k]
            sums[1, e + 1, k] = sums[1, e, k] + u[e, k] if first else sums[1, e, k]
            sums[2, e + 1, k] = sums[2, e, k] if first else sums[2, e, k] + wx
            sums[3, e + 1, k] = sums[3, e, k] if first else sums[3, e, k] + u[e, k]
    for g in range(0, LANES, WIDTH):
        state = splat(_0), splat(_0), splat(_0), splat(_0)
        for i in range(_N):
            for j in range(i, _N):
                up1, down1, up2, down2 = _half(sums[0], sums[1], g, i, j)
                up3, down3, up4, down4 = _half(sums[2], sums[3], g, i, j)
                here = np.float32(64 * i + j)
                up, down, up_w, down_w = _sum3(up1), _sum3(down1), _sum3(up2), _sum3(down2)
                state = _keep(_add3(up, up3), _add3(up_w, up4), here, np.float32(0.0), state)
                state = _keep(_add3(up, down3), _add3(up_w, down4), here, np.float32(1.0), state)
                state = _keep(_add3(down, up3), _add3(down_w, up4), here, np.float32(2.0), state)
                state = _keep(_add3(down, down3), _add3(down_w, down4), here, np.float32(3.0), state)
        store(scale, g, state[0])
        store(split, g, state[2])
        store(shift, g, state[3])


@kernel
def refit(x, w, level, off, scale, shift):
    """Scale and shifts anew, where a group was off the grid, for the levels it got instead."""
    t1, t2 = np.zeros((4, LANES), np.float32), np.zeros((4, LANES), np.float32)
    for e in range(BLOCK):
        for k in range(LANES):
            q, wx = np.float32(np.int32(level[e, k]) - 1), w[e, k] * x[e, k]
            up, down = q + DELTA, q - DELTA
            ux, dx, u2, d2 = wx * up, wx * down, (w[e, k] * up) * up, (w[e, k] * down) * down
            t1[0, k] += ux
            t2[0, k] += u2
            t1[1, k] += ux if e < HALF else dx
            t2[1, k] += u2 if e < HALF else d2
            t1[2, k] += dx if e < HALF else ux
            t2[2, k] += d2 if e < HALF else u2
            t1[3, k] += dx
            t2[3, k] += d2
    best = np.zeros(LANES, np.float32)
    for c in range(4):
        for k in range(LANES):
            a, b = t1[c, k], t2[c, k]
            better = off[k] & (a > _0) & (b > _0) & (a * a > best[k] * b)
            scale[k] = a / b if better else scale[k]
            best[k] = scale[k] * a if better else best[k]
            shift[k] = np.float32(c) if better else shift[k]
