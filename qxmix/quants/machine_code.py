"""Compiled kernels as object code in files of their own, loaded and called without numba.

Loading numba and what it knows of types takes 1 s before the first weight is encoded, and none of it is needed to call
a function whose code is there.  So beside numba's cache each kernel's object code is kept as it is, unchanged, with
the name of the function and of what the file needs.  The function is called by numba's convention::

    int32 kernel(void **result, void **error, argument...)
    array of n dimensions: null, null (no owner), elements, bytes of one, data, n of shape, n of strides
    scalar: itself

It is safe because everything it rests on is looked at, and numba is used where it does not hold:

* the folder's name has the versions of numba and llvmlite, the processor and the sources (``stamp``), the file's
  name what the kernel was made of and the kinds of its arguments; a digest in front of the file covers the rest;
* arguments are C-contiguous aligned arrays, whole numbers and floats, and nothing is returned;
* when it is kept, the parameters that numba compiled are compared with those that will be passed, and whatever the
  code refers to must be one of three functions of numba's runtime (``runtime``) or of a few of the C library;
* no setting of numba that changes code is on (bounds, options, debugging).
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from llvmlite import binding

from qxmix.quants.object_file import needs
from qxmix.quants.runtime import PROVIDED, TEXT
from qxmix.quants.stamp import checks_bounds, identity, kernel_dir, within_package

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxmix.quants.compiler import Compiled

_MAGIC = b"qxmix kernel 1\n"
_LIBRARY = frozenset({"memcpy", "memmove", "memset", "fma", "fmaf"})
"""Functions of the C library, which every Python process has, that kernels may call."""
_HARMLESS = frozenset({"NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS", "NUMBA_DISABLE_JIT", "NUMBA_THREADING_LAYER"})
"""Settings of numba that change no kernel's code."""
_SETTINGS = ".numba_config.yaml"
_ARRAYS = {"f2": "i16", "f4": "float", "f8": "double"} | {f"{s}{n}": f"i{8 * n}" for s in "iu" for n in (1, 2, 4, 8)}
"""LLVM's type of the elements by numpy's name of it."""
_SCALARS: dict[str, tuple[str, Any]] = {
    "int": ("i64", ctypes.c_int64), "float": ("double", ctypes.c_double), "float32": ("float", ctypes.c_float),
}  # fmt: skip
_INT64 = 1 << 63


class _Kept(NamedTuple):
    """A file's contents."""

    symbol: str
    dead: tuple[str, ...]
    """What the code refers to and never reaches."""
    code: bytes


def kinds(arguments: tuple[object, ...]) -> tuple[str, ...] | None:
    """What a kernel is compiled for, ``f4 2 w`` or ``int`` per argument; None where one may need numba."""
    found = tuple(map(_kind, arguments))
    return None if "" in found else found


def _kind(value: object) -> str:
    if type(value) is np.ndarray:
        flags = value.flags
        if flags.carray:
            return _array_kind(value.dtype, value.ndim, "w")
        return _array_kind(value.dtype, value.ndim, "r") if flags.c_contiguous and flags.aligned else ""
    if type(value) is int or type(value) is np.int64:
        return "int" if -_INT64 <= value < _INT64 else ""
    if type(value) is float or type(value) is np.float64:
        return "float"
    return "float32" if type(value) is np.float32 else ""


@cache
def _array_kind(dtype: np.dtype[Any], n_dims: int, access: str) -> str:
    order, name = dtype.str[0], dtype.str[1:]
    return f"{name} {n_dims} {access}" if order != ">" and name in _ARRAYS and n_dims else ""


def path_of(function: Callable[..., object], kinds: tuple[str, ...]) -> Path | None:
    """The file of a kernel for such arguments; None where only numba knows what code it would run."""
    set_ = (name for name, value in os.environ.items() if name.startswith("NUMBA_") and value)
    if checks_bounds() or not _HARMLESS.issuperset(set_) or Path(_SETTINGS).exists():
        return None
    digest = hashlib.sha256(repr((identity(function), kinds)).encode()).hexdigest()
    return kernel_dir(within_package(function)) / f"{digest[:24]}.code"


