"""The encoder around the grid search: what the five grid I-quants of 2 and 3 bits share.

A super-block of 256 weights is 8 or 16 blocks, each with a 4-bit scale; a block is 2 to 8 groups, each the index of a
grid point.  Signs are stored apart: eight bits per eight weights, or seven where their number of ones must be even.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from qxmix.quants.codec import Codec, at_factor
from qxmix.quants.common.lanes import row_mean_squares, usable_importance
from qxmix.quants.common.numerics import finite_or_0, nint, store_half
from qxmix.quants.common.reinterpret import flattened, in_rows
from qxmix.quants.common.simd import WIDTH
from qxmix.quants.grid.feedback import grid_feedback
from qxmix.quants.grid.grids import grid_points, load_grid
from qxmix.quants.grid.packing import grid_decoder, points_decoder
from qxmix.quants.grid.search import SUPER_BLOCK, grid_snap, grid_sums, trial_codes
from qxmix.quants.jit import inlined, kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxmix.quants.codec import Columns, Packed, Rows, ScaledEncoder
    from qxmix.quants.contracts import PackGrid, PutGrid

OFF_GRID, ALL_IF_OFF, ALWAYS, ROUNDS = 0, 1, 2, 3
"""Which groups are rounded again with the scale that was found: those off the grid; all of a block that has one; all;
all, up to three times while that explains more."""

_0 = np.float32(0.0)
_1 = np.float32(1.0)
_HALF = np.float32(0.5)


@kernel
def _prepare(rows, at, columns, col, sigma2, floor, even, n, x, w, wx, waux, energy, signs):
    """Magnitudes, weights, their products and the sign bits of the super-block ``rows[at:at + 256]``."""
    for e in range(SUPER_BLOCK):
        v = rows[at + e]
        if len(columns) > 0:
            w[e] = columns[col + e] * np.sqrt(sigma2 + v * v)
        else:
            w[e] = floor * sigma2 + v * v
        waux[e] = np.sqrt(w[e])
        x[e] = abs(v)
        wx[e] = (w[e] * v) * v
    for k in range(SUPER_BLOCK // 8):
        bits = 0
        for i in range(8):
            bits |= 0 if rows[at + 8 * k + i] >= _0 else 1 << i
        parity = bits ^ (bits >> 4)
        parity ^= parity >> 2
        if even and (parity ^ (parity >> 1)) & 1:
            # an odd number of minus signs cannot be stored: the weight that matters least changes its sign
            least = 0
            for i in range(1, 8):
                least = i if wx[8 * k + i] < wx[8 * k + least] else least
            x[8 * k + least] = -x[8 * k + least]
            bits ^= 1 << least
        signs[k] = bits
    for e in range(SUPER_BLOCK):
        wx[e] = w[e] * x[e]
    for g in range(SUPER_BLOCK // n):
        energy[g] = _0
        for i in range(n):
            energy[g] += (waux[g * n + i] * x[g * n + i]) * x[g * n + i]


@kernel
def _set_trials(tops, reach, inverse, step):
    """Both (n_blocks, lanes): the scale that takes each block's ``reach`` to each of ``tops``, and its inverse."""
    for b in range(len(reach)):
        for t in range(len(tops)):
            reciprocal = tops[t] / reach[b]
            inverse[b, t] = finite_or_0(reciprocal)
            step[b, t] = _1 / reciprocal


@kernel
def _accept(s1, s2, n_trials, live, groups_per_block, code, snapped, scale, best, chosen, on_grid):
    """Scale, and codes of all groups, of the trial that explains most; trials in order, as rounding makes it matter.

    Without any such trial (all weight on zeros) the scale stays and all is rounded again, or the middle trial stands.
    """
    for b in range(len(live)):
        if not live[b]:
            continue
        kept = -1
        best[b] = _0
        for t in range(n_trials):
            if s2[b, t] > _0 and s1[b, t] * s1[b, t] > best[b] * s2[b, t]:
                scale[b] = s1[b, t] / s2[b, t]
                best[b] = scale[b] * s1[b, t]
                kept = t
        take = kept if kept >= 0 else n_trials // 2
        for g in range(b * groups_per_block, (b + 1) * groups_per_block):
            chosen[g] = snapped[g, take]
            on_grid[g] = kept >= 0 and code[g, take] == snapped[g, take]


