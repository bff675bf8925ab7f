"""Where compiled kernels are kept, under names that say what they were made of.

numba itself looks only at the source file of the function it caches, so a change in ``search.py`` would leave a stale
``q4_0`` behind; here the stamp covers every module of ``qxmix.quants`` that the kernel's module imports, and those of
the functions that a factory made the kernel of.  Nothing here imports numba.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import os
import re
import sys
from functools import cache
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from threading import get_ident
from types import FunctionType
from typing import TYPE_CHECKING

import llvmlite
import numpy as np

from qxmix.errors import RunError
from qxmix.resources import cache_homes

if TYPE_CHECKING:
    from collections.abc import Callable

_PACKAGE = "qxmix.quants"
_FOLDER = Path(__file__).parents[1]
_IMPORT = re.compile(rb"^[ \t]*((?:from|import)\b(?:\([^)]*\)|\\\n|[^\n(;])*)", re.MULTILINE)
_PLAIN = re.compile(rb"from (\w[\w.]*) import ([\w, ]+)")


@cache
def cache_dir() -> Path:
    """Where compiled kernels are kept: ``NUMBA_CACHE_DIR``, the user's cache folder, or a temporary folder.

    The folder is made; the first of the three that can be written is taken.

    Raises:
        RunError: none can.

    """
    given = os.environ.get("NUMBA_CACHE_DIR")
    kept = (home / "kernels" for home in cache_homes())
    for path in chain([Path(given)], kept) if given else kept:
        # Code that another user could have written is not run.
        with contextlib.suppress(OSError):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Not by ``tempfile``, which imports numbers of chance.
            probe = path / f".{os.getpid()}.{get_ident()}"
            probe.touch()
            probe.unlink()
            if str(path) == given or not hasattr(os, "getuid") or path.stat().st_uid == os.getuid():
                return path
    raise RunError("no folder can keep the compiled kernels: set NUMBA_CACHE_DIR to one that may be written")


_KEEPING = frozenset(
    f"kernels.{name}" for name in (
        "machine_code", "entry", "linker", "object_file", "runtime", "stamp", "supply", "shipped", "processor_levels",
    )
)  # fmt: skip
"""Modules that say how code is kept, not what it is: a change of them compiles nothing anew."""


def within_package(function: Callable[..., object]) -> str:
    """The module of a function below ``qxmix.quants``: ``grid.iq2_s``."""
    return function.__module__.removeprefix(f"{_PACKAGE}.")


def imported_modules(source: bytes, module: str) -> set[str]:
    """Modules of ``qxmix.quants`` that a module may import, ``common.lanes``: in any form, not only on its top level.

    What ``from a import b`` names may be a module or not; both ``a`` and ``a.b`` are in the result.  Only lines that
    look like an import are parsed: a parse of whole files takes 4 ms each, and most kernels are made of twenty.  The
    usual form is read without a parse, which took a third of the time that importing an encoder takes.
    """
    package = f"{_PACKAGE}.{module}".split(".")
    found: set[str] = set()
    for text in _IMPORT.findall(source):
        if plain := _PLAIN.fullmatch(text.strip()):
            of, names = plain[1].decode(), plain[2].decode().split(",")
            found |= {of, *(f"{of}.{name.split()[0]}" for name in names if name.strip())}
            continue
        try:
            (statement,) = ast.parse(text).body
        except (SyntaxError, ValueError):  # a line of a docstring
            continue
        if isinstance(statement, ast.Import):
            found |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            above = package[: -statement.level] if statement.level else []
            of = ".".join([*above, *filter(None, [statement.module])])
            found |= {of, *(f"{of}.{alias.name}" for alias in statement.names)}
    prefix = f"{_PACKAGE}."
    return {name.removeprefix(prefix) for name in found if name.startswith(prefix)}


@cache
def _read(module: str) -> tuple[Path, bytes, frozenset[str]] | None:
    """A module's file, its source and the modules of ``qxmix.quants`` it may import; None where there is none.

    Each is read once, since an encoder's modules all import the same twenty.
    """
    # As text: three of four names are none of a module, and a path takes ten times as long to make as to find missing.
    name = os.path.join(_FOLDER, *module.split(".")) + ".py"  # noqa: PTH118
    try:
        with open(name, "rb") as file:  # noqa: PTH123
            source = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Path(name), source, frozenset(imported_modules(source, module))


def _read_elsewhere(module: str) -> tuple[Path, bytes, frozenset[str]] | None:
    """The same of a module that is not of ``qxmix.quants`` and has a kernel, as tests do."""
    file = Path(getattr(sys.modules.get(module), "__file__", None) or "")
    try:
        source = file.read_bytes()
    except OSError:  # there is none, or it is in an archive
        return None
    return file, source, frozenset(imported_modules(source, module))


def _sources(module: str) -> dict[Path, bytes]:
    """Sources of a module and of those that it imports from ``qxmix.quants``, directly or not, by file."""
    found: dict[Path, bytes] = {}
    seen, todo = {module, *_KEEPING}, [module]
    while todo:
        name = todo.pop()
        if read := _read(name) or (_read_elsewhere(name) if name == module else None):
            path, source, imported = read
            found[path] = source
            todo += imported - seen
            seen |= imported
    return found


@cache
def sources_digest(module: str) -> str:
    """Digest of the sources that a kernel of ``qxmix.quants.<module>`` is compiled from."""
    digest = hashlib.sha256()
    for _, source in sorted(_sources(module).items()):
        digest.update(source)
    return digest.hexdigest()[:16]


def source_stamp(module: str) -> str:
    """Digest of the sources, and of numba's version."""
    return hashlib.sha256(_compiler() + sources_digest(module).encode()).hexdigest()[:16]


