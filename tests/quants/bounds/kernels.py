"""Which kernels a codec may come to, told from what its functions refer to; nothing is compiled."""

from __future__ import annotations

import dataclasses
import re
from types import CodeType, FunctionType
from typing import TYPE_CHECKING

from qxmix.quants import QUANT_TYPES, codec_of
from qxmix.quants.jit import Function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGE = "qxmix.quants."
TYPES = tuple(t.name for t in QUANT_TYPES if t.codec)


def kernels_of(name: str) -> frozenset[str]:
    """``module.function`` of the compiled functions behind a type; those of one factory have one name."""
    seen: dict[int, object] = {}
    left: list[object] = [codec_of(name)]
    while left:
        value = left.pop()
        if id(value) not in seen:
            seen[id(value)] = value
            left += _parts(value)
    return frozenset(_name(v.py_func) for v in seen.values() if isinstance(v, Function))


def _parts(value: object) -> Iterator[object]:
    """What a value is made of or refers to, within the package."""
    if isinstance(value, Function):
        yield value.py_func
    elif isinstance(value, FunctionType) and value.__module__.startswith(PACKAGE):
        yield from (cell.cell_contents for cell in value.__closure__ or ())
        yield getattr(value, "__wrapped__", None)
        yield from (value.__globals__[n] for n in _names(value.__code__) if n in value.__globals__)
    elif isinstance(value, tuple | list):
        yield from value
    elif isinstance(value, dict):
        yield from value.values()
    elif dataclasses.is_dataclass(value) and type(value).__module__.startswith(PACKAGE):
        yield from (getattr(value, f.name) for f in dataclasses.fields(value))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)


def _name(function: Callable[..., object]) -> str:
    """The name without what tells the kernels of a factory apart."""
    plain = re.sub(r"_[0-9a-f]{16}\Z", "", function.__qualname__).replace(".<locals>", "")
    return f"{function.__module__.removeprefix(PACKAGE)}.{plain}"


def factories_of(name: str) -> frozenset[str]:
    """``module.function`` of what makes kernels for more than one type's own file; those behind a type."""
    made = (k.split(".") for k in kernels_of(name))
    return frozenset(".".join(k[:3]) for k in made if len(k) > 3 and k[1].upper() not in TYPES)
