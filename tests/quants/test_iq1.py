"""IQ1_S and IQ1_M against the slow scalar encoders, and where they are right and the reference is not."""

from __future__ import annotations

import numpy as np
import pytest

from qxmix.quants.api import dequantize, quantize
from tests.quants.naive.iq1 import iq1_m, iq1_s


def row(seed: int) -> np.ndarray:
    """A super-block of ordinary weights, some of its blocks zero, constant, tiny, or of few values."""
    rng = np.random.default_rng(seed)
    x = rng.standard_t(3, 256).astype(np.float32).reshape(16, 16)
    for j in rng.choice(16, rng.integers(0, 8), replace=False):
        x[j] = [np.zeros(16), np.full(16, -0.5), x[j] * 1e-9, rng.choice([1.0, -1.0, 0.0], 16)][rng.integers(4)]
    return x.reshape(1, 256)


def importance(seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).gamma(0.5, 1.0, 256) + 1e-4).astype(np.float32)


@pytest.mark.parametrize("seed", range(6))
def test_iq1_s_bytes_equal_the_scalar_encoder(seed: int) -> None:
    x, imatrix = row(seed), importance(seed)
    assert quantize(x, "IQ1_S", imatrix).tobytes() == iq1_s(list(x[0]), list(imatrix))


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_iq1_m_bytes_equal_the_scalar_encoder(seed: int, weighted: bool) -> None:
    x, imatrix = row(seed), importance(seed) if weighted else None
    if weighted and seed == 1:
        assert imatrix is not None
        imatrix[17:32] = 0  # a block of which only the first weight counts, and so none
    expected = iq1_m(list(x[0]), None if imatrix is None else list(imatrix))
    assert quantize(x, "IQ1_M", imatrix).tobytes() == expected


@pytest.mark.parametrize("name", ["IQ1_S", "IQ1_M"])
def test_a_zero_row_is_all_zero_bytes(name: str) -> None:
    assert not quantize(np.zeros((1, 256)), name, np.ones(256)).any()


def test_iq1_m_zero_blocks_have_no_minus_bits_and_lose_less_for_it() -> None:
    """The reference gives a zero block the minus bits of the block before it."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 256)).astype(np.float32)
    x.reshape(64, 16, 16)[:, 1::2] = 0
    ours = quantize(x, "IQ1_M", np.ones(256))
    minus = ours[:, 32:48] & 0x88
    assert not minus[:, 1::2].any()
    assert minus[:, ::2].any()
    theirs = ours.copy()
    theirs[:, 33:48:2] |= minus[:, ::2]
    zero = np.zeros(256, bool)
    zero.reshape(16, 16)[1::2] = True
    error = [np.square(dequantize(data, "IQ1_M", 256)[:, zero]).sum() for data in (theirs, ours)]
    assert error[1] < 0.9 * error[0]


@pytest.mark.parametrize("name", ["IQ1_S", "IQ1_M"])
def test_blocks_without_importance_are_still_fitted(name: str) -> None:
    """The reference stops with an assertion at an IQ1_S block whose weights are all zero."""
    x = np.random.default_rng(3).standard_normal((1, 256)).astype(np.float32)
    imatrix = np.ones(256, np.float32)
    imatrix[32:96] = 0
    y = dequantize(quantize(x, name, imatrix), name, 256)
    lost, energy = np.square(x - y)[0, 32:96].sum(), np.square(x)[0, 32:96].sum()
    assert lost < 0.5 * energy
