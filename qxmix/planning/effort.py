"""How much work a tensor is: for shares of a whole, so that a bar moves as evenly as the work does.

A tensor that becomes IQ4_KT takes hundreds of times as long as one that becomes Q8_0, so bytes say little of how far
an apply is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qxmix.quants.speeds import speed

if TYPE_CHECKING:
    from qxmix.planning.model import PlannedTensor

_BYTES_PER_SECOND = 1e9
"""Read, hashed and written by one thread; SHA-256 takes most of it."""
_EXHAUSTIVE = 5.0
"""Times that the exhaustive search takes, of four to nine (README's table of it)."""


def seconds(tensor: PlannedTensor) -> float:
    """About how long one thread is at it, on the machine that the types were measured on (:mod:`qxmix.quants.speeds`).

    Error feedback is not counted.
    """
    carried = (tensor.source.nbytes + tensor.nbytes) / _BYTES_PER_SECOND
    if tensor.action == "copy" or tensor.quant_type is None:
        return carried
    slower = _EXHAUSTIVE if tensor.search == "exhaustive" and tensor.quant_type.searches else 1.0
    return carried + slower * tensor.source.n_weights / speed(tensor.quant_type)


def per_byte(tensor: PlannedTensor) -> float:
    """The same for each byte of the model, of which a leaf of the tensor has some."""
    return seconds(tensor) / max(1, tensor.source.nbytes)
