"""The 32-weight types against the slow scalar encoders, and the bit routines against numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qxmix.quants import codec_of, get
from qxmix.quants.api import dequantize, quantize
from qxmix.quants.codec import SEARCHES
from qxmix.quants.common import numerics
from qxmix.quants.common.levels import IQ4_LEVELS, nearest_code, nearest_level
from qxmix.quants.jit import kernel
from tests.quants.naive import scalar as naive

if TYPE_CHECKING:
    from collections.abc import Callable

NAIVE: dict[str, Callable[..., bytes]] = {
    "Q4_0": naive.q4_0,
    "Q5_0": naive.q5_0,
    "Q6_0": naive.q6_0,
    "IQ4_NL": naive.iq4_nl,
    "Q8_0": naive.q8_0,
}


def rows() -> st.SearchStrategy[np.ndarray]:
    """Rows of two blocks: ordinary weights, and few distinct values for ties, zeros and tiny ones."""
    ordinary = st.integers(0, 2**32 - 1).map(
        lambda seed: np.random.default_rng(seed).standard_t(3, (1, 64)).astype(np.float32)
    )
    odd = arrays(np.float32, (1, 64), elements=st.sampled_from([0.0, 1.0, -1.0, 0.5, -8.0, 1e-20, 3.3e4, -0.0078125]))
    return ordinary | odd


def importances() -> st.SearchStrategy[np.ndarray | None]:
    some = st.integers(0, 2**32 - 1).map(
        lambda seed: (np.random.default_rng(seed).gamma(0.5, 1.0, 64) + 1e-4).astype(np.float32)
    )
    return st.none() | some


@pytest.mark.parametrize("name", NAIVE)
@settings(max_examples=15, deadline=None)
@given(x=rows(), imatrix=importances(), gradient=st.booleans())
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_bytes_equal_the_scalar_encoder(name: str, x: np.ndarray, imatrix: np.ndarray | None, gradient: bool) -> None:
    expected = NAIVE[name](list(x[0]), None if imatrix is None else list(imatrix), gradient=gradient)
    packed = np.empty((1, get(name).row_nbytes(x.shape[1])), np.uint8)
    columns = np.empty(0, np.float32) if imatrix is None else imatrix
    codec_of(name).encode(x, columns, packed, SEARCHES.index("gradient" if gradient else "heuristic"))
    assert packed.tobytes() == expected


@pytest.mark.parametrize("name", ["Q4_0", "Q5_0", "Q6_0", "IQ4_NL"])
def test_gradient_explains_no_less_than_heuristic(name: str) -> None:
    """In weighted error, over many blocks: what PR 295 is for."""
    rng = np.random.default_rng(9)
    x, imatrix = rng.standard_t(4, (64, 1024)).astype(np.float32), rng.gamma(1, 1, 1024).astype(np.float32)
    weight = imatrix * np.sqrt(np.square(x).mean(axis=1, keepdims=True) + np.square(x))
    error = {
        s: (weight * np.square(x - dequantize(quantize(x, name, imatrix, search=s), name, 1024))).sum()
        for s in ("gradient", "heuristic")
    }
    assert error["gradient"] < error["heuristic"]


@kernel
def _half_bits(x: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(x)):
        out[i] = numerics.half_bits(x[i])


@kernel
def _half_values(bits: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(bits)):
        out[i] = numerics.half_value(bits[i])


@kernel
def _nint(x: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(x)):
        out[i] = numerics.nint(x[i])


def test_every_half_is_decoded_as_numpy_does() -> None:
    bits = np.arange(65536, dtype=np.uint16)
    out = np.empty(65536, dtype=np.float32)
    _half_values(bits, out)
    np.testing.assert_array_equal(out, bits.view(np.float16).astype(np.float32))


def test_halves_are_rounded_as_numpy_does() -> None:
    rng = np.random.default_rng(1)
    exact = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32)
    exact = exact[np.isfinite(exact)]
    ties = ((exact[:-1].astype(np.float64) + exact[1:]) / 2).astype(np.float32)
    random = rng.integers(0, 2**32, 1_000_000, dtype=np.uint32).view(np.float32)
    x = np.concatenate([exact, ties, np.nextafter(ties, np.float32(0)), np.nextafter(ties, np.float32(9e9)), random])
    x = x[~np.isnan(x)]
    out = np.empty(len(x), dtype=np.uint16)
    _half_bits(x, out)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(out, x.astype(np.float16).view(np.uint16))


def test_every_nan_is_one_half() -> None:
    """A scale that overflowed: x86 makes the negative one of infinity by infinity, ARM64 the positive."""
    x = np.array([0x7FC00000, 0xFFC00000, 0x7F800001, 0xFFFFFFFF], dtype=np.uint32).view(np.float32)
    out = np.empty(len(x), dtype=np.uint16)
    _half_bits(x, out)
    assert out.tolist() == [0xFE00] * 4


@pytest.mark.parametrize("name", ["Q4_0", "Q5_0", "IQ4_NL"])
def test_blocks_whose_squares_overflow(name: str) -> None:
    """As x86 writes them, on every processor."""
    packed = quantize(np.full((1, 32), 3e38, np.float32), name, np.ones(32, np.float32))
    assert packed[0, :2].view(np.uint16)[0] == 0xFE00


def test_q8_0_of_blocks_whose_reciprocal_overflows() -> None:
    """No level is made of an infinity, of which x86 makes an integer whose byte is 0, and ARM64 one of 255."""
    x = np.full((1, 32), 1e-40, np.float32)
    x[0, ::3] = 0
    assert not quantize(x, "Q8_0").any()
    assert not quantize(-x, "Q8_0").any()


def test_nint_rounds_half_to_even() -> None:
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997, 3.7, -3.7], dtype=np.float32)
    out = np.empty_like(x)
    _nint(x, out)
    np.testing.assert_array_equal(out, np.rint(x))


def test_nearest_level_equals_the_two_subtractions() -> None:
    """On both sides of every flip, float by float, and far outside the table."""
    level_of, code_of = nearest_level(IQ4_LEVELS), nearest_code(IQ4_LEVELS)

    @kernel
    def both(x: np.ndarray, level: np.ndarray, code: np.ndarray) -> None:
        for i in range(len(x)):
            level[i] = level_of(x[i])
            code[i] = code_of(x[i])

    middles = ((IQ4_LEVELS[:-1] + IQ4_LEVELS[1:]) / 2).astype(np.float32)
    steps = [np.nextafter(middles, np.float32(s)) for s in (-1e9, 1e9)]
    x = np.concatenate([middles, *steps, IQ4_LEVELS, np.array([-1e9, 1e9, 0.0]), np.linspace(-130, 120, 999)])
    x = x.astype(np.float32)
    level, code = np.empty_like(x), np.empty_like(x)
    both(x, level, code)
    expected = [naive.near(naive.IQ4, v) for v in x]
    np.testing.assert_array_equal(code, expected)
    np.testing.assert_array_equal(level, IQ4_LEVELS[expected])
