"""What kernels get without numba: indices, loops over ranges, references, and functions that are called."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba.core import types
from numba.core.datamodel import default_manager

from qxmix.quants.common import array_fields
from qxmix.quants.jit import inlined, kernel, spliced

TABLE = np.arange(12, dtype=np.float32).reshape(3, 4)
NUMBERS = st.integers(-12, 12)


@kernel
def _ranges(start: int, stop: int, step: int, out: Any) -> None:
    """What each form of a range runs through: how many, the sum, and the last."""
    for i in range(stop):
        out[0, 0] += 1
        out[0, 1] += i
        out[0, 2] = i
    for i in range(start, stop):
        out[1, 0] += 1
        out[1, 1] += i
        out[1, 2] = i
    for i in range(start, stop, step):
        out[2, 0] += 1
        out[2, 1] += i
        out[2, 2] = i
    for i in range(start, stop, 3):
        out[3, 0] += 1
        out[3, 1] += i
        out[3, 2] = i
    for i in range(start, stop, -2):
        out[4, 0] += 1
        out[4, 1] += i
        out[4, 2] = i
    out[5, 0] = len(range(start, stop, step))


@given(start=NUMBERS, stop=NUMBERS, step=NUMBERS.filter(bool))
def test_ranges_run_through_what_they_do_in_python(start: int, stop: int, step: int) -> None:
    out = np.zeros((6, 3), np.int64)
    _ranges(start, stop, step, out)
    runs = (
        range(stop), range(start, stop), range(start, stop, step), range(start, stop, 3), range(start, stop, -2)
    )  # fmt: skip
    assert [(n, total) for n, total, _ in out[:5].tolist()] == [(len(run), sum(run)) for run in runs]
    assert [last for n, _, last in out[:5].tolist() if n] == [run[-1] for run in runs if run]
    assert out[5, 0] == len(range(start, stop, step))


@kernel
def _turns(n: int, out: Any) -> None:
    """Loops within loops that begin anew, are left early and skip; the counter afterwards; unsigned numbers."""
    last = -1
    for i in range(n):
        if i % 2:
            continue
        for j in range(i, n):
            if j > i + 2:
                break
            last = j
            out[i, j] += 1
        for j in range(i):
            out[n, j] += 1
    out[n + 1, 0] = last
    for k in range(np.uint64(n)):
        out[n + 1, 1] += np.int64(k)


def test_loops_within_loops() -> None:
    n = 7
    out, expected = np.zeros((n + 2, n), np.int64), np.zeros((n + 2, n), np.int64)
    _turns(n, out)
    _turns.py_func(n, expected)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(out, expected)


@kernel
def _chosen(n: int, other: bool, out: Any) -> None:
    """A range that is one of two, one that is kept under a name, and one that is run through twice."""
    either = range(n) if other else range(2, n, 2)
    kept = range(1, n)
    for i in either:
        out[0] += i
    for _ in range(2):
        for i in kept:
            out[1] += i


@pytest.mark.parametrize("other", [False, True])
def test_ranges_by_name(other: bool) -> None:
    out = np.zeros(2, np.int64)
    _chosen(9, other, out)
    assert out.tolist() == [sum(range(9)) if other else sum(range(2, 9, 2)), 2 * sum(range(1, 9))]


@spliced
def _first_above(x: Any, least: Any) -> Any:
    found = -1
    for i in range(len(x)):
        if found < 0 and x[i] > least:
            found = i
    return found


@kernel
def _spliced_twice(x: Any, out: Any) -> None:
    """What is spliced in comes behind the rest of a kernel in numba's order, loops and what begins them too."""
    for i in range(len(out)):
        out[i] = _first_above(x, np.float32(i)) + 10 * _first_above(x, np.float32(2 * i))


def test_loops_of_what_is_spliced() -> None:
    x, out = np.arange(6, dtype=np.float32), np.zeros(4, np.int64)
    _spliced_twice(x, out)
    np.testing.assert_array_equal(out, [1 + 10, 2 + 30, 3 + 50, 4 - 10])


@kernel
def _elements(n: int, whole: Any, words: Any, bits: Any) -> None:
    """Elements by numbers of all kinds, known and not; constants; rows; what is stored is cut to the array's type."""
    i, j, k = np.uint8(1), np.int32(n), n - 1
    whole[0, 0, 0] = TABLE[2, 3] + TABLE[i, j] + TABLE[k, k]
    whole[1, 2, 3] = words[5] + whole[0, 0, 0]
    row = whole[1]
    row[0, k] = row[2, 3] - np.float32(0.5)
    words[k] = -1
    words[0] = words[n + 3] + 65535
    at = (1, 1, n)
    whole[at] = words[0]
    bits[0], bits[1] = words[0] > 0, words[4] > 4
    bits[2] = bits[0] and not bits[1]


