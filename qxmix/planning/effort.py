"""How much work a tensor is: for shares of a whole, so that a bar moves as evenly as the work does.

A tensor that becomes IQ4_KT takes hundreds of times as long as one that becomes Q8_0, so bytes say little of how far
an apply is.
"""

from __future__ import annotations

from qxmix.planning.model import PlannedTensor
from qxmix.quants.feedback.spans import SPAN
from qxmix.quants.speeds import speed

_BYTES_PER_SECOND = 1e9
"""Read, hashed and written by one thread; SHA-256 takes most of it."""
_LATTICE = 130e-9
"""Seconds that ``search: exhaustive`` adds to a weight of Q8_0, Q4_1 and Q5_1 that sits on a lattice: 100 to 160 ns, in
Q8_0 more for fewer bits than 8, up to 350.  It is 8 to 25 ns for weights on none, for which nobody need ask for it."""
_EXHAUSTIVE = 5.0
"""Times that the exhaustive search takes, of four to nine (README's table of it)."""

_TAKEN_BACK = 14e-9
"""Seconds that taking back the error of one weight adds: 12.4 to 15.3 ns for the seven types with blocks of 32,
whatever their own speed (27 to 866 million weights a second), on 4,096 x 4,096."""
_FEEDBACK = 1.9
"""Times that a super-block takes, whose scales are searched on what is left of errors, of 1.7 to 2.0."""


def seconds(tensor: PlannedTensor) -> float:
    """About how long one thread is at it, where the types were measured (:mod:`qxmix.quants.speeds`)."""
    carried = (tensor.source.nbytes + tensor.nbytes) / _BYTES_PER_SECOND
    if tensor.action == "copy" or tensor.quant_type is None:
        return carried
    exhaustive, each = tensor.search == "exhaustive" and tensor.heeds_search, 1 / speed(tensor.quant_type)
    if exhaustive:
        each = _EXHAUSTIVE * each if tensor.quant_type.searches else each + _LATTICE
    if tensor.feedback is not None:
        each = max(each + _TAKEN_BACK, _FEEDBACK * each if tensor.quant_type.block_size == SPAN else 0.0)
    return carried + each * tensor.source.n_weights


def per_byte(tensor: PlannedTensor) -> float:
    """The same for each byte of the model, of which a leaf of the tensor has some."""
    return seconds(tensor) / max(1, tensor.source.nbytes)
