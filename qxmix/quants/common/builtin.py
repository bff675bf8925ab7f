"""What ``np.empty``, ``np.zeros``, ``min``, ``max`` and ``int`` are in kernels: instructions in place.

Numba has Python code for them, which it compiles for each combination of types that it meets and then inlines: for the
first use of Q4_K ten functions, with a wrapper for C each.  The instructions are those that it ends up with.  Where
the arguments are others than kernels have, it is asked all the same.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing import npydecl
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin
from numba.np import arrayobj

from qxmix.quants.compiling.target import NAME

Build = Callable[[Any, Any, Any, Any], Any]
"""``(context, builder, signature, values)``: numba's order of what builds a call."""


def _define(function: Any, result: Callable[..., Any], build: Build, *arguments: Any) -> None:
    """Give a function its meaning in kernels: ``result`` of its arguments' types is None where numba is to be asked."""
    name = f"{NAME} {function.__name__}"

    class Template(AbstractTemplate):  # type: ignore[misc]
        metadata: ClassVar = {"target": NAME}  # asked before what numba knows of the function, and only for kernels
        key = function

        def generic(self, args: tuple[Any, ...], kws: dict[str, Any]) -> Any:
            found = None if kws or len(args) != len(arguments) else result(*args)
            return None if found is None else signature(found, *args)

        def get_impl_key(self, _sig: Any) -> str:
            return name  # no other target has it

    infer_global(function)(Template)
    lower_builtin(name, *arguments)(build)


def _array(shape: Any, dtype: Any) -> Any:
    """The type of a new array."""
    n_dims, kind = npydecl.parse_shape(shape), npydecl.parse_dtype(dtype)
    known = n_dims is not None and isinstance(kind, types.Number | types.Boolean)
    return types.Array(kind, n_dims, "C") if known else None


def _allocated(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """An array of numba's that is not filled.  Kernels size it by arrays that they have, so that no size overflows."""
    kind, shape = sig.return_type, sig.args[0]
    scalar = isinstance(shape, types.Integer)
    numbers, of = ([args[0]], [shape]) if scalar else (cgutils.unpack_tuple(builder, args[0]), list(shape))
    sizes = [context.cast(builder, n, t, types.intp) for n, t in zip(numbers, of, strict=True)]
    each = ir.Constant(sizes[0].type, context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    strides = [each]
    for size in reversed(sizes[1:]):
        strides.insert(0, builder.mul(strides[0], size))
    nbytes = builder.mul(strides[0], sizes[0])
    owner = context.nrt.meminfo_alloc_aligned(builder, nbytes, context.get_preferred_array_alignment(kind.dtype))
    new = arrayobj.make_array(kind)(context, builder)
    data = builder.bitcast(context.nrt.meminfo_data(builder, owner), context.get_data_type(kind.dtype).as_pointer())
    arrayobj.populate_array(new, data=data, shape=sizes, strides=strides, itemsize=each, meminfo=owner)
    return new, nbytes


def _empty(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return _allocated(context, builder, sig, args)[0]._getvalue()  # noqa: SLF001 - numba's own name for it


def _zeros(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    new, nbytes = _allocated(context, builder, sig, args)
    cgutils.memset(builder, new.data, nbytes, 0)
    return new._getvalue()  # noqa: SLF001


def _common(a: Any, b: Any) -> Any:
    """The type of both."""
    return a if a == b and isinstance(a, types.Float | types.Integer) else None


def _extreme(sign: str) -> Build:
    """The second argument where it compares so with the first, else the first, as in Python."""

    def build(_context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind: Any = sig.return_type
        if isinstance(kind, types.Float):
            compare = builder.fcmp_ordered
        else:
            compare = builder.icmp_signed if kind.signed else builder.icmp_unsigned
        return builder.select(compare(sign, args[1], args[0]), args[1], args[0])

    return build


def _whole(value: Any) -> Any:
    """The type of a number without its fraction."""
    return types.intp if isinstance(value, types.Float) else None


def _cut(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return context.cast(builder, args[0], sig.args[0], sig.return_type)


_define(np.empty, _array, _empty, types.Any, types.Any)
_define(np.zeros, _array, _zeros, types.Any, types.Any)
_define(builtins.min, _common, _extreme("<"), types.Any, types.Any)
_define(builtins.max, _common, _extreme(">"), types.Any, types.Any)
_define(builtins.int, _whole, _cut, types.Any)