def test_elements() -> None:
    def arrays() -> tuple[Any, ...]:
        return np.zeros((2, 3, 4), np.float32), np.arange(6, dtype=np.uint16), np.zeros(3, np.bool_)

    made = arrays()
    _elements(2, *made)
    whole, words, bits = made
    sum_ = np.float32(TABLE[2, 3] + TABLE[1, 2] + TABLE[1, 1])
    assert whole[0, 0, 0] == sum_
    assert whole[1, 2, 3] == sum_ + 5
    assert whole[1, 0, 1] == sum_ + 4.5
    assert (words.tolist(), whole[1, 1, 2]) == ([4, 65535, 2, 3, 4, 5], 4)
    assert bits.tolist() == [True, False, True]


@inlined
def _either(a: Any, b: Any, first: Any) -> Any:
    return a if first else b


@kernel
def _scratch(n: int, out: Any) -> None:
    """Arrays that are made, chosen among, replaced and dropped in loops, some before they are used."""
    kept = np.zeros(n, np.float32)
    for i in range(n):
        new = np.empty(n, np.float32)
        for k in range(n):
            new[k] = kept[k] + np.float32(i)
        if i % 2:
            kept = new
        chosen = _either(kept, new, i % 3 == 0)
        other = out[i]
        for k in range(n):
            other[k] = chosen[k]


def test_arrays_that_kernels_make_live_as_long_as_they_are_used() -> None:
    n = 9
    out, expected = np.zeros((n, n), np.float32), np.zeros((n, n), np.float32)
    for _ in range(200):
        _scratch(n, out)
    _scratch.py_func(n, expected)  # type: ignore[attr-defined]
    gc.collect()
    np.testing.assert_array_equal(out, expected)


GROWTH = """
import resource
import numpy as np
from tests.quants.test_lowering import _scratch
out = np.zeros((300, 300), np.float32)
for _ in range(20):
    _scratch(300, out)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(400):
    _scratch(300, out)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="tells no peak of memory")
def test_arrays_that_kernels_make_are_given_back() -> None:
    """120,000 arrays of 1,200 bytes each are made: 140 MB if they were kept."""
    done = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 16_000 * (1024 if sys.platform == "darwin" else 1)


OUTSIDE = """
import sys
import numpy as np
from qxmix.quants.jit import kernel

@kernel
def read(at, x, out):
    out[0] = x[at]

@kernel
def write(at, x, out):
    x[at, 0] = out[0]

for which, shape in ((read, 4), (write, (4, 1))):
    for at in (-1, 4, 2**40, 3, 0):
        try:
            which(at, np.ones(shape, np.float32), np.zeros(1, np.float32))
            print("inside", end=" ")
        except IndexError:
            print("outside", end=" ")
"""


def test_where_bounds_are_checked_no_index_counts_from_the_end() -> None:
    """Without the check it would be another's memory."""
    done = subprocess.run(
        [sys.executable, "-c", OUTSIDE], env={**os.environ, "NUMBA_BOUNDSCHECK": "1"}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.split() == 2 * [*3 * ["outside"], *2 * ["inside"]]


@kernel
def _unit(x: Any, by: Any, out: Any) -> None:
    for i in range(len(x)):
        out[i] += x[i] * by


@inlined
def _with_unit(x: Any, by: Any, out: Any) -> None:
    _unit(x, by, out)
    _unit(out, by, out)


@kernel
def _calls_units(x: Any, out: Any) -> None:
    _with_unit(x, np.float32(2.0), out)
    _unit(x, np.float32(3.0), out)


@kernel
def _returns(x: Any) -> Any:
    """Is called through numba, as it returns something."""
    out = np.zeros(len(x), np.float32)
    _calls_units(x, out)
    return out[1]


def test_functions_that_several_kernels_call() -> None:
    x, out = np.arange(5, dtype=np.float32), np.zeros(5, np.float32)
    _calls_units(x, out)
    np.testing.assert_array_equal(out, 9 * x)
    assert _returns(x) == 9.0
    _unit(x, np.float32(1.0), out)
    np.testing.assert_array_equal(out, 10 * x)


def test_fields_of_an_array_stand_where_numba_says() -> None:
    for dtype, ndim in product((types.float32, types.uint8), (1, 2, 3)):
        names = default_manager[types.Array(dtype, ndim, "C")]._fields
        for field, name in {"OWNER": "meminfo", "N_ITEMS": "nitems", "DATA": "data", "SHAPE": "shape"}.items():
            assert names[getattr(array_fields, field)] == name
