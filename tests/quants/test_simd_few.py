"""The vector operations that few kernels need, beside numpy, with the CPU's instructions and without."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
from numpy.typing import NDArray

from qxmix.quants.common.simd import WIDTH, load, store, store_word
from qxmix.quants.common.simd_few import (
    bytes_of_bits,
    load_halfwords,
    of_eight,
    of_four,
    spread_lane,
    store_low_bytes,
    two_least,
)
from qxmix.quants.jit import inlined

Floats = NDArray[np.float32]
RNG = np.random.default_rng(7)


@inlined
def pick(table: Floats, points: NDArray[np.uint16], shift: np.uint32, out: Floats) -> None:
    """Entries of tables of four, in the first lanes of ``out``, and of eight."""
    index = load_halfwords(points, 0) >> shift
    store(out, 0, of_four(load(table, 0), index))
    store(out, WIDTH, of_eight(load(table, WIDTH), index))
    store(out, 2 * WIDTH, spread_lane(load(table, 0), 3))


@inlined
def least(vectors: Floats, out: Floats) -> None:
    out[0], out[1] = two_least(load(vectors, 0), load(vectors, WIDTH))


@inlined
def low_bytes(vector: Floats, out: NDArray[np.uint8]) -> None:
    words = bytes_of_bits(load(vector, 0))
    for i in range(WIDTH // 4):
        store_word(out, 4 * i, words[i])
    store_low_bytes(out, WIDTH, load(vector, 0))


def test_tables_are_read_at_the_lowest_bits() -> None:
    four, eight = RNG.random(4).astype(np.float32), RNG.random(8).astype(np.float32)
    table = np.concatenate([np.resize(four, WIDTH), np.resize(eight, WIDTH)])
    points, out = RNG.integers(0, 1 << 16, WIDTH).astype(np.uint16), np.empty(3 * WIDTH, np.float32)
    for shift in (0, 3, 9):
        pick(table, points, np.uint32(shift), out)
        index = points >> shift
        np.testing.assert_array_equal(out, np.concatenate([four[index & 3], eight[index & 7], np.full(WIDTH, four[3])]))


def test_the_two_least_of_all_lanes() -> None:
    for _ in range(20):
        pairs = np.sort(RNG.integers(0, 40, (2, WIDTH)).astype(np.float32), axis=0)
        out = np.empty(2, np.float32)
        least(pairs.ravel(), out)
        np.testing.assert_array_equal(out, np.sort(pairs.ravel())[:2])


def test_the_lowest_bytes_of_the_bits() -> None:
    vector, out = RNG.standard_normal(WIDTH).astype(np.float32), np.empty(2 * WIDTH, np.uint8)
    low_bytes(vector, out)
    np.testing.assert_array_equal(out.reshape(2, WIDTH), [vector.view(np.uint8)[::4]] * 2)


def test_all_this_on_a_processor_without_the_instructions() -> None:
    code = f"import {__name__} as t\nt.test_tables_are_read_at_the_lowest_bits()\nt.test_the_two_least_of_all_lanes()"
    generic = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **generic}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
