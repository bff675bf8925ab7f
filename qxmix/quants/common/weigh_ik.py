"""The weights of ik_llama.cpp's own types: a clean-up of the importance, then the variance of the super-block.

``x`` and ``w`` are (256, LANES); lane k is a super-block.  Lanes from ``n_lanes`` on, a multiple of WIDTH, are left
alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.simd import WIDTH, load, root, splat, store, where
from qxmix.quants.common.superblock import SUPER
from qxmix.quants.jit import inlined, kernel, spliced

if TYPE_CHECKING:
    from qxmix.quants.contracts import WeighLanes

_TINY = np.float32(1e-9)
_0 = np.float32(0.0)


@kernel
def clean_importance(x, w, n, n_lanes=LANES):
    """Set the importances of a block of ``n`` to 1e-9 unless its sums of w * w, x * x and w * |x| exceed n * 1e-18.

    ``QHelper::row_weights`` of ik_llama.cpp: a block that no importance decides gets a plain fit instead of 0 / 0.
    """
    bound = np.float32(n) * (_TINY * _TINY)
    for first in range(0, x.shape[0], n):
        for g in range(0, n_lanes, WIDTH):
            ww = xx = wx = splat(_0)
            for e in range(first, first + n):
                value, weight = load(x, e * LANES + g), load(w, e * LANES + g)
                ww = ww + weight * weight
                xx = xx + value * value
                wx = wx + weight * abs(value)
            decides = (ww > bound) & (xx > bound) & (wx > bound)
            for e in range(first, first + n):
                store(w, e * LANES + g, where(decides, load(w, e * LANES + g), splat(_TINY)))


@inlined
def _variance(x, g, factor):
    """``factor`` times the mean square, summed in element order."""
    total = splat(_0)
    for e in range(SUPER):
        total = total + load(x, e * LANES + g) * load(x, e * LANES + g)
    return (factor * total) / np.float32(SUPER)


@kernel
def weigh_cleaned(x, w, n, factor, n_lanes=LANES):
    """Clean up blocks of ``n``, then ``w *= sqrt(factor * mean square of the super-block + x * x)``."""
    clean_importance(x, w, n, n_lanes)
    for g in range(0, n_lanes, WIDTH):
        variance = _variance(x, g, factor)
        for e in range(SUPER):
            value = load(x, e * LANES + g)
            store(w, e * LANES + g, load(w, e * LANES + g) * root(variance + value * value))


@kernel
def weigh_plain(x, w, factor, share, n_lanes=LANES):
    """Weights where there is no importance: ``share * variance + x * x``, the variance as in ``weigh_cleaned``."""
    for g in range(0, n_lanes, WIDTH):
        floor = share * _variance(x, g, factor) if share > _0 else splat(_0)
        for e in range(SUPER):
            value = load(x, e * LANES + g)
            store(w, e * LANES + g, floor + value * value)


def weigh_lanes(block: int, factor: float, share: float) -> WeighLanes:
    """Build the weights of a search: ``weigh_cleaned`` where there are importances, else ``weigh_plain``."""
    factor32, share32 = np.float32(factor), np.float32(share)

    @spliced
    def weigh(x, w, n_lanes, weighted):
        if weighted:
            weigh_cleaned(x, w, block, factor32, n_lanes)
        else:
            weigh_plain(x, w, factor32, share32, n_lanes)

    return weigh
