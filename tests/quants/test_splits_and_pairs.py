"""IQ2_K, IQ2_KS, IQ2_KL and IQ4_KSS against the slow scalar encoders, and where their weights say nothing."""

from __future__ import annotations

import numpy as np
import pytest

from qxmix.quants.api import dequantize, quantize
from tests.quants.naive.even import iq4_kss
from tests.quants.naive.four_levels import iq2_k, iq2_ks
from tests.quants.naive.pairs import iq2_kl

NAMES = ["IQ2_K", "IQ2_KS", "IQ2_KL", "IQ4_KSS"]
OF_ROWS = {"IQ2_KS": iq2_ks, "IQ2_KL": iq2_kl, "IQ4_KSS": iq4_kss}


def row(seed: int) -> np.ndarray:
    """A super-block of ordinary weights, some of its blocks zero, constant, tiny, or of few values."""
    rng = np.random.default_rng(seed)
    x = rng.standard_t(3, 256).astype(np.float32).reshape(16, 16)
    for j in rng.choice(16, rng.integers(0, 8), replace=False):
        x[j] = [np.zeros(16), np.full(16, -0.5), x[j] * 1e-9, rng.choice([1.0, -1.0, 0.0, -0.0], 16)][rng.integers(4)]
    return x.reshape(1, 256)


def importance(seed: int) -> np.ndarray:
    """Importances, those of one block and of a few single weights zero."""
    rng = np.random.default_rng(seed)
    imatrix = rng.gamma(0.5, 1.0, 256).astype(np.float32)
    imatrix[rng.integers(256, size=20)] = 0
    imatrix.reshape(16, 16)[rng.integers(16)] = 0
    return imatrix


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_iq2_k_bytes_equal_the_scalar_encoder(seed: int, weighted: bool) -> None:
    x, imatrix = row(seed), importance(seed) if weighted else None
    expected = iq2_k(list(x[0]), None if imatrix is None else list(imatrix))
    assert quantize(x, "IQ2_K", imatrix).tobytes() == expected


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", OF_ROWS)
def test_bytes_of_a_row_equal_the_scalar_encoder(name: str, seed: int, weighted: bool) -> None:
    x = np.concatenate([row(seed), row(seed + 4)], axis=1)
    imatrix = np.concatenate([importance(seed), importance(seed + 4)]) if weighted else None
    expected = OF_ROWS[name](list(x[0]), None if imatrix is None else list(imatrix))
    assert quantize(x, name, imatrix).tobytes() == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_zero_row_is_all_zero_bytes(name: str) -> None:
    assert not quantize(np.zeros((1, 256)), name, np.ones(256)).any()


@pytest.mark.parametrize("name", NAMES)
def test_blocks_without_importance_are_still_fitted(name: str) -> None:
    x = np.random.default_rng(3).standard_normal((1, 256)).astype(np.float32)
    imatrix = np.ones(256, np.float32)
    imatrix[32:96] = 0
    y = dequantize(quantize(x, name, imatrix), name, 256)
    lost, energy = np.square(x - y)[0, 32:96].sum(), np.square(x)[0, 32:96].sum()
    assert lost < 0.15 * energy
