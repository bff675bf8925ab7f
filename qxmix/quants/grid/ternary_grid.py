"""What IQ1_S and IQ1_M share: splits of the sorted weights, and groups of eight on the grid of three levels.

The levels are -1, 0, 1, all moved up or down by 0.125.  For ordered weights the best of all roundings to three levels
is a pair of boundaries; running sums give the fit of each pair.  Lane k is super-block k, as in ``superblock``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.reinterpret import flat_as
from qxmix.quants.common.simd import WIDTH, load, store, where
from qxmix.quants.common.superblock import super_encoder
from qxmix.quants.grid.grids import grid_points, load_grid
from qxmix.quants.jit import inlined, kernel, spliced

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qxmix.quants.codec import Columns, Packed, Rows, ScaledEncoder
    from qxmix.quants.contracts import Fill, Weigh

DELTA = np.float32(0.125)
UP = np.array([-0.875, 0.125, 1.125], dtype=np.float32)
DOWN = np.array([-1.125, -0.125, 0.875], dtype=np.float32)
N_WANTED = 3
"""Distinct distances of neighbours that are kept for a code off the grid."""
LONGEST_LIST = 256

_0 = np.float32(0.0)
_FARTHEST = np.int32(0x7FFFFFFF)


def sorting_network(n: int) -> NDArray[np.int64]:
    """(n_pairs, 2) the comparisons of Batcher's odd-even merge sort of ``n`` values, ``n`` a power of two."""
    pairs = []
    p = 1
    while p < n:
        k = p
        while k:
            pairs += [
                (i + j, i + j + k)
                for j in range(k % p, n - k, 2 * k)
                for i in range(min(k, n - j - k))
                if (i + j) // (2 * p) == (i + j + k) // (2 * p)
            ]
            k //= 2
        p *= 2
    return np.array(pairs)


@kernel
def sort_lanes(network, v, u, at):
    """Sort each lane of ``v`` (n, LANES) ascending, and ``u`` and the element numbers ``at`` along with it.

    Equal values stay in the order of their numbers, as in the reference's merge sort.
    """
    for e in range(v.shape[0]):
        for k in range(LANES):
            at[e, k] = np.float32(e)
    for p in range(network.shape[0]):
        a, b = network[p, 0] * LANES, network[p, 1] * LANES
        for g in range(0, LANES, WIDTH):
            v0, v1, n0, n1 = load(v, a + g), load(v, b + g), load(at, a + g), load(at, b + g)
            u0, u1 = load(u, a + g), load(u, b + g)
            swap = (v0 > v1) | ((v0 == v1) & (n0 > n1))
            store(v, a + g, where(swap, v1, v0))
            store(v, b + g, where(swap, v0, v1))
            store(u, a + g, where(swap, u1, u0))
            store(u, b + g, where(swap, u0, u1))
            store(at, a + g, where(swap, n1, n0))
            store(at, b + g, where(swap, n0, n1))


def ternary_encoder(nbytes: int, block: int, weigh: Weigh, fill: Fill) -> ScaledEncoder:
    """Build the encoder of a type on the grid of IQ1_S: a ``super_encoder``.

    ``given`` is the tuple ``index, offsets, neighbours, distance, values, factor``: the first four for ``snap_group``,
    the values (n_points, 8) of the grid points, and the factor of the d that is stored.
    """
    made: Any = super_encoder(nbytes, block, weigh, fill)
    over_blocks = spliced(made.py_func)  # in a kernel of arrays: a tuple as an argument needs numba

    @kernel
    def encode(rows, columns, packed, index, offsets, neighbours, distance, values, factor):
        over_blocks(rows, columns, packed, (index, offsets, neighbours, distance, values, factor))

    def encode_rows(rows: Rows, columns: Columns, packed: Packed, factor: np.float32) -> None:
        grid, distance = load_grid("IQ1_S", N_WANTED), np.empty(LONGEST_LIST, np.float32)
        encode(rows, columns, packed, grid.index, grid.offsets, grid.neighbours, distance, grid_points("IQ1_S"), factor)

    return encode_rows


@inlined
def split_levels(split, scale, at, level):
    """Levels 0, 1, 2 of each lane's elements for the split ``64 * first + second``, mirrored for a negative scale."""
    n = level.shape[0]
    for k in range(LANES):
        first, second = int(split[k]) // 64, int(split[k]) % 64
        for r in range(n):
            q = (1 if r >= first else 0) + (1 if r >= second else 0)
            level[int(at[r, k]), k] = np.uint8(2 - q if scale[k] < _0 else q)


@inlined
def _terms(x, w, scale, values):
    """``w (scale * q - x) ** 2`` for the three levels."""
    a, b, c = scale * values[0] - x, scale * values[1] - x, scale * values[2] - x
    return (w * a) * a, (w * b) * b, (w * c) * c


@kernel
def snap_group(x, w, level, k, scale, values, index, offsets, neighbours, distance):
    """Index of the grid point of a group of eight, ``x``, ``w`` and ``level`` (8, LANES), in lane ``k``.

    A code off the grid gets the neighbour with the least ``sum w (scale * q - x) ** 2``, the first of equals; its
    levels replace those of the group.  ``values`` (3,) are the levels' values; ``distance`` (LONGEST_LIST,) is scratch.
    """
    code = np.int32(0)
    for i in range(8):
        code |= np.int32(level[i, k]) << np.int32(2 * i)
    point = index[np.uint32(code)]
    if point >= 0:
        return point, True
    start = np.uint32(offsets[np.uint32(-1 - point)])
    count = np.uint32(offsets[np.uint32(-point)]) - start
    for j in range(count):
        distance[j] = _0
    for i in range(0, 8, 2):
        # The terms of the three levels of two weights: choosing between six values is all that a neighbour costs.
        a0, a1, a2 = _terms(x[i, k], w[i, k], scale, values)
        b0, b1, b2 = _terms(x[i + 1, k], w[i + 1, k], scale, values)
        for j in range(count):
            c = np.uint32(neighbours[start + j]) >> np.uint32(2 * i)
            a, b = c & np.uint32(3), (c >> np.uint32(2)) & np.uint32(3)
            d = distance[j] + (a0 if a == 0 else (a1 if a == 1 else a2))
            distance[j] = d + (b0 if b == 0 else (b1 if b == 1 else b2))
    bits = flat_as(distance, np.int32)
    least, which = _FARTHEST, np.int32(count)
    for j in range(count):
        least = min(least, bits[j])
    for j in range(count):
        which = min(which, np.int32(j) if bits[j] == least else np.int32(count))
    best = np.uint32(neighbours[start + np.uint32(which)])
    for i in range(8):
        level[i, k] = np.uint8(np.uint32(best >> np.uint32(2 * i)) & np.uint32(3))
    return index[best], False
