"""Where kernels come from: when several threads ask at once, and whether what they are given needs numba."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from qxmix.quants.compiling import compiler
from qxmix.quants.kernels import machine_code, supply
from qxmix.quants.kernels.kernel import Kernel, every_kernel
from qxmix.quants.kernels.warmup import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def test_each_thread_keeps_the_code_of_its_own_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As numba does it: a cache for all arguments of a kernel remembers the code that it was given last."""
    last: dict[str, bytes] = {}
    kept: dict[str, Any] = {}

    def compiled(_made: object, arguments: tuple[object, ...]) -> bytes:
        last["code"] = repr(arguments).encode()
        time.sleep(0.05)
        return last["code"]

    def keep(path: Path, _kinds: supply.Kinds, code: Any) -> None:
        kept[path.name] = code

    monkeypatch.setattr(compiler, "compiled", compiled)
    monkeypatch.setattr(machine_code, "path_of", lambda _function, kinds: tmp_path / kinds[0])
    monkeypatch.setattr(machine_code, "keep", keep)
    kernel: Any = SimpleNamespace(py_func=None, made=None, alone=None)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: supply.this_processor(kernel, (f"kind {i}",), (i,)), range(4)))
    assert kept == {f"kind {i}": f"({i},)".encode() for i in range(4)}


@pytest.fixture
def kinds_given(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[supply.Kinds | None]]:
    """What kernels are called with."""
    given: list[supply.Kinds | None] = []
    kinds = machine_code.kinds

    def told(arguments: tuple[object, ...]) -> supply.Kinds:
        given.append(kinds(arguments))
        return ("for this test", *(given[-1] or ()))  # kernels remember what they called for some kinds

    monkeypatch.setattr(machine_code, "kinds", told)
    token = supply.SOURCE.set(lambda *_: lambda *_: None)
    yield given
    supply.SOURCE.reset(token)


PLAIN = [kernel for kernel in every_kernel() if not kernel.type.endswith("_KT")]


@pytest.mark.parametrize("kernel", PLAIN, ids=lambda k: f"{k.type}-{k.direction}")
def test_no_kernel_is_given_what_needs_numba(kernel: Kernel, kinds_given: list[supply.Kinds | None]) -> None:
    """Else its type's first use loads numba each time, 1 s, and no wheel of all kernels can be made.

    Nothing is compiled: what a kernel of these types leaves has no say in what others are called with.
    """
    run(kernel)
    assert kinds_given
    assert None not in kinds_given


@pytest.mark.slow
@pytest.mark.parametrize("name", ["IQ1_KT", "IQ2_KT", "IQ3_KT", "IQ4_KT"])
def test_no_kernel_of_trellises_is_given_what_needs_numba(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What these find is what others are called with.  Nor is anything called that returns a value: it is not kept."""
    given: list[supply.Kinds | None] = []
    kinds = machine_code.kinds

    def told(arguments: tuple[object, ...]) -> supply.Kinds:
        given.append(kinds(arguments))
        return ("for this test", *(given[-1] or ()))  # kernels remember what they called for some kinds

    def kept(kernel: supply.Kernel, of: supply.Kinds, arguments: tuple[object, ...]) -> Callable[..., object]:
        found, path = supply.this_processor(kernel, of[1:], arguments), machine_code.path_of(kernel.py_func, of[1:])
        assert path is not None
        assert path.exists(), f"{kernel.py_func.__qualname__} is not kept"
        return found

    monkeypatch.setattr(machine_code, "kinds", told)
    token = supply.SOURCE.set(kept)
    try:
        for kernel in every_kernel():
            if kernel.type == name:
                run(kernel)
    finally:
        supply.SOURCE.reset(token)
    assert given
    assert None not in given
