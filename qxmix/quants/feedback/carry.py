"""How errors reach the columns still to come: the two inner loops of error feedback.

Lane k is a row; ``x`` (n, LANES) are the weights of up to 256 columns and ``error`` (n, LANES) what was lost of those
that are rounded, ``given - decoded``.  A column gets the products of all errors before it one after the other, from the
first, so that the sums are those of a plain double loop, bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.simd import WIDTH, load, splat, store, where
from qxmix.quants.jit import kernel

if TYPE_CHECKING:
    from collections.abc import Callable

_0 = np.float32(0.0)
_1 = np.float32(1.0)


@kernel
def carry(x, error, factor, of, to):
    """Add to columns ``of .. to`` of ``x`` what the errors of all columns before ``of`` do to them.

    Four columns and 16 rows at a time: eight AVX2 registers of sums, for which each error is loaded once.  ``to - of``
    is a multiple of 4.
    """
    for g in range(0, LANES, WIDTH):
        for k in range(of, to, 4):
            a, b = load(x, k * LANES + g), load(x, (k + 1) * LANES + g)
            c, d = load(x, (k + 2) * LANES + g), load(x, (k + 3) * LANES + g)
            for j in range(of):
                e, row = load(error, j * LANES + g), factor[j]
                a, b = a + e * row[k], b + e * row[k + 1]
                c, d = c + e * row[k + 2], d + e * row[k + 3]
            store(x, k * LANES + g, a)
            store(x, (k + 1) * LANES + g, b)
            store(x, (k + 2) * LANES + g, c)
            store(x, (k + 3) * LANES + g, d)


def rounding(nearest: Callable[..., tuple[object, object]]) -> Callable[..., None]:
    """Build the kernel that rounds the columns of a block, each error reaching the columns behind it at once.

    ``nearest(x, step, inverse, offset)``, all vectors, gives the code of x and the value that it decodes to.
    """

    @kernel
    def round_columns(x, error, factor, of, to, step, offset, codes):
        """Codes of columns ``of .. to`` for ``step`` and ``offset`` (LANES,), and their errors.

        ``x`` has the weights as they stand after the columns before ``of``, ``error`` those given, which become errors.
        """
        for g in range(0, LANES, WIDTH):
            by, shift = load(step, g), load(offset, g)
            inverse = where(by != _0, _1 / by, splat(_0))
            for j in range(of, to):
                code, value = nearest(load(x, j * LANES + g), by, inverse, shift)
                store(codes, j * LANES + g, code)
                lost = load(error, j * LANES + g) - value
                store(error, j * LANES + g, lost)
                row = factor[j]
                for k in range(j + 1, to):
                    store(x, k * LANES + g, load(x, k * LANES + g) + lost * row[k])

    return round_columns