def keep(path: Path, kinds: tuple[str, ...], compiled: Compiled) -> None:
    """Write a file, unless the code needs more than can be had without numba, or nothing can be written."""
    wanted = needs(compiled.code)
    if wanted is None or not wanted.live <= PROVIDED | _LIBRARY or compiled.parameters != _parameters(kinds):
        return
    dead = wanted.dead - PROVIDED - _LIBRARY
    body = "\n".join([compiled.symbol, " ".join(sorted(dead)), ""]).encode() + compiled.code
    new = path.with_suffix(f".{os.getpid()}.new")
    with contextlib.suppress(OSError):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            new.write_bytes(_MAGIC + hashlib.sha256(body).digest() + body)
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)


def load(path: Path, kinds: tuple[str, ...]) -> Callable[..., None] | None:
    """A function that runs a kept kernel on arguments of these kinds; None where no whole file is there."""
    kept = _read(path)
    if kept is None:
        return None
    engine = _engine(kept)
    address = engine.get_function_address(kept.symbol)
    function = ctypes.CFUNCTYPE(ctypes.c_int32, *_types(kinds))(address)
    packs = [_pack_array if kind.split()[0] in _ARRAYS else _pack_scalar for kind in kinds]
    keeps = engine, kept.code

    def call(*arguments: Any) -> None:
        result, error = ctypes.c_void_p(), ctypes.c_void_p()
        values: list[Any] = [ctypes.byref(result), ctypes.byref(error)]
        for pack, argument in zip(packs, arguments, strict=True):
            values += pack(argument)
        if function(*values):
            # Kernels raise nothing, and numba's code only where it gets no memory.
            raise MemoryError("a kernel found no memory for its scratch")

    call.keeps = keeps  # type: ignore[attr-defined]  # the code lives as long as the function
    return call


def _read(path: Path) -> _Kept | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    start = len(_MAGIC)
    digest, body = data[start : start + 32], data[start + 32 :]
    if not data.startswith(_MAGIC) or hashlib.sha256(body).digest() != digest:
        return None
    symbol, dead, code = body.split(b"\n", 2)
    return _Kept(symbol.decode(), tuple(dead.decode().split()), code)


def _engine(kept: _Kept) -> binding.ExecutionEngine:
    """The code in memory, in an engine of its own: what two files call alike is not mixed up, nor with numba's."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    never = "".join(f'@"{name}" = alias void (), ptr @never\n' for name in kept.dead)
    module = binding.parse_assembly(TEXT + never)
    target = binding.Target.from_default_triple().create_target_machine(jit=True)
    engine = binding.create_mcjit_compiler(module, target)
    engine.add_object_file(binding.ObjectFileRef.from_data(kept.code))
    engine.finalize_object()
    return engine


def _parameters(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """LLVM's types of the parameters that are passed for arguments of these kinds, as numba names them."""
    found = ["i8**", "{i8*, i32, i8*, i8*, i32}**"]
    for kind in kinds:
        name, *rest = kind.split()
        if name in _ARRAYS:
            found += ["i8*", "i8*", "i64", "i64", f"{_ARRAYS[name]}*", *["i64"] * (2 * int(rest[0]))]
        else:
            found.append(_SCALARS[name][0])
    return tuple(found)


def _types(kinds: tuple[str, ...]) -> list[Any]:
    """The same as ctypes."""
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    found: list[Any] = [pointer, pointer]
    for kind in kinds:
        name, *rest = kind.split()
        if name in _ARRAYS:
            found += [pointer, pointer, number, number, pointer, *[number] * (2 * int(rest[0]))]
        else:
            found.append(_SCALARS[name][1])
    return found


def _pack_array(array: Any) -> tuple[Any, ...]:
    at = array.__array_interface__["data"][0]  # a third of the time of array.ctypes.data
    return (None, None, array.size, array.itemsize, at, *array.shape, *array.strides)


def _pack_scalar(value: Any) -> tuple[Any, ...]:
    return (value,)
