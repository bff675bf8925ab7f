"""IQ4_XS against the slow scalar encoder."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qxmix.quants import codec_of, get
from qxmix.quants.api import dequantize, quantize
from qxmix.quants.codec import SEARCHES
from tests.quants.naive.super import iq4_xs


def row(seed: int) -> np.ndarray:
    """A super-block of ordinary weights, some of its blocks zero, constant, tiny, or of few values."""
    rng = np.random.default_rng(seed)
    x = rng.standard_t(3, 256).astype(np.float32).reshape(8, 32)
    for j in rng.choice(8, rng.integers(0, 4), replace=False):
        x[j] = [np.zeros(32), np.full(32, -0.5), x[j] * 1e-17, rng.choice([1.0, -8.0, 0.0], 32)][rng.integers(4)]
    return x.reshape(1, 256)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_bytes_equal_the_scalar_encoder(seed: int, weighted: bool, gradient: bool) -> None:
    x = row(seed)
    imatrix = (np.random.default_rng(seed).gamma(0.5, 1.0, 256) + 1e-4).astype(np.float32) if weighted else None
    expected = iq4_xs(list(x[0]), None if imatrix is None else list(imatrix), gradient=gradient)
    packed = np.empty((1, get("IQ4_XS").row_nbytes(256)), np.uint8)
    columns = np.empty(0, np.float32) if imatrix is None else imatrix
    codec_of("IQ4_XS").encode(x, columns, packed, SEARCHES.index("gradient" if gradient else "heuristic"))
    assert packed.tobytes() == expected


def test_a_zero_row_has_the_bytes_that_the_engines_write() -> None:
    expected = bytes([0, 0x80, 0xAA, 0xAA]) + bytes(4) + bytes([0x88]) * 128
    assert quantize(np.zeros((1, 256)), "IQ4_XS").tobytes() == expected


def test_blocks_without_importance_get_a_plain_fit() -> None:
    """The reference divides 0 by 0 there and stores NaN scales; here the weights of such a block count the same."""
    x = row(3)
    imatrix = np.ones(256, np.float32)
    plain = dequantize(quantize(x, "IQ4_XS", imatrix), "IQ4_XS", 256)
    imatrix[32:96] = 0
    y = dequantize(quantize(x, "IQ4_XS", imatrix), "IQ4_XS", 256)
    assert np.isfinite(y).all()
    np.testing.assert_allclose(np.square(x - y).sum(), np.square(x - plain).sum(), rtol=0.05)
