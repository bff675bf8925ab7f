"""How fast each type is encoded.  Nothing but a bar's evenness and an estimate of time hangs on it."""

from __future__ import annotations

from qxmix.quants.measured import MEASURED
from qxmix.quants.quant_type import QuantType

_FED = 0.6
"""Times the speed with error feedback, of a type of which it was not measured."""
_ONLY_ROUNDED = 1000.0
"""Millions of weights per second of types that are not in the table, which only round."""


def speed(quant_type: QuantType, *, weighted: bool = True, feedback: bool = False, exhaustive: bool = False) -> float:
    """Weights that one thread encodes in a second, on the processor that the types were measured on.

    An interleaved type takes as long as its base.

    Args:
        quant_type: The type.
        weighted: Whether there is an importance, or a search that counts all columns alike.
        feedback: Whether with error feedback, in tensors of as many rows as columns.
        exhaustive: Whether scales are searched exhaustively, where the type's are searched.

    """
    unknown = (_ONLY_ROUNDED, None, None, None)
    with_importance, without, searched, fed = MEASURED.get(quant_type.base or quant_type.name, unknown)
    found = with_importance if weighted or without is None else without
    if feedback:
        found = fed or _FED * with_importance
    if exhaustive and searched is not None:
        found *= searched / (with_importance if feedback else found)
    return 1e6 * found
