"""Error feedback for the trellis types: code vectors are chosen anew, block by block and in it group by group.

Spans of 256 columns do not know of each other, so what stands at one place in all spans of all rows is searched
together, which fills the lanes of the search.  A span of a row is called a strip here::

    for each block of a span
        reach       the errors of the blocks before get to it
        scale       the stored level that leaves the least error, of that found without feedback and those beside it
        for each group
            search  the nearest code vector
            miss    its errors get to the groups behind it in the block

Columns count by their importance, as in the error of the output, and not as in the search of the scales by the size of
the weights, too.  Of ffn_down of four layers, on other text, the error of IQ2_KT fell by 10.4 %, with the levels left
as they were by 5.9 %, with five levels tried by 11.0 %; that of IQ1_KT by 15.1, 8.1 and 16.4 %.

To each mean square comes ``PRIOR`` of its span's median, towards which those of many variables are shrunk where they
were measured on few samples (Opgen-Rhein and Strimmer 2007): a column that seldom fires may fire in another text.  The
search of the scales without feedback keeps an eye on large weights; where they stand in such a column, this one gave
them up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.row_scale import load_rows
from qxmix.quants.feedback.carry import carry
from qxmix.quants.feedback.spans import SPAN
from qxmix.quants.jit import kernel
from qxmix.quants.trellis.batch import Fitted
from qxmix.quants.trellis.queries import BLOCK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qxmix.quants.codec import Columns, Factors, Rows
    from qxmix.quants.trellis.sets import Floats, Indices, Sets

AROUND = np.array([0, -1, 1], np.intp)
"""What is added to the code of a block's scale to try those around it."""

PRIOR = np.float32(0.1)
"""Share of a span's median mean square that is added to each.

Without it IQ2_KT to IQ4_KT were 1.1 to 1.7 % worse than without feedback on one of three other texts, in the one tensor
where a column had 126 times the mean square that was measured, and its error had grown to 1.7 times.  With it IQ2_KT
and IQ3_KT are 4 % better there, and on the others, in layers 2, 10 and 11 and in that tensor, within 0.2 % or better by
up to 0.6 %; with twice as much 7 and 8 % and worse by up to 0.6 %.  Of the mean in place of the median it takes 5 to 10
points of what is gained where one column has all the energy of a span.
"""

_INF = np.float32(np.inf)
_0 = np.float32(0.0)


@kernel
def _lay(rows, x):
    """Lay rows side by side: ``x`` (n_spans, n_tiles, SPAN, LANES), zero in the lanes beyond the last row."""
    for span in range(x.shape[0]):
        for tile in range(x.shape[1]):
            n = min(LANES, rows.shape[0] - LANES * tile)
            load_rows(rows, LANES * tile, n, SPAN * span, x[span, tile])


@kernel
def _reach(x, error, factors, of, now):
    """The weights ``now`` (n_strips, BLOCK) of columns ``of ..`` of the spans, with the errors before them."""
    n_spans = x.shape[0]
    n_rows = len(now) // n_spans
    for span in range(n_spans):
        for tile in range(x.shape[1]):
            part = x[span, tile]
            carry(part, error[span, tile], factors[span], of, of + BLOCK)
            for k in range(min(LANES, n_rows - LANES * tile)):
                strip = now[(LANES * tile + k) * n_spans + span]
                for e in range(BLOCK):
                    strip[e] = part[of + e, k]


@kernel
def _least(x, w, steps, values, found, picked):
    """Which trial leaves each block the least error, the first of equals.

    ``x`` and ``w`` are (n_strips, BLOCK), ``steps`` (n_strips, n_trials), ``found`` (n_strips, groups of a block,
    n_trials).
    """
    n = values.shape[1]
    for s in range(len(picked)):
        least = _INF
        picked[s] = 0
        for t in range(steps.shape[1]):
            total = _0
            for g in range(found.shape[1]):
                vector = found[s, g, t]
                for e in range(n):
                    miss = x[s, g * n + e] - steps[s, t] * values[vector, e]
                    total += w[s, g * n + e] * (miss * miss)
            if total < least:
                least = total
                picked[s] = t


