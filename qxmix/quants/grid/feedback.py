"""Error feedback for the grid types: scales as the encoder finds them, points chosen anew, eight columns at a time.

Of eight columns the errors of all before are carried over first; then each row gets signs and the grid points nearest
to what its weights have become, and what is missed goes on.  Columns count by their importance, as in the error of the
output, and not as in the search of the scales by the size of the weights, too.  A choice that knew the correlations
among the eight, too, took 0 to 3 % more from the error of the output, 6 % at most (IQ2_S): not worth its time so far.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.common.lanes import LANES, usable_importance
from qxmix.quants.common.row_scale import load_rows
from qxmix.quants.common.simd import WIDTH, load, splat, store, where
from qxmix.quants.feedback.carry import carry
from qxmix.quants.feedback.spans import SPAN
from qxmix.quants.grid.grids import grid_points
from qxmix.quants.grid.search import SUPER_BLOCK
from qxmix.quants.jit import inlined, kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from qxmix.quants.codec import Columns, Encoder, Factors, FeedbackEncoder, Packed, Rows
    from qxmix.quants.contracts import PackGrid

GROUP = 8
_D_NBYTES = 2
_TOP_SCALE = 15
_INF = np.float32(np.inf)
_0 = np.float32(0.0)


@kernel
def _signs(x, w, even, u, signs):
    """Sign bits (LANES,) of eight columns ``x`` (8, LANES), and ``u``, importance times weight as the signs have it.

    Where the number of ones must be ``even`` the weight that counts least gets the wrong sign.
    """
    for k in range(LANES):
        signs[k] = 0
    for e in range(GROUP):
        for k in range(LANES):
            u[e, k] = w[e] * abs(x[e, k])
            signs[k] |= np.int32(1 << e) if x[e, k] < _0 else np.int32(0)
    for k in range(LANES if even else 0):
        parity = signs[k] ^ (signs[k] >> 4)
        parity ^= parity >> 2
        if (parity ^ (parity >> 1)) & 1:
            at, least = 0, _INF
            for e in range(GROUP):
                loss = u[e, k] * abs(x[e, k])
                if loss < least:
                    at, least = e, loss
            signs[k] ^= np.int32(1 << at)
            u[at, k] = -u[at, k]


def _heads_of(points: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(n_heads, n / 2) the first halves of ``points`` (n_points, n), which many share, and (n_points,) that of each."""
    heads, head = np.unique(points[:, : points.shape[1] // 2], axis=0, return_inverse=True)
    return heads, head.ravel().astype(np.int64)


def _nearest(n: int) -> Callable[..., None]:
    @inlined
    def keep_better(error, point, least, chosen):
        better = error < least
        return where(better, error, least), where(better, splat(np.float32(point)), chosen)

    @kernel
    def nearest(u, w, step, points, squares, heads, head, norm, sums, at):
        """Points ``at`` (LANES,) float32, times ``step`` nearest in columns ``w`` to what ``u`` (n, LANES) is of.

        ``norm`` (n_points,) and ``sums`` (n_heads, WIDTH) are for the work.  Four points at a time, for which each
        ``u`` is loaded once.
        """
        n_points = points.shape[0]
        for p in range(n_points):
            norm[p] = _0
        for e in range(n):
            for p in range(n_points):
                norm[p] += w[e] * squares[e, p]
        for g in range(0, LANES, WIDTH):
            by, least, chosen = load(step, g), splat(_INF), splat(_0)
            for h in range(heads.shape[0]):
                a = splat(_0)
                for e in range(n // 2):
                    a = a + load(u, e * LANES + g) * heads[h, e]
                store(sums, h * WIDTH, a)
            for p in range(0, n_points, 4):
                a, b = load(sums, head[p] * WIDTH), load(sums, head[p + 1] * WIDTH)
                c, d = load(sums, head[p + 2] * WIDTH), load(sums, head[p + 3] * WIDTH)
                for e in range(n // 2, n):
                    v = load(u, e * LANES + g)
                    a, b = a + v * points[p, e], b + v * points[p + 1, e]
                    c, d = c + v * points[p + 2, e], d + v * points[p + 3, e]
                least, chosen = keep_better(by * norm[p] - (a + a), p, least, chosen)
                least, chosen = keep_better(by * norm[p + 1] - (b + b), p + 1, least, chosen)
                least, chosen = keep_better(by * norm[p + 2] - (c + c), p + 2, least, chosen)
                least, chosen = keep_better(by * norm[p + 3] - (d + d), p + 3, least, chosen)
            store(at, g, chosen)

    return nearest


def _choosing(*, n: int, even: bool) -> Callable[..., None]:
    nearest = _nearest(n)

    @kernel
    def choose(rows, columns, factors, steps, points, squares, heads, head, chosen, signs):
        """Indices ``chosen`` (n_rows, n_cols / n) and ``signs`` (n_rows, n_cols / 8) of up to LANES rows.

        ``steps`` (n_rows, n_cols) are what a point at 1 is decoded to, of either sign.
        """
        n_rows = rows.shape[0]
        x, error = np.empty((SPAN, LANES), np.float32), np.empty((SPAN, LANES), np.float32)
        u, step = np.empty((GROUP, LANES), np.float32), np.empty((1, LANES), np.float32)
        norm, sums = np.empty(points.shape[0], np.float32), np.empty((heads.shape[0], WIDTH), np.float32)
        at, bits = np.empty(LANES, np.float32), np.empty(LANES, np.int32)
        columns = usable_importance(columns, GROUP)
        for of in range(0, rows.shape[1], SPAN):
            factor = factors[of // SPAN]
            load_rows(rows, 0, n_rows, of, x)
            for e in range(SPAN):
                for k in range(LANES):
                    error[e, k] = x[e, k]
            for lo in range(0, SPAN, GROUP):
                carry(x, error, factor, lo, lo + GROUP)
                load_rows(steps, 0, n_rows, of + lo, step)
                for k in range(LANES):
                    step[0, k] = abs(step[0, k])
                _signs(x[lo : lo + GROUP], columns[of + lo : of + lo + GROUP], even, u, bits)
                for k in range(n_rows):
                    signs[k, (of + lo) // GROUP] = bits[k]
                for part in range(0, GROUP, n):
                    w = columns[of + lo + part : of + lo + part + n]
                    nearest(u[part : part + n], w, step[0], points, squares, heads, head, norm, sums, at)
                    for k in range(n_rows):
                        point = np.int64(at[k])
                        chosen[k, (of + lo + part) // n] = point
                        for e in range(n):
                            value = step[0, k] * points[point, e]
                            value = -value if (bits[k] >> (part + e)) & 1 else value
                            error[lo + part + e, k] -= value

    return choose


def grid_feedback(
    name: str, *, n: int, block: int, even: bool, encode: Encoder, decode: Callable[..., None], pack: PackGrid,
    nbytes: int,
) -> FeedbackEncoder:  # fmt: skip
    """Build the encoder of a grid type: ``n``, ``block``, ``even``, ``pack`` and ``nbytes`` are ``grid_encoder``'s.

    ``encode`` finds the scales; ``decode(packed, rows, values)`` is the kernel of ``points_decoder``.
    """
    choose, n_blocks = _choosing(n=n, even=even), SUPER_BLOCK // block

    @kernel
    def put(scales, chosen, signs, packed):
        """Write all bits but those of the scales, for which ``scales`` (nbytes,) has ones."""
        fresh, no_scales = np.zeros(nbytes, np.uint8), np.zeros(n_blocks, np.uint8)
        for r in range(packed.shape[0]):
            for b in range(packed.shape[1] // nbytes):
                at = nbytes * b
                pack(fresh, 0, no_scales, chosen[r, SUPER_BLOCK // n * b :], signs[r, SUPER_BLOCK // GROUP * b :])
                for i in range(nbytes):
                    packed[r, at + i] = (packed[r, at + i] & scales[i]) | (fresh[i] & ~scales[i])

    @kernel
    def scale_bits(scales):
        """Ones where a super-block has its scales: what is packed of the largest ones and nothing else."""
        ls = np.full(n_blocks, _TOP_SCALE, np.uint8)
        pack(scales, 0, ls, np.zeros(SUPER_BLOCK // n, np.int32), np.zeros(SUPER_BLOCK // GROUP, np.uint8))
        scales[:_D_NBYTES] = 255

    def encode_rows(rows: Rows, columns: Columns, factors: Factors, packed: Packed, search: int) -> None:
        encode(rows, columns, packed, search)
        points, scales = grid_points(name), np.zeros(nbytes, np.uint8)
        squares, (heads, head) = np.ascontiguousarray((points * points).T), _heads_of(points)
        scale_bits(scales)
        for first in range(0, len(rows), LANES):
            part, out = rows[first : first + LANES], packed[first : first + LANES]
            steps = np.empty_like(part)
            decode(out, steps, np.ones_like(points))
            chosen = np.empty((len(part), part.shape[1] // n), np.int32)
            signs = np.empty((len(part), part.shape[1] // GROUP), np.uint8)
            choose(part, columns, factors, steps, points, squares, heads, head, chosen, signs)
            put(scales, chosen, signs, out)

    return encode_rows
