"""F16 and BF16, whatever the CPU has for them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from qxmix.quants import codec_of

Floats = NDArray[np.float32]


def inputs() -> Floats:
    """Every half, every middle of two and its neighbours, what overflows, NaNs of all kinds, and random bits."""
    exact = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32)
    finite = np.append(exact[np.isfinite(exact)], np.array([65536, -65536], np.float32))
    ties = ((finite[:-1].astype(np.float64) + finite[1:]) / 2).astype(np.float32)
    sides = [np.nextafter(ties, np.float32(end)) for end in (-np.inf, np.inf)]
    nans = (np.uint32(0x7F800000) + (np.uint32(1) << np.arange(23, dtype=np.uint32))).view(np.float32)
    random = np.random.default_rng(1).integers(0, 2**32, 300_000, dtype=np.uint32).view(np.float32)
    return np.concatenate(
        [exact, ties, *sides, nans, -nans, np.array([3e38, -3e38, 1e-40, -1e-40], np.float32), random]
    )


def encoded(name: str, x: Floats) -> NDArray[np.uint16]:
    packed = np.zeros((1, 2 * len(x)), np.uint8)
    codec_of(name).encode(x[None], np.empty(0, np.float32), packed, 0)
    bits: NDArray[np.uint16] = packed.view(np.uint16)[0]
    return bits


def digest() -> str:
    return hashlib.sha256(encoded("F16", inputs()).tobytes() + encoded("BF16", inputs()).tobytes()).hexdigest()


def test_halves_are_rounded_as_numpy_does_and_each_nan_becomes_the_quiet_one_of_its_sign() -> None:
    x = inputs()
    with np.errstate(over="ignore", invalid="ignore"):
        expected = x.astype(np.float16).view(np.uint16)
    nan = np.isnan(x)
    expected[nan] = np.where(np.signbit(x[nan]), 0xFE00, 0x7E00)
    np.testing.assert_array_equal(encoded("F16", x), expected)


def test_bfloats_are_rounded_to_even_and_each_nan_becomes_quiet() -> None:
    x = inputs()
    bits = x.view(np.uint32).astype(np.uint64)
    expected = np.where(np.isnan(x), bits >> 16 | 64, (bits + 0x7FFF + (bits >> 16 & 1)) >> 16)
    np.testing.assert_array_equal(encoded("BF16", x), expected.astype(np.uint16))


@pytest.mark.parametrize("n", [1, 2, 7, 8, 15, 31, 33, 63])
def test_rows_of_any_length_are_rounded(n: int) -> None:
    x = np.linspace(-3, 70000, n, dtype=np.float32)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(encoded("F16", x), x.astype(np.float16).view(np.uint16))


def test_a_cpu_without_the_instruction_makes_the_same_bytes() -> None:
    code = "from tests.quants.test_floats import digest; print(digest())"
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest()
