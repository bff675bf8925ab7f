"""How much work a tensor is: for shares of a whole, so that a bar moves as evenly as the work does.

A tensor that becomes IQ4_KT takes hundreds of times as long as one that becomes Q8_0, so bytes say little of how far
an apply is.
"""

from __future__ import annotations

from qxmix.planning.model import Plan, PlannedTensor
from qxmix.quants.feedback.spans import block_sizes
from qxmix.quants.speeds import speed

_BYTES_PER_SECOND = 0.5e9
"""Read, hashed and written by one thread, and an output read once more; SHA-256 takes most of it."""
_LATTICE = 130e-9
"""Seconds that ``search: exhaustive`` adds to a weight of Q8_0, Q4_1 and Q5_1 that sits on a lattice: 100 to 160 ns, in
Q8_0 more for fewer bits than 8, up to 350.  It is 8 to 25 ns for weights on none, for which nobody need ask for it."""

_FACTOR = 0.7e-3
"""Seconds to factorize the moments of a span of 256 columns, once for each tensor and expert."""
_CHECK = 0.9e-3
"""Seconds of processor time to read and check a block of a moments file, before the first task, where q, k and v, and
gate and up, have the same; half of it in threads, which is not counted."""
_START = 0.5
"""Seconds that an apply takes to start, whose kernels are compiled."""


def seconds(tensor: PlannedTensor) -> float:
    """About how long one thread is at it, where the types were measured (:mod:`qxmix.quants.speeds`)."""
    carried = (tensor.source.nbytes + tensor.nbytes) / _BYTES_PER_SECOND
    if tensor.action == "copy" or tensor.quant_type is None:
        return carried
    exhaustive = tensor.search == "exhaustive" and tensor.heeds_search
    weighted = not tensor.symmetric and (tensor.importance is not None or tensor.counts_alike)
    each = 1 / speed(tensor.quant_type, weighted=weighted, feedback=tensor.feedback is not None, exhaustive=exhaustive)
    if exhaustive and not tensor.quant_type.searches:
        each += _LATTICE
    if tensor.feedback is not None:
        carried += _FACTOR * len(block_sizes(tensor.source.n_cols)) * tensor.source.n_matrices
    return carried + each * tensor.source.n_weights


def seconds_before(plan: Plan) -> float:
    """About how long an apply takes until its first task, on one thread however many workers there are."""
    entries = () if plan.moments is None else plan.moments.entries.values()
    return _START + _CHECK * sum(len(block_sizes(e.n_cols)) * e.n_correlations for e in entries)


def per_byte(tensor: PlannedTensor) -> float:
    """The same for each byte of the model, of which a leaf of the tensor has some."""
    return seconds(tensor) / max(1, tensor.source.nbytes)
