"""Blocks that sit on a lattice, told by their weights alone, before any scale is searched: Q4_0, Q5_0 and Q6_0.

The search of the best scale finds it, too, where columns count much alike.  But a column that counts nothing, or 10^4
times less than another, is no concern of it: with half of the importances zero, a third of the blocks of int4 weights
lost some.  And what is found beforehand needs no search.
"""

from __future__ import annotations

import numpy as np

from qxmix.quants.block32.refine import BLOCK, load_lane
from qxmix.quants.block32.refine_scale import step_alone
from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.numerics import nint
from qxmix.quants.jit import kernel

_0 = np.float32(0.0)


@kernel
def scales_on_lattice(x, w, nmax, told):
    """Scales ``told`` (LANES,) of blocks ``x`` (n, LANES) that are levels from ``-nmax`` to ``nmax - 1`` times it.

    0 for those on no lattice, and for blocks of zeros.  The others weigh nothing any more: their ``w`` becomes zero, so
    that a search passes them by.
    """
    line, unit, top = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.float32(nmax)
    for k in range(LANES):
        load_lane(x, k, line, unit)
        scale, above, below = step_alone(line, unit, top), False, False
        if scale > _0:
            for e in range(BLOCK):
                level = nint(line[e] / scale)
                above |= level >= top
                below |= level <= -top
        told[k] = _0 if above and below else -scale if above else scale
        if told[k] != _0:
            for e in range(BLOCK):
                w[e, k] = _0


@kernel
def put_on_lattice(x, told, scale, q):
    """Give the blocks that sit on a lattice their scale and levels."""
    for k in range(LANES):
        if told[k] != _0:
            scale[k] = told[k]
            for e in range(BLOCK):
                q[e, k] = nint(x[e, k] / told[k])
