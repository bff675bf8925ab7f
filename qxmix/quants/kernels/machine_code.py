"""Compiled kernels as object code in files of their own, loaded and called without numba.

Loading numba and what it knows of types takes 1 s before the first weight is encoded, and none of it is needed to call
a function whose code is there.  So each kernel's object code is kept as LLVM made it, with an entry that Python calls
(``entry``), and both are linked when they are first called (``linker``; by LLVM what that cannot).

It is safe because everything it rests on is looked at, and numba is used where it does not hold:

* the folder's name has the versions of numba and llvmlite, the processor and the sources (``stamp``), the file's
  name the version of its layout, what the kernel was made of and the kinds of its arguments; a digest in front of
  the file covers the rest and both names, so that no file passes for another;
* arguments are C-contiguous aligned arrays, whole numbers and floats, and nothing is returned;
* when it is kept, the parameters that numba compiled are compared with those that will be passed, and whatever the
  code refers to must be one of three functions of numba's runtime (``runtime``) or of a few of the C library;
* an array's object is looked at where the entry reads it;
* no setting of numba that changes code is on (bounds, options, debugging).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from qxmix import system
from qxmix.quants.kernels import entry
from qxmix.quants.kernels.linker import link
from qxmix.quants.kernels.object_file import needs
from qxmix.quants.kernels.runtime import PROVIDED
from qxmix.quants.kernels.stamp import checks_bounds, identity, kernel_dir, within_package

if TYPE_CHECKING:
    from collections.abc import Callable

    from qxmix.quants.compiling.compiler import Compiled

_MAGIC = b"qxmix kernel 3\n"
_LIBRARY = frozenset({"memcpy", "memmove", "memset", "fma", "fmaf", "floorf", "log2"})
"""Functions of the C library, which every Python process has, that kernels may call."""
_MEMORY = frozenset({"malloc", "free"})
"""Those that ``runtime`` calls."""
_HARMLESS = frozenset({"NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS", "NUMBA_DISABLE_JIT", "NUMBA_THREADING_LAYER"})
"""Settings of numba that change no kernel's code."""
_SETTINGS = ".numba_config.yaml"
_INT64 = 1 << 63
_IN_ORDER, _WRITEABLE = 0x0101, 0x0400
"""numpy's flags ``C_CONTIGUOUS`` and ``ALIGNED``, and ``WRITEABLE``."""
_COUNT = count()
"""Libraries of one linker must have names of their own."""


class Kept(NamedTuple):
    """A file's contents, each an object file."""

    entry: bytes
    code: bytes


def kinds(arguments: tuple[object, ...]) -> tuple[str, ...] | None:
    """What a kernel is compiled for, ``f4 2 w`` or ``int`` per argument; None where one may need numba."""
    found = tuple([
        _array_kind(value.dtype, value.ndim, value.flags.num) if type(value) is np.ndarray else _scalar_kind(value)
        for value in arguments
    ])  # fmt: skip
    return None if "" in found else found


def _scalar_kind(value: object) -> str:
    if type(value) is int or type(value) is np.int64:
        return "int" if -_INT64 <= value < _INT64 else ""
    if type(value) is float or type(value) is np.float64:
        return "float"
    return "float32" if type(value) is np.float32 else ""


@cache
def _array_kind(dtype: np.dtype[Any], n_dims: int, flags: int) -> str:
    order, name = dtype.str[0], dtype.str[1:]
    if order == ">" or name not in entry.ARRAYS or not n_dims or flags & _IN_ORDER != _IN_ORDER:
        return ""
    return f"{name} {n_dims} {'w' if flags & _WRITEABLE else 'r'}"


def path_of(function: Callable[..., object], kinds: tuple[str, ...]) -> Path | None:
    """The file of a kernel for such arguments; None where only numba knows what code it would run."""
    return kernel_dir(within_package(function)) / file_name(function, kinds) if usable() else None


