"""How much work a tensor is: for shares of a whole, so that a bar moves as evenly as the work does.

A tensor that becomes IQ4_KT takes hundreds of times as long as one that becomes Q8_0, so bytes say little of how far
an apply is.
"""

from __future__ import annotations

from qxmix.planning.model import Plan, PlannedTensor
from qxmix.quants.feedback.spans import block_sizes
from qxmix.quants.speeds import speed

_BYTES_PER_SECOND = 1e9
"""Read, hashed and written by one thread; SHA-256 takes most of it."""
_LATTICE = 130e-9
"""Seconds that ``search: exhaustive`` adds to a weight of Q8_0, Q4_1 and Q5_1 that sits on a lattice: 100 to 160 ns, in
Q8_0 more for fewer bits than 8, up to 350.  It is 8 to 25 ns for weights on none, for which nobody need ask for it."""
_EXHAUSTIVE = 5.0
"""Times that the exhaustive search takes, of four to nine (README's table of it)."""

_FACTOR = 0.7e-3
"""Seconds to factorize the moments of a span of 256 columns, once for each tensor and expert."""
_CHECK = 1.8e-3
"""Seconds to read and check a block of a moments file, by one thread and before the first task: of SmolLM2's 720 a
quarter of all that an apply to Q4_0 with feedback takes."""
_START = 0.5
"""Seconds that an apply takes to start, whose kernels are compiled."""


def seconds(tensor: PlannedTensor) -> float:
    """About how long one thread is at it, where the types were measured (:mod:`qxmix.quants.speeds`)."""
    carried = (tensor.source.nbytes + tensor.nbytes) / _BYTES_PER_SECOND
    if tensor.action == "copy" or tensor.quant_type is None:
        return carried
    each = 1 / speed(tensor.quant_type, feedback=tensor.feedback is not None)
    if tensor.search == "exhaustive" and tensor.heeds_search:
        each = _EXHAUSTIVE * each if tensor.quant_type.searches else each + _LATTICE
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
