"""How kernels are compiled, and where the result is kept: the policy of numba in one place.

Policy, with its reasons:

* ``nogil``: kernels run under any ``concurrent.futures.Executor``; numba's own threading is never used, since its
  default layer aborts the process when two Python threads enter it.
* never ``fastmath``, never ``parallel``: both reassociate sums, and the bytes are the contract.  Without fastmath LLVM
  neither reorders nor contracts ``a * b + c``, on any CPU.
* ``error_model="numpy"``: a division by zero gives inf or NaN as in C.
* numba's import looks at SciPy's version, for which SciPy is imported, 0.3 s; no kernel calls it, and it is not.
* Compiled code is kept in a folder of its own, which works for a read-only install.  numba itself looks only at the
  source file of the function it caches, so a change in ``search.py`` would leave a stale ``q4_0`` behind; here the
  stamp covers every module of this package that the kernel's module imports, and those of the functions that a factory
  made the kernel of.
* With ``NUMBA_BOUNDSCHECK=1`` every access is checked, those of ``simd`` too, and the code is kept apart: code without
  checks would otherwise be found in the cache and check nothing.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import os
import re
import sys
import tempfile
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import numpy as np

from qxmix.errors import RunError
from qxmix.resources import cache_homes

if {"numba", "scipy"}.isdisjoint(sys.modules):
    sys.modules["scipy"] = None  # type: ignore[assignment]  # what importlib takes for "there is none"
    try:
        import numba
    finally:
        del sys.modules["scipy"]
import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from numba.core.registry import cpu_target

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

_PACKAGE = Path(__file__).parent
_IMPORT = re.compile(rb"^[ \t]*((?:from|import)\b(?:\([^)]*\)|\\\n|[^\n(;])*)", re.MULTILINE)


@cache
def cache_dir() -> Path:
    """Where compiled kernels are kept: ``NUMBA_CACHE_DIR``, the user's cache folder, or a temporary folder.

    The folder is made; the first of the three that can be written is taken.

    Raises:
        RunError: none can.

    """
    given = os.environ.get("NUMBA_CACHE_DIR")
    kept = [home / "kernels" for home in cache_homes()]
    for path in [Path(given), *kept] if given else kept:
        # Code that another user could have written is not run.
        with contextlib.suppress(OSError):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                if str(path) == given or not hasattr(os, "getuid") or path.stat().st_uid == os.getuid():
                    return path
    raise RunError("no folder can keep the compiled kernels: set NUMBA_CACHE_DIR to one that may be written")


def _within_package(function: Callable[..., object]) -> str:
    """The module of a function below ``qxmix.quants``: ``grid.iq2_s``."""
    return function.__module__.removeprefix(f"{__package__}.")


def imported_modules(source: bytes, module: str) -> set[str]:
    """Modules of this package, ``common.lanes``, that a module may import: in any form, and not only on its top level.

    What ``from a import b`` names may be a module or not; both ``a`` and ``a.b`` are in the result.  Only lines that
    look like an import are parsed: a parse of whole files takes 4 ms each, and most kernels are made of twenty.
    """
    package = f"{__package__}.{module}".split(".")
    found: set[str] = set()
    for text in _IMPORT.findall(source):
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
    prefix = f"{__package__}."
    return {name.removeprefix(prefix) for name in found if name.startswith(prefix)}


@cache
def _sources(module: str) -> frozenset[Path]:
    """Source files of a module of this package and of those it imports from it, directly or not."""
    found: set[Path] = set()
    seen, todo = {module}, [module]
    while todo:
        name = todo.pop()
        path = _PACKAGE.joinpath(*name.split(".")).with_suffix(".py")
        if path.exists():
            found.add(path)
            new = imported_modules(path.read_bytes(), name) - seen
            seen |= new
            todo += new
    return frozenset(found)


@cache
def source_stamp(module: str) -> str:
    """Digest of the sources that a kernel of ``qxmix.quants.<module>`` is compiled from, and of numba's version."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(_sources(module)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def kernel_dir(module: str) -> Path:
    """Where the compiled kernels of ``qxmix.quants.<module>`` are kept.

    The stamp is part of the name: two installations with different kernels do not overwrite each other.  So is the
    processor: numba writes its index before the code, and on a shared disk two machines could mix them up.  And so is
    whether bounds are checked, which numba itself does not look at.
    """
    return cache_dir() / f"{module}-{source_stamp(module)}-{_processor()}{'-checked' if checks_bounds() else ''}"


def checks_bounds() -> bool:
    """Whether kernels are compiled with a check of each index (``NUMBA_BOUNDSCHECK=1``)."""
    return bool(numba.config.BOUNDSCHECK)


