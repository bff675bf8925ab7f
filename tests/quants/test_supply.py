"""Where kernels come from when several threads ask at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from qxmix.quants import compiler, machine_code, supply

if TYPE_CHECKING:
    import pytest


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
