"""Where the code of a kernel comes from when it is first called with some arguments: a file, or numba.

Which of them is one function, and a process that compiles for another processor, whose code it cannot run, has its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from qxmix.quants import machine_code

if TYPE_CHECKING:
    from collections.abc import Callable

Kinds = tuple[str, ...]
"""What a kernel is compiled for, as ``machine_code.kinds`` tells it."""


class Kernel(Protocol):
    """A kernel as Python knows it."""

    @property
    def py_func(self) -> Callable[..., object]:
        """What it is compiled from."""

    @property
    def made(self) -> Any:
        """Numba's dispatcher."""


def function_of(kernel: Kernel, kinds: Kinds, arguments: tuple[object, ...]) -> Callable[..., object]:
    """What runs a kernel for arguments of these kinds: its file, or else numba, which is asked for one."""
    path = machine_code.path_of(kernel.py_func, kinds)
    if path is None:
        return cast("Callable[..., object]", kernel.made)
    found = machine_code.load(path, kinds)
    if found is not None:
        return found
    from qxmix.quants import compiler  # noqa: PLC0415 - numba

    result = compiler.compiled(kernel.made, arguments)
    if result is not None:
        machine_code.keep(path, kinds, result)
    return cast("Callable[..., object]", kernel.made)