def usable() -> bool:
    """Whether files may be used: on Linux, no setting of numba changes code, and arrays lie as the entry reads them."""
    set_ = (name for name, value in os.environ.items() if name.startswith("NUMBA_") and value)
    unset = not checks_bounds() and _HARMLESS.issuperset(set_) and not Path(_SETTINGS).exists()
    # Elsewhere object files are others, of which none could be kept: each process would compile all kernels in vain.
    return system.LINUX and unset and entry.arrays_are_as_drawn()


def file_name(function: Callable[..., object], kinds: tuple[str, ...]) -> str:
    """The name of a kernel's file for such arguments: the same for every processor and version of numba."""
    made_of = _MAGIC, entry.OBJECT, identity(function), kinds
    return f"{hashlib.sha256(repr(made_of).encode()).hexdigest()[:24]}.code"


def keep(path: Path, kinds: tuple[str, ...], compiled: Compiled) -> Callable[..., None] | None:
    """Write a file, if it can be written; a function that runs the kernel, None where that needs numba."""
    kept = write(path, kinds, compiled)
    return None if kept is None else _function(path, kinds, kept)


def write(path: Path, kinds: tuple[str, ...], compiled: Compiled, triple: str = "") -> Kept | None:
    """Write a file, if it can be written; what it keeps, None where the kernel needs numba.

    ``triple`` is LLVM's name of the machine that the kernel was compiled for where it is not this one.
    """
    wanted = needs(compiled.code)
    if wanted is None or not wanted.live <= PROVIDED | _LIBRARY or compiled.parameters != entry.parameters(kinds):
        return None
    linked = entry.object_code(compiled.symbol, kinds, wanted.dead - PROVIDED - _LIBRARY, triple)
    body = len(linked).to_bytes(8, "little") + linked + compiled.code
    new = path.with_suffix(f".{os.getpid()}.new")
    with contextlib.suppress(OSError):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            new.write_bytes(_MAGIC + _digest(path, body) + body)
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
    return Kept(linked, compiled.code)


def load(path: Path, kinds: tuple[str, ...]) -> Callable[..., None] | None:
    """A function that runs a kept kernel on arguments of these kinds; None where no whole file is there."""
    kept = read(path)
    return None if kept is None else _function(path, kinds, kept)


def _function(path: Path, kinds: tuple[str, ...], kept: Kept) -> Callable[..., None]:
    address, memory = link((kept.code, kept.entry), entry.NAME, _LIBRARY | _MEMORY) or _linked_by_llvm(path, kept)
    function = entry.function_at(address, kinds)

    def call(*arguments: Any) -> None:
        if function(*arguments):
            # Kernels raise nothing, and numba's code only where it gets no memory.
            raise MemoryError("a kernel found no memory for its scratch")

    call.keeps = memory  # type: ignore[attr-defined]  # the code lives as long as the function
    return call


def read(path: Path) -> Kept | None:
    """What a file keeps; None where it is not there, not whole, or not what its name says."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    start = len(_MAGIC)
    digest, body = data[start : start + 32], data[start + 32 :]
    if not data.startswith(_MAGIC) or _digest(path, body) != digest:
        return None
    n_entry = int.from_bytes(body[:8], "little")
    return Kept(body[8 : 8 + n_entry], body[8 + n_entry :])


def _digest(path: Path, body: bytes) -> bytes:
    return hashlib.sha256(f"{path.parent.name}/{path.stem}\n".encode() + body).digest()


def _linked_by_llvm(path: Path, kept: Kept) -> tuple[int, object]:
    """Address of the entry, and what holds the code."""
    from llvmlite import binding  # noqa: PLC0415 - 50 ms, for processors and systems that ``linker`` does not know

    builder = binding.JITLibraryBuilder().add_object_img(kept.code).add_object_img(kept.entry)
    # A library for each: what two files call alike is not mixed up, nor with numba's.
    library = builder.add_current_process().export_symbol(entry.NAME).link(_linker(), f"{path}#{next(_COUNT)}")
    return library[entry.NAME], library


@cache
def _linker() -> Any:
    """LLVM's, which takes 1 to 6 ms for a kernel; its older one, which compiles a module for each, took 22."""
    from llvmlite import binding  # noqa: PLC0415 - as above

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding.create_lljit_compiler()
