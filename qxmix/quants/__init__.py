"""The registry of quantization types and the way to their codecs.

``get`` and ``by_id`` only look up facts; ``codec_of`` imports the kernels of one type, and with them numba.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from qxmix.quants.quant_type import ENGINES, Engine, QuantType
from qxmix.quants.table import QUANT_TYPES

if TYPE_CHECKING:
    from qxmix.quants.codec import Codec

__all__ = ["ENGINES", "QUANT_TYPES", "Engine", "QuantType", "by_id", "codec_of", "find", "get"]

_ALIASES = {"Q1_0_G128": "Q1_0"}
_BY_NAME = {t.name: t for t in QUANT_TYPES}
_BY_ID = {t.id: t for t in QUANT_TYPES}


def find(name: str) -> QuantType | None:
    """The type called ``name`` in any case, or None."""
    upper = name.upper()
    return _BY_NAME.get(_ALIASES.get(upper, upper))


def get(name: str) -> QuantType:
    """The type called ``name`` in any case.

    Raises:
        KeyError: there is none; whoever reads names from a user looks with :func:`find` and suggests one.

    """
    found = find(name)
    if found is None:
        raise KeyError(name)
    return found


def by_id(type_id: int) -> QuantType | None:
    """The type with this id in a GGUF file, or None for one that neither engine writes."""
    return _BY_ID.get(type_id)


def codec_of(name: str) -> Codec:
    """Encoder and decoder of a type; imports its kernels.

    Raises:
        KeyError: no such type, or qxmix can size and copy it but neither read nor write its weights.

    """
    quant_type = get(name)
    if not quant_type.codec:
        raise KeyError(name)
    return _codec(quant_type)


@cache
def _codec(quant_type: QuantType) -> Codec:
    found: Codec = import_module(f"qxmix.quants.{quant_type.codec}").CODECS[quant_type.name]
    if found.feedback is None:
        return found
    from qxmix.quants.feedback.spans import SPAN  # noqa: PLC0415 - not for plans

    if quant_type.block_size != SPAN:
        return found
    from qxmix.quants.feedback.guard import guarded  # noqa: PLC0415 - kernels

    return guarded(found, None if quant_type.row_meta_nbytes else quant_type.block_nbytes)
