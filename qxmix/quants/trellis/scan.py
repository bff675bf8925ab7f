"""What a query of ``trellis.search`` does with a list of code vectors: the parts of its inner loops.

``v`` and ``w`` are flat; what a group wants and what its errors weigh are n numbers of each from ``at`` on.  ``sums``
are bytes, one for each place of the list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.common.simd import load, lowest_bit, splat, store_bytes
from qxmix.quants.common.simd_bytes import ENTRIES, PLACES, bits_within, weighted_distance
from qxmix.quants.jit import inlined

if TYPE_CHECKING:
    from collections.abc import Callable

_0 = np.float32(0.0)
_FULL = np.float32(255.0)
_INF = np.float32(np.inf)


def tabulator(n: int) -> Callable[..., None]:
    """Build ``tabulate`` for groups of ``n`` weights."""

    @inlined
    def tabulate(v, w, at, units, low, high, slots, tables):
        """What the value next to the wanted one in each slot adds to the distance: ``units``, rounded down, up to 255.

        The slots of the list are from ``slots`` on in ``low`` and ``high``.  Each step is that of the distance itself,
        which rounds in the same direction, so that no value of the slot adds less.
        """
        for k in range(n):
            value = splat(v[at + k])
            under, over = load(low, slots + k * ENTRIES) - value, value - load(high, slots + k * ENTRIES)
            away = max(under, over)
            d = max(splat(_0), away)
            # Infinity times zero is a NaN for any value of the slot, too, and 255 here.
            store_bytes(tables, k * ENTRIES, min(splat(_FULL), splat(w[at + k]) * (d * d) * splat(units)))

    return tabulate


@inlined
def first_within(sums, limit):
    """The first place whose sum is not above ``limit``; there must be one."""
    at = 0
    bits = bits_within(sums, 0, limit)
    while bits == 0:
        at += PLACES
        bits = bits_within(sums, at, limit)
    return at + lowest_bit(bits)


def chooser(n: int) -> Callable[..., tuple[int, np.float32]]:
    """Build ``first_nearest`` for groups of ``n`` weights."""

    @inlined
    def first_nearest(v, w, at, near, sums, n_chunks, limit):
        """The first place with the least distance, and that, of those whose sums are not above ``limit``.

        Where no distance is a number below infinity it is the first place of all.
        """
        which, best = 0, _INF
        for chunk in range(n_chunks):
            bits = bits_within(sums, chunk * PLACES, limit)
            while bits:
                place = chunk * PLACES + lowest_bit(bits)
                bits &= bits - 1
                score = weighted_distance(w, v, at, near, place * n, n)
                if score < best:
                    which, best = place, score
        return which, best

    return first_nearest
