"""Sums of looked up bytes and distances, beside numpy, with the CPU's instructions and without."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from qxmix.quants.common.simd_bytes import ENTRIES, PLACES, bits_within, put_scaled, sum_looked_up, weighted_distance
from qxmix.quants.jit import inlined

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
RNG = np.random.default_rng(7)
N_CHUNKS = 3


@inlined
def add_up(tables: Bytes, codes: Bytes, sums: Bytes, out: NDArray[np.int64]) -> None:
    out[0] = sum_looked_up(tables, codes, 5, N_CHUNKS, 4, sums)


@inlined
def mark(sums: Bytes, limit: np.int64, out: NDArray[np.int64]) -> None:
    out[0] = bits_within(sums, 3, limit)


@inlined
def measure(w: Floats, v: Floats, vectors: NDArray[np.int8], out: Floats) -> None:
    out[0] = weighted_distance(w, v, 3, vectors, 11, 8)
    out[1] = weighted_distance(w, v, 3, vectors, 11, 4)


@inlined
def scale(factor: np.float32, x: Floats, out: Floats) -> None:
    put_scaled(out, 2, factor, x, 1, 8)
    put_scaled(out, 10, factor, x, 3, 4)


@pytest.mark.parametrize("most", [20, 100, 256])
def test_bytes_of_tables_are_added_up_to_255(most: int) -> None:
    tables = RNG.integers(0, most, 4 * ENTRIES).astype(np.uint8)
    codes = RNG.integers(0, ENTRIES, 5 + 4 * N_CHUNKS * PLACES).astype(np.uint8)
    sums, out = np.zeros(N_CHUNKS * PLACES, np.uint8), np.empty(1, np.int64)
    add_up(tables, codes, sums, out)
    slots = codes[5:].reshape(N_CHUNKS, 4, PLACES)
    terms = [tables.reshape(4, ENTRIES)[k][slots[:, k]].astype(np.int64) for k in range(4)]
    expected = np.minimum(sum(terms), 255).ravel()
    np.testing.assert_array_equal(sums, expected)
    assert out[0] == expected.min()


def test_bits_of_the_bytes_that_are_not_above_a_limit() -> None:
    sums, out = np.resize(np.arange(0, 256, 7), 3 + PLACES).astype(np.uint8), np.empty(1, np.int64)
    for limit in (0, 7, 127, 128, 200, 254, 255):
        mark(sums, np.int64(limit), out)
        assert out.view(np.uint64)[0] == sum(1 << i for i in range(PLACES) if sums[3 + i] <= limit)


def test_distances_are_summed_up_in_halves() -> None:
    w, v = RNG.gamma(1.0, 1.0, 11).astype(np.float32), (40 * RNG.standard_normal(11)).astype(np.float32)
    vectors, out = RNG.integers(-126, 127, 20).astype(np.int8), np.empty(2, np.float32)
    measure(w, v, vectors, out)
    for n, found in ((8, out[0]), (4, out[1])):
        t = w[3 : 3 + n] * np.square(vectors[11 : 11 + n].astype(np.float32) - v[3 : 3 + n])
        while len(t) > 1:
            t = t[: len(t) // 2] + t[len(t) // 2 :]
        assert found == t[0]


def test_scaled_numbers_are_put_in_their_place() -> None:
    x, out = RNG.standard_normal(12).astype(np.float32), np.zeros(20, np.float32)
    scale(np.float32(0.7), x, out)
    np.testing.assert_array_equal(
        out, np.concatenate([[0, 0], x[1:9] * np.float32(0.7), x[3:7] * np.float32(0.7), [0] * 6])
    )


@pytest.mark.parametrize("features", ["", "+ssse3"])
def test_all_this_on_a_processor_without_the_instructions(features: str) -> None:
    code = (
        f"import {__name__} as t\nt.test_bytes_of_tables_are_added_up_to_255(256)\n"
        "t.test_bits_of_the_bytes_that_are_not_above_a_limit()\nt.test_distances_are_summed_up_in_halves()"
    )
    told = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": features, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **told}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