def kernel_dir(module: str) -> Path:
    """Where the compiled kernels of ``qxmix.quants.<module>`` are kept.

    The stamp is part of the name: two installations with different kernels do not overwrite each other.  So is the
    processor: numba writes its index before the code, and on a shared disk two machines could mix them up.  And so is
    whether bounds are checked, which numba itself does not look at.
    """
    return cache_dir() / f"{module}-{source_stamp(module)}-{_processor()}{'-checked' if checks_bounds() else ''}"


@cache
def _compiler() -> bytes:
    """The versions of numba and llvmlite; numba's is read beside it, as importing it takes longer than what follows."""
    spec = find_spec("numba")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).with_name("_version.py").read_bytes() + str(llvmlite.__version__).encode()


def checks_bounds() -> bool:
    """Whether kernels are compiled with a check of each index (``NUMBA_BOUNDSCHECK=1``)."""
    # Another thread may be at the import of numba: its settings are not all there then.
    set_ = getattr(sys.modules.get("numba.core.config"), "BOUNDSCHECK", None)
    if set_ is not None:
        return bool(set_)
    return os.environ.get("NUMBA_BOUNDSCHECK", "0") not in {"", "0"}


@cache
def _processor() -> str:
    """Digest of the processor and of its features that code is compiled for.

    LLVM tells them, which takes 50 ms to load.  What it told stands in a file until the machine is started anew.
    """
    told = [os.environ.get(name) for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")]
    boot = _boot()
    if boot is None:
        return _asked_of_llvm(told)
    # A start of a machine may have processes of two families: those of the other are emulated (a container, Rosetta).
    asked = hashlib.sha256(repr((boot, os.uname().machine, str(llvmlite.__version__), told)).encode()).hexdigest()
    kept = cache_dir() / "processor"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        words = kept.read_text().split()
        if words[:1] == [asked] and len(words) == 2:  # noqa: PLR2004
            return words[1]
    found, new = _asked_of_llvm(told), kept.with_suffix(f".{os.getpid()}.new")
    with contextlib.suppress(OSError):
        try:
            new.write_text(f"{asked} {found}\n")
            new.replace(kept)
        finally:
            new.unlink(missing_ok=True)
    return found


def _asked_of_llvm(told: list[str | None]) -> str:
    from llvmlite import binding  # noqa: PLC0415 - as :func:`_processor` says

    found = (binding.get_process_triple(), binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten())
    return hashlib.sha256(repr((found, told)).encode()).hexdigest()[:12]


def _boot() -> str | None:
    """What this start of this machine is called, by which no other machine, nor this one with another processor, is."""
    if not hasattr(os, "uname"):  # Windows, where anybody can have such a file
        return None
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        return None


def identity(value: object) -> object:
    """What a value that a kernel closes over means to the compiled code, whoever compiles it.

    Equal from process to process, and for every version of numba: which one compiled is in the name of the folder.
    """
    function = getattr(value, "py_func", value)
    if isinstance(function, FunctionType):
        cells = tuple(identity(cell.cell_contents) for cell in function.__closure__ or ())
        # A factory's kernel has the stamp of the factory's module, which does not know what it was called with.
        digest, code = sources_digest(within_package(function)), function.__code__
        return digest, code.co_qualname, code.co_firstlineno, cells
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return repr(value)


if os.environ.get("NUMBA_CACHE_LOCATOR_CLASSES"):
    msg = "numba would keep kernels where an update does not replace them: unset NUMBA_CACHE_LOCATOR_CLASSES"
    raise RunError(msg)
if os.environ.get("NUMBA_DISABLE_JIT", "0") not in {"", "0"}:
    msg = "qxmix's kernels exist only as compiled code: unset NUMBA_DISABLE_JIT"
    raise RunError(msg)
