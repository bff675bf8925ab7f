"""The exhaustive scale search: the best of all roundings, found by skipping what cannot be.

For a scale s and its nearest levels q the block explains ``G(s) = sum w (2 s x q - (s q)^2)`` of its energy.  Every
code vector is a parabola in s with its vertex at ``s1 / s2``, G is the upper envelope of them all, and so the best
rounding is the one at the maximum of G, over both signs of s.

* **A bound between two scales** a < b, from nothing but the sums at both: ``G + s2(a) s^2`` is a maximum of convex
  parabolas, since no rounding in between has a larger ``s2`` than that at the smaller scale.  So with u from 0 at a to
  1 at b, ``G <= G(a) + u (G(b) - G(a)) + s2(a) (b - a)^2 u (1 - u)``.
* **A bound for all smaller scales**: a weight that is clamped at s explains less at any smaller scale, and none
  explains more than its energy.

A scan goes from coarse scales to fine ones, with steps that keep the first bound below what the best known rounding
explains, or near its error where that is close; it ends by the second.  Only in the few intervals whose bound exceeds
the best, the roundings are visited one by one, as llama.cpp's pull request 12557 does it for all: each differs from
the one before in one level.

Bounds are float32, with a margin for their roundings; the visits are float64 and decide.  Measured on Zen 3, times the
visit of all roundings that stood here: Q3_K 3, Q4_0 10, Q5_0 16, Q6_0 23, Q6_K 10, IQ4_NL 4; of 10^6 blocks none
explains less.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from qxmix.quants.common.exhaustive_steps import stepping
from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.simd import WIDTH, any_lane, lane_bits, load, lowest_bit, root, splat, store, where
from qxmix.quants.jit import inlined, kernel

_TIGHTNESS = np.float32(0.08)
"""Four times the part of the best error that a bound may exceed the truth by."""
_MARGIN = np.float32(1.0 - 1e-5)
"""Covers the roundings of float32 sums of 32 terms, in two parts, on either side of a comparison."""
_KEPT = 32
"""Intervals that are kept for later; then they are gone through."""

_0 = np.float32(0.0)
_1 = np.float32(1.0)
_2 = np.float32(2.0)
_HALF, _49 = np.float32(0.5), np.float32(0.49)
_4_5TH = np.float32(0.8)
_NOISE = np.float32(1e-5)
_TINY = np.float32(1e-30)
_SAMPLES = np.array([1.0, -1.0, 0.9, -0.9, 0.8, 1.1, -1.1], np.float32)
"""Of the full range: scales that are tried first."""


@inlined
def _normalized(x, w, g, block):
    """Weights, importances and their product, largest 1, in rows of ``block`` (3 m, WIDTH), m being n or one more.

    Returns the energy of each lane.
    """
    n = block.shape[0] // 3
    largest = heaviest = splat(_0)
    for e in range(x.shape[0]):
        largest = max(largest, abs(load(x, e * LANES + g)))
        heaviest = max(heaviest, load(w, e * LANES + g))
    some = (largest > _0) & (heaviest > _0)
    down, by = where(some, largest, splat(_1)), where(some, heaviest, splat(_1))
    energy = splat(_0)
    block[:] = _0
    for e in range(x.shape[0]):
        y, v = load(x, e * LANES + g) / down, load(w, e * LANES + g) / by
        store(block, e * WIDTH, y)
        store(block, (n + e) * WIDTH, v)
        store(block, (2 * n + e) * WIDTH, v * y)
        energy = energy + (v * y) * y
    return where(some, energy, splat(_0))


@inlined
def _clamped(block, scale, top):
    """The energy that is lost to clamping at this scale, whatever the rounding."""
    n = block.shape[0] // 3
    lost = splat(_0)
    for e in range(n):
        beyond = max(abs(load(block, e * WIDTH)) - top * scale, _0)
        lost = lost + (load(block, (n + e) * WIDTH) * beyond) * beyond
    return lost


@inlined
def _bound(coarse, fine, width, s2):
    """The bound of what is explained between two scales ``width`` apart."""
    arch = s2 * (width * width)
    u = min(max(_HALF + (coarse - fine) / (_2 * arch + _TINY), _0), _1)
    return fine + u * (coarse - fine) + arch * (u * (_1 - u))


@inlined
def _first_step(levels):
    """Just below the inverse scale at which the first weight of a normalized block can leave the level nearest zero."""
    first = np.float32(np.inf)
    for i in range(len(levels) - 1):
        middle = abs(levels[i] + levels[i + 1]) * np.float32(0.499)
        first = min(first, middle) if middle > _0 else first
    return first


@inlined
def _keep(survive, left, right, bound, lines, kept, n_kept):
    """Write the intervals of the lanes in ``survive`` behind those that are kept; whether a lane has no more room."""
    store(lines, 0, left)
    store(lines, WIDTH, right)
    store(lines, 2 * WIDTH, bound)
    bits, full = lane_bits(survive), False
    while bits != 0:
        k = lowest_bit(bits)
        bits &= bits - 1
        for i in range(3):
            kept[k, n_kept[k], i] = lines[i, k]
        n_kept[k] += 1
        full |= n_kept[k] == _KEPT
    return full


def _measuring(nearest: Callable[..., object]) -> Callable[..., Any]:
    @inlined
    def sums(block, t, low, high):
        n = block.shape[0] // 3
        a1 = a2 = b1 = b2 = splat(_0)
        for e in range(0, n, 2):
            a, b = nearest(t * load(block, e * WIDTH), low, high), nearest(t * load(block, (e + 1) * WIDTH), low, high)
            a1, b1 = a1 + load(block, (2 * n + e) * WIDTH) * a, b1 + load(block, (2 * n + e + 1) * WIDTH) * b
            a2, b2 = a2 + (load(block, (n + e) * WIDTH) * a) * a, b2 + (load(block, (n + e + 1) * WIDTH) * b) * b
        return a1 + b1, a2 + b2

    @kernel
    def explained(block, scale, sign, low, high, lines):
        """Of the rounding at ``scale``: G, what it explains with its own best scale, and s2; rows of ``lines``."""
        s = load(scale, 0)
        s1, s2 = sums(block, sign / s, low, high)
        s1 = sign * s1
        store(lines, 0, s * (_2 * s1 - s * s2))
        store(lines, WIDTH, where(s2 > _0, (s1 * s1) / s2, splat(_0)))
        store(lines, 2 * WIDTH, s2)

    @inlined
    def at_scale(block, s, sign, low, high, lines):
        store(lines, 3 * WIDTH, s)
        explained(block, lines[3], sign, low, high, lines)
        return load(lines, 0), load(lines, WIDTH), load(lines, 2 * WIDTH)

    return at_scale


def _visiting(try_steps: Callable[..., None]) -> Callable[..., None]:
    @kernel
    def visit(x, w, g, block, best, levels, kept, n_kept, found):
        """Go through the kept intervals whose bound exceeds what the best known rounding explains; forget them all."""
        for k in range(WIDTH):
            for i in range(n_kept[k]):
                if kept[k, i, 2] > best[k] * _MARGIN:
                    try_steps(x, w, g + k, block, k, levels, kept[k, i], found[k])
            n_kept[k] = 0

    return visit


def _scanning(at_scale: Callable[..., Any], visit: Callable[..., None]) -> Callable[..., None]:
    @kernel
    def scan(x, w, g, block, energy, start, sign, levels, best, lines, kept, n_kept, found):
        """From the scale ``start`` to ever finer ones of this sign, while any may be better than the best known."""
        low, high = levels[0], levels[-1]
        top, energies = max(abs(low), abs(high)), load(energy, 0)
        active, s, i = energies > _0, splat(start), 0
        here, ahead, s2 = at_scale(block, s, sign, low, high, lines)  # coarser scales have the same rounding
        known = max(load(best, 0), ahead)
        while any_lane(active):
            error = max(energies - known, _NOISE * energies)
            step = root(max(known - here, _TIGHTNESS * error) / (s2 + _TINY))
            finer = max(s - step, _4_5TH * s)
            there, candidate, s2 = at_scale(block, finer, sign, low, high, lines)
            known = where(active, max(known, candidate), known)
            bound = max(_bound(here, there, s - finer, s2), ahead)
            if _keep(active & (bound > known * _MARGIN), sign / s, sign / finer, bound, lines, kept, n_kept):
                store(best, 0, known)
                visit(x, w, g, block, best, levels, kept, n_kept, found)
            i += 1
            if i % 4 == 0:
                active = active & (energies - _clamped(block, finer, top) > known * _MARGIN)
            s, here, ahead = finer, there, splat(_0)
        store(best, 0, known)

    return scan


def exhaustive_search(
    nearest: Callable[..., object], index_of: Callable[..., float], *, mirrored: bool
) -> Callable[..., None]:
    """Build the exhaustive search over levels.

    ``nearest(y, low, high)`` is the level nearest to each lane of a vector y, ``index_of(y, low, high)`` the index of
    that nearest to a scalar; low and high are the first and the last level.  ``mirrored``: without these two the levels
    are the same on both sides of zero, so that below full range one sign of the scale does for both.
    """
    try_steps, apply_steps = stepping(index_of)
    at_scale, visit = _measuring(nearest), _visiting(try_steps)
    scan = _scanning(at_scale, visit)

    @kernel
    def search(x, w, levels, scale, q):
        """Scale (LANES,) and levels ``q`` (n, LANES) of each lane that explain most: the maximum over all scales.

        ``levels`` (n_levels,) ascend.  A block whose weights or values are all zero gets scale 0 and the level nearest
        zero.
        """
        low, high = levels[0], levels[-1]
        top, other = max(abs(low), abs(high)), min(abs(low), abs(high))
        first = _first_step(levels)
        n = x.shape[0] + x.shape[0] % 2
        block, lines = np.empty((3 * n, WIDTH), np.float32), np.empty((4, WIDTH), np.float32)
        kept, n_kept = np.empty((WIDTH, _KEPT, 3), np.float32), np.zeros(WIDTH, np.int64)
        best, found, energy = np.empty(WIDTH, np.float32), np.empty((WIDTH, 5), np.float64), np.empty(WIDTH, np.float32)
        for g in range(0, LANES, WIDTH):
            store(energy, 0, _normalized(x, w, g, block))
            found[:] = 0.0
            found[:, 1] = 1.0
            known = splat(_0)
            for i in range(len(_SAMPLES)):
                t = _SAMPLES[i] * top
                _, candidate, _ = at_scale(block, splat(_1 / abs(t)), _1 if t > _0 else -_1, low, high, lines)
                known = max(known, candidate)
            store(best, 0, known)
            second = other + _49 if mirrored else first
            scan(x, w, g, block, energy, _1 / first, _1, levels, best, lines, kept, n_kept, found)
            scan(x, w, g, block, energy, _1 / second, -_1, levels, best, lines, kept, n_kept, found)
            visit(x, w, g, block, best, levels, kept, n_kept, found)
            for k in range(WIDTH):
                scale[g + k] = np.float32(found[k, 0] / found[k, 1])
                apply_steps(block, k, levels, found[k], q, g + k)

    return search