@kernel
def _finish(live, groups_per_block, bytes_per_block, even, index, scale, chosen, signs, ls):
    """Turn codes into grid indices and scales into 4-bit codes; returns ``d``.

    Where every scale is 0 ``d`` is, too; the parity types then clear the rest, the others keep what they found.
    """
    largest = _0
    for b in range(len(live)):
        for k in range(b * bytes_per_block, (b + 1) * bytes_per_block):
            signs[k] = (~signs[k] if scale[b] < _0 else signs[k]) if live[b] else 0
        for g in range(b * groups_per_block, (b + 1) * groups_per_block):
            chosen[g] = index[np.uint32(chosen[g])] if live[b] else 0
        scale[b] = abs(scale[b]) if live[b] else _0
        largest = max(largest, scale[b])
    if not largest > _0:
        ls[:] = 0
        if even:
            signs[:] = 0
            chosen[:] = 0
        return _0
    d = largest / np.float32(31.0)
    inverse = finite_or_0(_1 / d)
    for b in range(len(live)):
        ls[b] = np.uint8(np.int32(min(max(nint(_HALF * (inverse * scale[b] - _1)), _0), np.float32(15.0))))
    return d


@inlined
def block_maxima(x, largest):
    """Largest of each block's ``x``, which may hold a negative one; 0 if none is positive."""
    block = len(x) // len(largest)
    for b in range(len(largest)):
        mx = _0
        for e in range(b * block, (b + 1) * block):
            mx = max(mx, x[e])
        largest[b] = mx


@inlined
def as_found(d, _rows, _at, _w, _values, _chosen, _signs, _ls):
    """The ``fit`` of the types that store ``d`` as the search leaves it."""
    return d


@inlined
def start_at_max(_x, _w, _wx, largest, live, top, reach, scale):
    """Trial scales around the one that makes the largest weight the top level."""
    for b in range(len(live)):
        reach[b] = largest[b]
        scale[b] = largest[b] / top


def _refining(n: int, block: int, again: int) -> Callable[..., None]:
    """Build the kernel that rounds a super-block once more, ``again`` being what of it."""
    round_trials, snap, sums = trial_codes(n), grid_snap(n), grid_sums(n)
    n_blocks, per_block = SUPER_BLOCK // block, block // n

    @kernel
    def refine(snapping, w, wx, energy, live, inverse, step, code, snapped, chosen, on_grid, s1, s2, scale, best,
               index, offsets, neighbours):  # fmt: skip
        """Round again with the scale that was found, and fit the scale to the result."""
        active = live.copy()
        for _ in range(3 if again == ROUNDS else 1):
            for b in range(n_blocks):
                off = again >= ALWAYS
                for g in range(b * per_block, (b + 1) * per_block):
                    off |= not on_grid[g]
                active[b] &= off and (scale[b] != _0 if again == ROUNDS else scale[b] > _0)
                inverse[b, 0] = finite_or_0(_1 / scale[b])
                step[b, 0] = scale[b]
            round_trials(snapping, inverse, 1, active, per_block, code)
            snap(snapping, energy, step, 1, active, per_block, code, snapped, index, offsets, neighbours)
            for b in range(n_blocks):
                changed = again != ROUNDS
                for g in range(b * per_block, (b + 1) * per_block):
                    if again == OFF_GRID and on_grid[g]:
                        snapped[g, 0] = chosen[g]
                    changed |= snapped[g, 0] != chosen[g]
                active[b] &= changed
            sums(w, wx, snapped, 1, active, per_block, s1, s2)
            for b in range(n_blocks):
                t1, t2 = s1[b, 0], s2[b, 0]
                if active[b] and again == ROUNDS:
                    active[b] = t2 > _0 and t1 * t1 > best[b] * t2
                if active[b]:
                    if t2 > _0:
                        scale[b] = t1 / t2
                        best[b] = scale[b] * t1
                    for g in range(b * per_block, (b + 1) * per_block):
                        chosen[g] = snapped[g, 0]

    return refine


