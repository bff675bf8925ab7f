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
            d = max(away, splat(-_0))
            # Where this is a NaN, and 255 here, it is one for any value of the slot.
            store_bytes(tables, k * ENTRIES, min(splat(_FULL), splat(w[at + k]) * (d * d) * splat(units)))

    return tabulate


def chooser(n: int) -> Callable[..., tuple[int, np.float32]]:
    """Build ``first_nearest`` for groups of ``n`` weights."""

    @inlined
    def first_nearest(v, w, at, near, sums, n_chunks, limit, masks):
        """The first place with the least distance, and that, of those whose sums are not above ``limit``.

        Where no distance is a number below infinity it is the first place of all.
        """
        count = 0
        for chunk in range(n_chunks):
            bits = bits_within(sums, chunk * PLACES, limit)
            masks[count, 0], masks[count, 1] = bits, chunk * PLACES
            count += 1 if bits else 0
        which, best, i, bits = 0, _INF, 0, masks[0, 0]
        while i < count:
            place = masks[i, 1] + lowest_bit(bits)
            score = weighted_distance(w, v, at, near, place * n, n)
            if score < best:
                which, best = place, score
            bits &= bits - 1
            i += 0 if bits else 1
            bits = bits or masks[i, 0]
        return which, best

    return first_nearest
