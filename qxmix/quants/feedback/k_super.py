"""Error feedback for the types of super-blocks with linear levels: Q2_K to Q6_K, and IQ4_XS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.codec import SEARCHES
from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.numerics import half_round
from qxmix.quants.common.search_affine import search_affine, search_affine_f32
from qxmix.quants.common.simd import WIDTH, load, splat, store, where
from qxmix.quants.common.superblock import SUPER
from qxmix.quants.feedback.encoder import FeedbackType, feedback_encoder
from qxmix.quants.feedback.nearest import nearest_affine
from qxmix.quants.feedback.super import AROUND, clamped_level, gather_blocks, putting, widest_blocks
from qxmix.quants.jit import inlined, kernel, spliced

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxmix.quants.codec import FeedbackEncoder

ROOM = np.float32(1.05)
"""How much more than the largest scale of the weights as given a super-block can hold."""

_FIRST, _N_STEPS = np.float32(-0.6), 6
"""Trials of the search for units: inverse scales from ``nmax - 0.6`` to ``nmax`` over what a block spans."""

_HEURISTIC = SEARCHES.index("heuristic")

_MAGIC = np.float32(12582912.0)  # 1.5 * 2**23: adding it leaves no bits below one
_INF = np.float32(np.inf)
_0 = np.float32(0.0)
_1 = np.float32(1.0)


def scaled_feedback(
    *, block: int, nbytes: int, levels: tuple[int, int], weigh: Callable[..., None], find: Callable[..., None],
    nearest: Callable[..., tuple[object, object]], fill: Callable[..., None], n_searched: int,
) -> FeedbackEncoder:  # fmt: skip
    """Build the encoder of super-blocks with a half d and for each block a whole multiple of it.

    Args:
        block: Weights per block.
        nbytes: Bytes of a super-block.
        levels: Least and largest multiple; the block with the largest scale found gets the least, less some room.
        weigh: ``(x, w, unit)`` as in ``FeedbackType``.
        find: ``(x, w, search, scale)`` searches the scale of a block.
        nearest: As in ``FeedbackType``.
        fill: As in ``putting``; ``found[0]`` are the multiples, ``unit[0]`` is d.
        n_searched: How many blocks of a super-block, the widest, are searched for d.

    """
    low, high = np.float32(levels[0]), np.float32(levels[1])

    @spliced
    def fix(x, w, unit):
        at, scale = np.empty((n_searched, LANES), np.int64), np.empty(LANES, np.float32)
        xs, ws = np.empty((block, LANES), np.float32), np.empty((block, LANES), np.float32)
        widest_blocks(x, block, at)
        for k in range(LANES):
            unit[0, k] = _0
        for i in range(n_searched):
            gather_blocks(x, at[i], xs)
            gather_blocks(w, at[i], ws)
            find(xs, ws, _HEURISTIC, scale)
            for k in range(LANES):
                unit[0, k] = scale[k] if abs(scale[k]) > abs(unit[0, k]) else unit[0, k]
        for k in range(LANES):
            unit[0, k] = half_round(ROOM * unit[0, k] / low)

    @spliced
    def find_level(x, w, search, unit, found, step, offset):
        find(x, w, search, step)
        for k in range(LANES):
            found[0, k] = clamped_level(step[k], unit[0, k], low, high)
            step[k] = unit[0, k] * found[0, k]
            offset[k] = _0

    kind = FeedbackType(block, 1, weigh, find_level, nearest, putting(nbytes, 0, fill), fix=fix)
    return feedback_encoder(kind)


@inlined
def _multiple(value, unit, most):
    """The whole multiple of ``unit`` nearest to ``value``, within ``[0, most]``; 0 where there is no unit."""
    level = min(max((value / unit + _MAGIC) - _MAGIC, splat(_0)), most)
    return where(unit != _0, level, splat(_0))


@inlined
def _code(value, offset, inverse, top):
    return min(max((inverse * (value - offset) + _MAGIC) - _MAGIC, splat(_0)), top)


@inlined
def _fitted(x, w, g, step, inverse, offset, top):
    """The offset, not above 0, that fits best once the step is a multiple of d; codes are those of the one given."""
    total = weight = splat(_0)
    for e in range(x.shape[0]):
        value, u = load(x, e * LANES + g), load(w, e * LANES + g)
        total = total + u * (value - step * _code(value, offset, inverse, top))
        weight = weight + u
    return where((weight > _0) & (step != _0), min(total / weight, splat(_0)), offset)


@inlined
def _error(x, w, g, step, inverse, offset, top):
    total = splat(_0)
    for e in range(x.shape[0]):
        value = load(x, e * LANES + g)
        miss = value - (step * _code(value, offset, inverse, top) + offset)
        total = total + load(w, e * LANES + g) * (miss * miss)
    return total


@kernel
def _choose_multiples(x, w, nmax, most, unit, scale, minimum, found):
    """Multiples (2, LANES) of d and dmin, ``unit[0]`` and ``unit[1]``, near ``scale`` and ``minimum`` (not above 0).

    Of three for the scale and three around what then fits best for the minimum those with the least error: where one
    column counts a thousand times as much as the others, the nearest multiples of both miss its weight.  (With those
    Q5_K lost 11 % in a ffn_down instead of winning some.)
    """
    top, highest = splat(np.float32(nmax)), splat(most)
    for g in range(0, LANES, WIDTH):
        d, dmin, low = load(unit, g), load(unit, LANES + g), load(minimum, g)
        middle, best = _multiple(load(scale, g), d, highest), splat(_INF)
        level, other = middle, _multiple(-low, dmin, highest)
        for a in range(3):
            trial = min(max(middle + splat(AROUND[a]), splat(_0)), highest)
            step = d * trial
            inverse = where(step != _0, _1 / step, splat(_0))
            center = _multiple(-_fitted(x, w, g, step, inverse, low, top), dmin, highest)
            for b in range(3):
                second = min(max(center + splat(AROUND[b]), splat(_0)), highest)
                error = _error(x, w, g, step, inverse, -(dmin * second), top)
                better = error < best
                best, level = where(better, error, best), where(better, trial, level)
                other = where(better, second, other)
        store(found, g, level)
        store(found, LANES + g, other)


def affine_super_feedback(
    *, block: int, nbytes: int, nmax: int, top: int, weigh: Callable[..., None], fill: Callable[..., None]
) -> FeedbackEncoder:
    """Build the encoder of super-blocks with halves d and dmin and multiples of both, ``0 .. top``, for each block.

    Here all blocks are searched for the units, with a few trials: the one that spans most need not have the largest
    scale, for a search may leave a weight out that is large and counts little.  (With that block alone Q4_K lost 14 %
    in a ffn_down instead of winning some.)

    ``fill`` is that of ``putting``: ``found[0]`` and ``found[1]`` are the multiples, ``unit[0]`` and ``unit[1]`` d and
    dmin.
    """
    most_code = np.float32(top)

    @spliced
    def fix(x, w, unit):
        scale, minimum = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
        q = np.empty((block, LANES), np.float32)
        for k in range(LANES):
            unit[0, k] = unit[1, k] = _0
        for first in range(0, SUPER, block):
            part = slice(first, first + block)
            search_affine_f32(x[part], w[part], nmax, _FIRST, _N_STEPS, 2, scale, minimum, q)
            for k in range(LANES):
                unit[0, k], unit[1, k] = max(unit[0, k], scale[k]), max(unit[1, k], -minimum[k])
        for i in range(2):
            for k in range(LANES):
                unit[i, k] = half_round(ROOM * unit[i, k] / most_code)

    @spliced
    def find(x, w, _search, unit, found, step, offset):
        q = np.empty((block, LANES), np.float32)
        search_affine(x, w, nmax, step, offset, q)
        _choose_multiples(x, w, nmax, most_code, unit, step, offset, found)
        for k in range(LANES):
            step[k] = unit[0, k] * found[0, k]
            offset[k] = -(unit[1, k] * found[1, k])

    kind = FeedbackType(block, 2, weigh, find, nearest_affine(nmax), putting(nbytes, 0, fill), fix=fix)
    return feedback_encoder(kind)
