"""How numba compiles kernels: its policy in one place, and its cache.  Imported by the first kernel that needs it.

Policy, with its reasons:

* ``nogil``: kernels run under any ``concurrent.futures.Executor``; numba's own threading is never used, since its
  default layer aborts the process when two Python threads enter it.
* never ``fastmath``, never ``parallel``: both reassociate sums, and the bytes are the contract.  Without fastmath LLVM
  neither reorders nor contracts ``a * b + c``, on any CPU.
* ``error_model="numpy"``: a division by zero gives inf or NaN as in C.
* Numba is imported without what no kernel calls (``lean``).
* Kernels have a target of their own, which does without what of numba they do not use (``target``).
* Compiling makes millions of objects that live; Python's search for circles among them is put off until it is done.
* With ``NUMBA_BOUNDSCHECK=1`` every access is checked, those of ``simd`` too, and the code is kept apart: code without
  checks would otherwise be found in the cache and check nothing.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from qxmix.quants.compiling.lean import circles_let_be, lean_import
from qxmix.quants.kernels.stamp import identity, kernel_dir, source_stamp, within_package

with lean_import():
    from numba.core import types
    from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
    from numba.core.compiler_lock import global_compiler_lock
    from numba.extending import intrinsic

    from qxmix.quants.common import builtin, vector  # noqa: F401 - what functions and operators mean in kernels
    from qxmix.quants.compiling import target

if TYPE_CHECKING:
    from collections.abc import Callable


class _Locator(_CacheLocator):  # type: ignore[misc]
    """Tells numba the folder and the stamp of a kernel."""

    def __init__(self, py_func: Callable[..., object]) -> None:
        self._module = within_package(py_func)
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
        return sig, codegen.magic_tuple(), repr(identity(self._py_func))


class Compiled(NamedTuple):
    """What numba made of a kernel for some arguments."""

    code: bytes
    """An object file."""
    symbol: str
    """Name of the function in it."""
    parameters: tuple[str, ...]
    """LLVM's types of its parameters."""


def dispatcher(function: Callable[..., object], *, kept: bool = False, alone: bool = False, **options: object) -> Any:
    """Numba's object for a function: ``kept`` in the cache, or to be called by Python ``alone``.

    What only other kernels call gets no wrapper for Python, and nothing one for C: with them for each of its pieces
    Q4_K took a tenth longer to compile.
    """
    wrappers = {"no_cpython_wrapper": not (kept or alone), "no_cfunc_wrapper": True}
    every = {"nopython": True, "nogil": True, "error_model": "numpy", "boundscheck": None}
    made = target.Dispatcher(function, targetoptions={**every, **wrappers, **options})
    if kept:
        made._cache = _KernelCache(function)  # noqa: SLF001 - numba offers no public way to place its cache
    return made


def numba_type(made: object) -> Any:
    """What numba takes a function or an intrinsic for that a kernel calls."""
    return target.TARGET.typing_context.resolve_value_type(made)


def compiled(made: Any, arguments: tuple[object, ...]) -> Compiled | None:
    """Compile a kernel for such arguments; None where the result cannot be called without numba."""
    kinds = tuple(made.typeof_pyval(argument) for argument in arguments)
    with global_compiler_lock, circles_let_be():
        made.compile(kinds)
        result = made.overloads[kinds]
        if result.signature.return_type != types.none:
            return None
        code = result.library.object_code()
    descriptor = result.fndesc
    kind = result.target_context.call_conv.get_function_type(descriptor.restype, descriptor.argtypes)
    return Compiled(code, descriptor.llvm_func_name, tuple(map(str, kind.args)))


def make_intrinsic(function: Callable[..., object]) -> Any:
    """Numba's object for a function that builds instructions."""
    made = intrinsic(function)
    target.TARGET.typing_context.refresh()  # made amid a compile, it would be known to the next one only
    return made