@kernel
def _miss(now, negative, steps, values, found, factors, of, at, error):
    """Subtract from ``error`` what the group at ``at`` of the block at ``of`` is decoded to; the rest of it gets that.

    ``found`` and ``steps`` are (n_strips,), ``negative`` (n_strips, n) bytes turn values round.
    """
    n, n_spans = negative.shape[1], factors.shape[0]
    for s in range(len(found)):
        row, span = s // n_spans, s % n_spans
        for e in range(n):
            value = steps[s] * values[found[s], e]
            value = -value if negative[s, e] else value
            lost = error[span, row // LANES, of + at + e, row % LANES] - value
            error[span, row // LANES, of + at + e, row % LANES] = lost
            by = factors[span, of + at + e]
            for k in range(at + n, BLOCK):
                now[s, k] += lost * by[of + k]


def _weights(columns: Columns, n: int) -> Floats:
    """What an error of each column counts, (n_spans, n_blocks, BLOCK), for code vectors of ``n``."""
    vectors = columns.reshape(-1, n)
    # As ``usable_importance``, which compiled code alone can call without numba.
    some = (vectors > 0).any(axis=1, keepdims=True)
    spans = np.where(some, vectors, np.float32(1e-9)).reshape(-1, SPAN)
    middle = np.sort(spans, axis=1)[:, SPAN // 2]
    found: Floats = (spans + PRIOR * middle[:, None]).reshape(len(spans), -1, BLOCK)
    return found


@dataclass(frozen=True, slots=True)
class _Blocks:
    """The blocks at one place of all strips."""

    now: Floats
    """(n_strips, BLOCK) weights as they stand."""
    w: Floats
    """The same shape: what an error weighs."""
    of: int
    """Their first column in the span."""
    which: Indices
    """(n_strips,) the codebook of each."""
    sets: Sets

    def nearest(self, columns: slice, steps: Floats) -> Indices:
        """Indices (n_strips, n_groups, n_trials) for some columns and ``steps`` (n_strips, n_trials)."""
        x, w = np.ascontiguousarray(self.now[:, columns]), np.ascontiguousarray(self.w[:, columns])
        return self.sets.nearest(self.which, np.abs(x) if self.sets.magnitudes else x, w, steps)

    def rescale(self, steps: Floats) -> tuple[NDArray[np.intp], Floats, Indices]:
        """Which of the ``steps`` (n_strips, n_trials) leaves the least error, that step, and the first group for it."""
        found, picked = self.nearest(slice(None), steps), np.empty(len(steps), np.intp)
        x = np.abs(self.now) if self.sets.magnitudes else self.now
        _least(x, self.w, steps, self.sets.values, found, picked)
        every = np.arange(len(steps))
        return picked, steps[every, picked], found[every, 0, picked]

    def walk(self, steps: Floats, first: Indices, factors: Factors, error: Floats) -> tuple[Indices, NDArray[np.bool_]]:
        """Code vectors (n_strips, n_groups) and signs (n_strips, BLOCK); ``first`` are those of the first group."""
        values = self.sets.values
        n, found, signs = values.shape[1], [first], []
        for at in range(0, BLOCK, n):
            part = slice(at, at + n)
            if at:
                found.append(self.nearest(part, steps[:, None])[:, 0, 0])
            minus = (self.now[:, part] < _0) if self.sets.magnitudes else np.zeros((len(steps), n), np.bool_)
            _miss(self.now, minus.view(np.uint8), steps, values, found[-1], factors, self.of, at, error)
            signs.append(minus)
        return np.stack(found, axis=1), np.concatenate(signs, axis=1)


def choose(rows: Rows, columns: Columns, factors: Factors, levels: Floats, fitted: Fitted, sets: Sets) -> Fitted:
    """What is ``fitted`` to ``rows`` with other scales of blocks, code vectors, of the same set as before, and signs.

    ``levels`` are what the codes of the scales stand for.
    """
    n, (n_rows, n_spans, _) = sets.values.shape[1], fitted.codes.shape
    n_strips, per_block = n_rows * n_spans, BLOCK // n
    x = np.empty((n_spans, -(-n_rows // LANES), SPAN, LANES), np.float32)
    _lay(rows, x)
    error, now = x.copy(), np.empty((n_strips, BLOCK), np.float32)
    weights = _weights(columns, n)
    d = np.repeat(fitted.d, n_spans)[:, None]
    before, codes = fitted.found.reshape(n_strips, -1), fitted.codes.reshape(n_strips, -1).copy()
    found, negative = np.empty_like(before), np.empty((n_strips, SPAN), np.bool_)
    for block in range(SPAN // BLOCK):
        of = block * BLOCK
        _reach(x, error, factors, of, now)
        w, which = np.tile(weights[:, block], (n_rows, 1)), sets.which(before[:, block * per_block])
        blocks = _Blocks(now, w, of, which, sets)
        tried = np.clip(codes[:, block, None] + AROUND, 0, len(levels) - 1)
        picked, steps, first = blocks.rescale(d * levels[tried])
        codes[:, block] = tried[np.arange(n_strips), picked]
        parts = slice(block * per_block, (block + 1) * per_block), slice(of, of + BLOCK)
        found[:, parts[0]], negative[:, parts[1]] = blocks.walk(steps, first, factors, error)
    shape = n_rows, n_spans, -1
    return Fitted(fitted.d, codes.reshape(shape), found.reshape(shape), negative.reshape(shape))