@cache
def _processor() -> str:
    """Digest of the processor and of its features that code is compiled for."""
    return hashlib.sha256(repr(cpu_target.target_context.codegen().magic_tuple()).encode()).hexdigest()[:12]


class _Locator(_CacheLocator):  # type: ignore[misc]
    """Tells numba the folder and the stamp of a kernel."""

    def __init__(self, py_func: Callable[..., object]) -> None:
        self._module = _within_package(py_func)
        self._lineno = py_func.__code__.co_firstlineno

    def ensure_cache_path(self) -> None:
        Path(self.get_cache_path()).mkdir(parents=True, exist_ok=True)

    def get_cache_path(self) -> str:
        return str(kernel_dir(self._module))

    def get_source_stamp(self) -> str:
        return source_stamp(self._module)

    def get_disambiguator(self) -> str:
        return str(self._lineno)

    @classmethod
    def from_function(cls, py_func: Callable[..., object], py_file: str) -> _Locator:  # noqa: ARG003
        return cls(py_func)


class _CacheImpl(CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (_Locator,)


def _identity(value: object) -> object:
    """What a value that a kernel closes over means to the compiled code, equal from process to process."""
    function = getattr(value, "py_func", value)
    if isinstance(function, FunctionType):
        cells = tuple(_identity(cell.cell_contents) for cell in function.__closure__ or ())
        # A factory's kernel has the stamp of the factory's module, which does not know what it was called with.
        stamp = source_stamp(_within_package(function))
        return stamp, function.__qualname__, function.__code__.co_firstlineno, cells
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return repr(value)


class _KernelCache(FunctionCache):  # type: ignore[misc]
    """numba's cache, with an index key that knows kernels made by a factory, and that stops no work.

    numba tells two closures of one function apart by pickling what they close over, and a compiled function pickles
    with an id that is new in every process: such a kernel would never be found again.

    A file that is cut short (a power cut, a copy that broke off) is dropped and the kernel compiled anew, where numba
    would fail on it in every run; a kernel that cannot be kept (a full disk) is used all the same.
    """

    _impl_class = _CacheImpl

    def load_overload(self, sig: object, target_context: object) -> object:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # noqa: BLE001 - there is hardly an exception that unpickling a broken file cannot raise
            with contextlib.suppress(OSError):
                self._cache_file.flush()
            return None

    def save_overload(self, sig: object, data: object) -> None:
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)

    def _index_key(self, sig: object, codegen: Any) -> tuple[object, ...]:
        return sig, codegen.magic_tuple(), repr(_identity(self._py_func))


def _name_apart(function: Callable[..., object]) -> None:
    """Give kernels that a factory made names of their own.

    numba names compiled code by function and a count that starts anew in every process.  Two kernels of one factory,
    compiled in two processes, could have one name: loaded into a third, both would run the code of the first.
    """
    if isinstance(function, FunctionType) and function.__closure__:
        digest = hashlib.sha256(repr(_identity(function)).encode()).hexdigest()
        function.__qualname__ += f"_{digest[:16]}"


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile ``function`` with numba on its first call, or load it from the cache."""
    _name_apart(function)
    dispatcher = numba.njit(nogil=True, error_model="numpy")(function)
    dispatcher._cache = _KernelCache(function)  # noqa: SLF001 - numba offers no public way to place its cache
    return cast("Callable[P, R]", dispatcher)


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Compile ``function`` into each kernel that calls it; for the pieces inside loops."""
    return cast("Callable[P, R]", numba.njit(nogil=True, error_model="numpy", forceinline=True)(function))


def spliced(function: Callable[P, R]) -> Callable[P, R]:
    """Put the text of ``function`` in the place of each call, before types are inferred; for the parts of an encoder.

    LLVM optimizes what a kernel calls once more with every kernel that calls it, ``inlined`` or not: as kernels of its
    own, the three parts of Q4_K's encoder took 1.7 s more to compile, a third of the whole.  Not for what a loop over
    lanes calls: each array gets another name there, which is counted anew in every turn (4 to 6 % of Q4_0's time).
    """
    return cast("Callable[P, R]", numba.njit(nogil=True, error_model="numpy", inline="always")(function))


if sys.byteorder != "little":  # pragma: no cover - no such machine runs the engines
    msg = "qxmix packs little-endian fields by their bytes in memory and needs a little-endian machine"
    raise ImportError(msg)
if numba.config.DISABLE_JIT:
    msg = "qxmix's kernels exist only as compiled code: unset NUMBA_DISABLE_JIT"
    raise RunError(msg)
