"""What functions become kernels, and what is compiled into them.

Nothing here imports numba, which alone takes half a second, before the first kernel is compiled.  Decorated functions
are stand-ins: numba's object behind one is made when numba first asks for it.  A kernel that has been compiled for
this machine is called without numba (``machine_code``).
"""

from __future__ import annotations

import hashlib
import sys
from functools import cached_property
from importlib import import_module
from types import FunctionType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from qxmix.quants.kernels import machine_code, supply
from qxmix.quants.kernels.stamp import identity

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")


class _StandIn:
    """What stands for an object of numba until numba asks for it."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.py_func = function
        self.__doc__, self.__module__ = function.__doc__, function.__module__
        self.__name__, self.__qualname__ = function.__name__, function.__qualname__

    @cached_property
    def made(self) -> Any:
        """Numba's object."""
        raise NotImplementedError

    @property
    def _numba_type_(self) -> Any:
        return _compiler().numba_type(self.made)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.made, name)


class Function(_StandIn):
    """A function that is compiled into kernels; Python may call it, too."""

    def __init__(self, function: Callable[..., object], **options: object) -> None:
        super().__init__(function)
        self._options = options

    @cached_property
    def made(self) -> Any:
        """Numba's dispatcher for calls by kernels."""
        return _compiler().dispatcher(self.py_func, **self._options)

    @cached_property
    def alone(self) -> Any:
        """Numba's dispatcher for calls by Python."""
        return _compiler().dispatcher(self.py_func, alone=True)

    def __call__(self, *arguments: object) -> object:
        """Run it, compiled by itself."""
        return self.alone(*arguments)


class _Kernel(Function):
    """A kernel: called as machine code where there is some for such arguments, else through numba, which makes it."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__(function)
        self._ready: dict[tuple[str, ...], Callable[..., object]] = {}

    @cached_property
    def made(self) -> Any:
        """Numba's dispatcher for calls by kernels."""
        _name_apart(self.py_func)
        return super().made

    @cached_property
    def alone(self) -> Any:
        """Numba's dispatcher for calls by Python, which keeps what it compiles."""
        _name_apart(self.py_func)
        return _compiler().dispatcher(self.py_func, kept=True)

    def __call__(self, *arguments: object) -> object:
        kinds = machine_code.kinds(arguments)
        if kinds is None:
            return self.alone(*arguments)
        call = self._ready.get(kinds)
        if call is None:
            call = self._ready[kinds] = supply.function_of(self, kinds, arguments)
        return call(*arguments)


class _Intrinsic(_StandIn):
    """A function that builds LLVM's instructions for a call."""

    @cached_property
    def made(self) -> Any:
        """Numba's intrinsic."""
        return _compiler().make_intrinsic(self.py_func)


class Late:
    """A module that is imported when the first of its names is asked for: what intrinsics build with."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._module), name)


def _compiler() -> Any:
    from qxmix.quants.compiling import compiler  # noqa: PLC0415 - numba

    return compiler


def _name_apart(function: Callable[..., object]) -> None:
    """Give kernels that a factory made names of their own.

    numba names compiled code by function and a count that starts anew in every process.  Two kernels of one factory,
    compiled in two processes, could have one name: loaded into a third, both would run the code of the first.
    """
    if isinstance(function, FunctionType) and function.__closure__:
        digest = hashlib.sha256(repr(identity(function)).encode()).hexdigest()
        function.__qualname__ = f"{function.__code__.co_qualname}_{digest[:16]}"


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile ``function`` on its first call, or load it from the cache."""
    return cast("Callable[P, R]", _Kernel(function))


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Compile ``function`` into each kernel that calls it; for the pieces inside loops."""
    return cast("Callable[P, R]", Function(function, forceinline=True))


def spliced(function: Callable[P, R]) -> Callable[P, R]:
    """Put the text of ``function`` in the place of each call, before types are inferred; for the parts of an encoder.

    LLVM optimizes what a kernel calls once more with every kernel that calls it, ``inlined`` or not: as kernels of its
    own, the three parts of Q4_K's encoder took 1.7 s more to compile, a third of the whole.  Not for what a loop over
    lanes calls: each array gets another name there, which is counted anew in every turn (4 to 6 % of Q4_0's time).
    """
    return cast("Callable[P, R]", Function(function, inline="always"))


def intrinsic(function: Callable[..., object]) -> Callable[..., Any]:
    """Let a call in a kernel be what ``function`` builds: numba's ``intrinsic``."""
    return cast("Callable[..., Any]", _Intrinsic(function))


if sys.byteorder != "little":  # pragma: no cover - no such machine runs the engines
    msg = "qxmix packs little-endian fields by their bytes in memory and needs a little-endian machine"
    raise ImportError(msg)