def grid_encoder(
    name: str, *, n: int, block: int, n_wanted: int, trials: int, trial_step: float, eps: float, even: bool,
    floor: float, sigma_factor: float, again: int, start: Callable[..., None], fit: Callable[..., np.float32],
    pack: PackGrid, nbytes: int,
) -> ScaledEncoder:  # fmt: skip
    """Build the encoder of a grid type for any factor of the d that it stores.

    ``trials`` scales on either side, ``trial_step`` apart in units of the top level; blocks below ``eps`` are zero;
    weights are ``importance * sqrt(sigma2 + x * x)`` or, without, ``floor * sigma2 + x * x``, where ``sigma2`` is
    ``sigma_factor`` times the mean square of the super-block.  ``start(x, w, wx, largest, live, top, reach, scale)``
    sets the scale around which trials are made, ``fit(d, rows, at, w, values, chosen, signs, ls)`` gives the d to
    store, and ``pack`` stores what follows it in a super-block of ``nbytes`` bytes.
    """
    round_trials, snap, sums, refine = trial_codes(n), grid_snap(n), grid_sums(n), _refining(n, block, again)
    top = np.float32(2 * (3 if n == 8 else 8) - 1)  # noqa: PLR2004 - three levels or eight
    n_trials = 2 * trials + 1
    lanes = -(-n_trials // 16) * 16
    # lanes beyond the last trial repeat it and are not looked at
    steps = np.minimum(np.arange(lanes) - trials, trials).astype(np.float32)
    trial_tops = top + steps * np.float32(trial_step)
    n_blocks, n_groups, per_block = SUPER_BLOCK // block, SUPER_BLOCK // n, block // n
    smallest, floor32, sigma32 = np.float32(eps), np.float32(floor), np.float32(sigma_factor)

    @kernel
    def encode(rows, columns, packed, factor, values, index, offsets, neighbours):
        flat, out = flattened(rows), flattened(packed)
        n_super, n_cols = rows.size // SUPER_BLOCK, rows.shape[1]
        sigma2 = np.empty(n_super, np.float32)
        row_mean_squares(in_rows(rows, SUPER_BLOCK), sigma2)
        columns = usable_importance(columns, block)
        # vectors of the last groups reach beyond the super-block
        snapping, weights = np.zeros((2, SUPER_BLOCK + WIDTH), np.float32), np.empty((2, SUPER_BLOCK), np.float32)
        x, waux, w, wx = snapping[0, :SUPER_BLOCK], snapping[1, :SUPER_BLOCK], weights[0], weights[1]
        energy, signs = np.empty(n_groups, np.float32), np.empty(SUPER_BLOCK // 8, np.uint8)
        per = np.empty((4, n_blocks), np.float32)
        largest, reach, scale, best = per[0], per[1], per[2], per[3]
        live, ls = np.empty(n_blocks, np.bool_), np.empty(n_blocks, np.uint8)
        chosen, on_grid = np.empty(n_groups, np.int32), np.empty(n_groups, np.bool_)
        per_trial = np.empty((4, n_blocks, lanes), np.float32)
        inverse, step, s1, s2 = per_trial[0], per_trial[1], per_trial[2], per_trial[3]
        codes = np.empty((2, n_groups, lanes), np.int32)
        code, snapped = codes[0], codes[1]
        for block_at in range(n_super):
            at = block_at * SUPER_BLOCK
            _prepare(flat, at, columns, at % n_cols, sigma32 * sigma2[block_at], floor32, even, n, x, w, wx, waux,
                     energy, signs)  # fmt: skip
            block_maxima(x, largest)
            for b in range(n_blocks):
                live[b] = largest[b] >= smallest
            start(x, w, wx, largest, live, top, reach, scale)
            _set_trials(trial_tops, reach, inverse, step)
            round_trials(snapping, inverse, lanes, live, per_block, code)
            snap(snapping, energy, step, n_trials, live, per_block, code, snapped, index, offsets, neighbours)
            sums(w, wx, snapped, lanes, live, per_block, s1, s2)
            _accept(s1, s2, n_trials, live, per_block, code, snapped, scale, best, chosen, on_grid)
            refine(snapping, w, wx, energy, live, inverse, step, code, snapped, chosen, on_grid, s1, s2, scale, best,
                   index, offsets, neighbours)  # fmt: skip
            d = _finish(live, per_block, block // 8, even, index, scale, chosen, signs, ls)
            d = fit(d, flat, at, w, values, chosen, signs, ls)
            store_half(out, block_at * nbytes, d * factor)
            pack(out, block_at * nbytes, ls, chosen, signs)

    def encode_rows(rows: Rows, columns: Columns, packed: Packed, factor: np.float32) -> None:
        grid = load_grid(name, n_wanted)
        encode(rows, columns, packed, factor, grid_points(name), grid.index, grid.offsets, grid.neighbours)

    return encode_rows


def grid_codecs(
    name: str, *, factor: float, unit: float, n_tried: int, nbytes: int, put: PutGrid, **kind: Any
) -> dict[str, Codec]:  # fmt: skip
    """Build the codec of a grid type: ``grid_encoder`` of ``kind``, at the reference's ``factor``, and its decoder."""
    scaled, decode = grid_encoder(name, nbytes=nbytes, **kind), points_decoder(nbytes, put)
    encode, shape = at_factor(scaled, factor), {key: kind[key] for key in ("n", "block", "even", "pack")}
    feedback = grid_feedback(name, unit=unit, n_tried=n_tried, encode=encode, nbytes=nbytes, **shape)
    return {name: Codec(grid_decoder(name, decode), encode, feedback=feedback, scaled=scaled, version=3)}
