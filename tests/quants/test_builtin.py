"""What functions of Python and numpy are in kernels: the same as outside of them, and nothing that numba compiles."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qxmix.quants.jit import kernel

FLOATS = [0.0, -0.0, 1.5, -2.0, np.inf, -np.inf, np.nan]
WHOLE = [0, 1, -1, 127, -128]

FIRST_USE = """
import sys
import numpy as np
import qxmix
from qxmix.quants.compiling import target

compiled = []
compile_ = target.Dispatcher.compile

def noted(self, signature):
    compiled.append(f"{self.py_func.__module__} {self.py_func.__name__}")
    return compile_(self, signature)

target.Dispatcher.compile = noted
columns = np.ones(256, np.float32) if sys.argv[2] == "with" else None
qxmix.quantize(np.ones((1, 256), np.float32), sys.argv[1], columns)
print(*sorted(set(compiled)), sep="\\n")
"""


@kernel
def _extremes(a: Any, b: Any, out: Any) -> None:
    for i in range(len(a)):
        out[0, i], out[1, i] = min(a[i], b[i]), max(a[i], b[i])


@kernel
def _of_two_kinds(a: Any, b: Any, out: Any) -> None:
    for i in range(len(a)):
        out[0, i], out[1, i] = min(a[i], np.float64(b[i])), max(a[i], np.float64(b[i]))


@kernel
def _allocated(n: int, out: Any) -> None:
    ones, none, words = np.empty((2, n, 3), np.float32), np.zeros((n, 5), np.float32), np.zeros(n, np.uint16)
    for i in range(2):
        for j in range(n):
            for k in range(3):
                ones[i, j, k] = np.float32(100 * i + 10 * j + k)
    total = np.float32(0.0)
    for j in range(n):
        total += np.float32(words[j])
        for k in range(5):
            total += none[j, k]
    out[0], out[1], out[2] = total, ones[1, n - 1, 2], np.float32(ones.shape[0] + ones.shape[1] + ones.shape[2])
    out[3], out[4] = np.float32(int(np.float32(-2.75))), np.float32(int(np.float32(2.75)))


@pytest.mark.parametrize(
    ("values", "dtype"), [(FLOATS, np.float32), (FLOATS, np.float64), (WHOLE, np.int8), (WHOLE, np.uint8)], ids=str
)
def test_extremes_are_those_of_python(values: list[float], dtype: type) -> None:
    every: Any = np.array(values).astype(np.int64 if dtype == np.uint8 else dtype).astype(dtype)
    a: Any
    b: Any
    a, b = (np.array(side, dtype) for side in zip(*product(every, every), strict=True))
    out: Any = np.empty((2, len(a)), dtype)
    _extremes(a, b, out)
    expected: Any = np.array([[f(x, y) for x, y in zip(a, b, strict=True)] for f in (min, max)], dtype)
    assert out.tobytes() == expected.tobytes()


def test_extremes_of_two_kinds_are_asked_of_numba() -> None:
    a, b, out = np.array([1.5, -3.0], np.float32), np.array([2, -4], np.int8), np.empty((2, 2), np.float64)
    _of_two_kinds(a, b, out)
    assert out.tolist() == [[1.5, -4.0], [2.0, -3.0]]


def test_arrays_have_their_shape_and_zeros() -> None:
    out = np.full(5, np.nan, np.float32)
    for n in (1, 7, 1000):
        _allocated(n, out)
        assert out.tolist() == [0.0, 100.0 + 10 * (n - 1) + 2, 5.0 + n, -2.0, 2.0]


@pytest.mark.slow
@pytest.mark.parametrize(("importance", "searched", "not_searched"), [
    ("with", "search_affine", "search_affine_f32"), ("without", "search_affine_f32", "search_affine"),
])  # fmt: skip
def test_first_use_compiles_what_is_called(importance: str, searched: str, not_searched: str, tmp_path: Path) -> None:
    """One search of Q4_K, none of the other, and no function of numba's own."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    call = [sys.executable, "-c", FIRST_USE, "Q4_K", importance]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=True)
    compiled = done.stdout.splitlines()
    names = {line.split()[1] for line in compiled}
    assert searched in names
    assert not_searched not in names
    assert [line for line in compiled if not line.startswith("qxmix.")] == []
