"""What Python calls of a kernel: a function that takes the arrays apart in machine code.

numba's convention passes an array of two dimensions as nine arguments, which took ``ctypes`` and Python 27 us for a
kernel of three arrays; BF16 has 262,144 weights rounded in 85.  The entry gets Python's objects as they are, 1 us a
call, and reads what numpy's binary interface lays down, which every module compiled against it reads so::

    0                 OBJECT     + 8             + 16         + 24
    +-----------------+----------+------+--------+------------+------------+-- - -
    | head of objects | data     | nd   |        | dimensions | strides    |
    +-----------------+----------+------+--------+-----|------+-----|------+-- - -
                                               n of int64 <-+   n of int64 <-+

The kernel itself has numba's convention::

    int32 kernel(void **result, void **error, argument...)
    array of n dimensions: null, null (no owner), elements, bytes of one, data, n of shape, n of strides
    scalar: itself
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from qxmix.quants.kernels.runtime import TEXT

NAME = "qxmix_entry"
OBJECT = object.__basicsize__
"""Bytes of the head of each object, 32 instead of 16 where Python has no lock."""
ARRAYS = {"f2": "i16", "f4": "float", "f8": "double"} | {f"{s}{n}": f"i{8 * n}" for s in "iu" for n in (1, 2, 4, 8)}
"""LLVM's type of the elements by numpy's name of it."""
_SCALARS: dict[str, tuple[str, Any]] = {
    "int": ("i64", ctypes.c_int64), "float": ("double", ctypes.c_double), "float32": ("float", ctypes.c_float),
}  # fmt: skip


def parameters(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """LLVM's types of the parameters that a kernel is passed for arguments of these kinds, as numba names them."""
    found = ["i8**", "{i8*, i32, i8*, i8*, i32}**"]
    for kind in kinds:
        name, n_dims = _parts(kind)
        if n_dims:
            found += ["i8*", "i8*", "i64", "i64", f"{ARRAYS[name]}*", *["i64"] * (2 * n_dims)]
        else:
            found.append(_SCALARS[name][0])
    return tuple(found)


def object_code(symbol: str, kinds: tuple[str, ...], dead: frozenset[str], triple: str = "") -> bytes:
    """An object file of the entry to a kernel, of the runtime, and of what the kernel names and never reaches.

    It is for this process's machine, or for the one that LLVM knows as ``triple`` and has been initialized for.
    """
    from llvmlite import binding  # noqa: PLC0415 - where a kernel is kept, not where it is loaded

    never = "".join(f'@"{name}" = alias void (), ptr @never\n' for name in sorted(dead))
    module = binding.parse_assembly(TEXT + never + _text(symbol, kinds))
    machine = binding.Target.from_triple(triple) if triple else binding.Target.from_default_triple()
    return bytes(machine.create_target_machine(jit=True).emit_object(module))


def function_at(address: int, kinds: tuple[str, ...]) -> Callable[..., int]:
    """The entry as a function of Python's objects; without Python's lock while it runs."""
    types = [ctypes.py_object if n_dims else _SCALARS[name][1] for name, n_dims in map(_parts, kinds)]
    return ctypes.CFUNCTYPE(ctypes.c_int32, *types)(address)


@cache
def arrays_are_as_drawn() -> bool:
    """Whether an array of this process lies in memory as the entry reads it."""
    array = np.zeros((3, 5), np.int16)
    data, _, dimensions, strides = (ctypes.c_size_t.from_address(id(array) + OBJECT + 8 * i).value for i in range(4))
    pair = ctypes.c_int64 * 2
    return data == array.ctypes.data and (*pair.from_address(dimensions), *pair.from_address(strides)) == (3, 5, 10, 2)


def _parts(kind: str) -> tuple[str, int]:
    """``f4 2 w``: type and dimensions; of a scalar no dimension."""
    name, *rest = kind.split()
    return name, int(rest[0]) if rest else 0


def _text(symbol: str, kinds: tuple[str, ...]) -> str:
    """LLVM's text of the entry."""
    body, passed, taken = [], ["ptr %result", "ptr %error"], []
    for i, kind in enumerate(kinds):
        name, n_dims = _parts(kind)
        taken.append(f"{'ptr' if n_dims else _SCALARS[name][0]} %a{i}")
        if n_dims:
            lines, values = _unpacked(f"%a{i}", np.dtype(name).itemsize, n_dims)
            body += lines
            passed += values
        else:
            passed.append(taken[-1])
    return "\n".join(
        [
            f'declare i32 @"{symbol}"({", ".join(p.split()[0] for p in passed)})',
            f"define i32 @{NAME}({', '.join(taken)}) {{",
            "%result = alloca ptr",
            "%error = alloca ptr",
            *body,
            f'%status = call i32 @"{symbol}"({", ".join(passed)})',
            "ret i32 %status",
            "}",
        ]
    )


def _unpacked(array: str, itemsize: int, n_dims: int) -> tuple[list[str], list[str]]:
    """Lines that read an array, and what they leave for the kernel."""
    lines = []
    for name, at in (("data", OBJECT), ("dims", OBJECT + 16), ("steps", OBJECT + 24)):
        lines += [f"{array}.{name}.at = getelementptr i8, ptr {array}, i64 {at}"]
        lines += [f"{array}.{name} = load ptr, ptr {array}.{name}.at"]
    size = "1"
    for name in ("dims", "steps"):
        for i in range(n_dims):
            lines += [f"{array}.{name}{i}.at = getelementptr i64, ptr {array}.{name}, i64 {i}"]
            lines += [f"{array}.{name}{i} = load i64, ptr {array}.{name}{i}.at"]
    for i in range(n_dims):
        lines += [f"{array}.size{i} = mul i64 {size}, {array}.dims{i}"]
        size = f"{array}.size{i}"
    numbers = [f"i64 {array}.{name}{i}" for name in ("dims", "steps") for i in range(n_dims)]
    return lines, ["ptr null", "ptr null", f"i64 {size}", f"i64 {itemsize}", f"ptr {array}.data", *numbers]
