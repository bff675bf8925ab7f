"""Where the code of a kernel comes from when it is first called with some arguments: a file, or numba.

A process that compiles for other processors, whose code it may not be able to run, has a source of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from itertools import chain
from threading import RLock
from typing import Any, Protocol, cast

from qxmix.quants.kernels import machine_code, shipped

Kinds = tuple[str, ...]
"""What a kernel is compiled for, as ``machine_code.kinds`` tells it."""


class Kernel(Protocol):
    """A kernel as Python knows it."""

    @property
    def py_func(self) -> Callable[..., object]:
        """What it is compiled from."""

    @property
    def made(self) -> Any:
        """Numba's dispatcher for calls by kernels."""

    @property
    def alone(self) -> Any:
        """Numba's dispatcher for calls by Python."""


_COMPILING = RLock()

Source = Callable[[Kernel, Kinds, tuple[object, ...]], Callable[..., object]]
"""Finds or makes what runs a kernel for arguments of some kinds, of which it gets the first."""


def this_processor(kernel: Kernel, kinds: Kinds, arguments: tuple[object, ...]) -> Callable[..., object]:
    """From the cache, or else from numba, and then it is kept: code for exactly this processor."""
    path = machine_code.path_of(kernel.py_func, kinds)
    if path is None:
        return cast("Callable[..., object]", kernel.alone)
    # One thread at a time: what another one has just kept is not compiled again.
    with _COMPILING:
        found = machine_code.load(path, kinds)
        if found is not None:
            return found
        from qxmix.quants.compiling import compiler  # noqa: PLC0415 - numba

        result = compiler.compiled(kernel.made, arguments)
        made = machine_code.keep(path, kinds, result) if result else None
    return made or cast("Callable[..., object]", kernel.alone)


def this_machine(kernel: Kernel, kinds: Kinds, arguments: tuple[object, ...]) -> Callable[..., object]:
    """From the cache, or the package of shipped kernels, or numba."""
    path = machine_code.path_of(kernel.py_func, kinds)
    for file in chain((path,), shipped.paths(kernel.py_func, kinds)) if path else ():
        found = machine_code.load(file, kinds)
        if found is not None:
            return found
    return this_processor(kernel, kinds, arguments)


SOURCE: ContextVar[Source] = ContextVar("SOURCE", default=this_machine)
"""Where code comes from here."""


def function_of(kernel: Kernel, kinds: Kinds, arguments: tuple[object, ...]) -> Callable[..., object]:
    """What runs a kernel for arguments of these kinds, which it will be called with."""
    return SOURCE.get()(kernel, kinds, arguments)
