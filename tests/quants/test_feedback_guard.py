"""Where one column outweighs its span: the better of feedback and none, row by row."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
import pytest

from qxmix.quants import codec_of, get
from qxmix.quants.api import dequantize, quantize
from qxmix.quants.feedback.correlations import EXACT, make_factors, pack_correlations, spans_of
from qxmix.quants.feedback.guard import find_heavy, measure_loss
from qxmix.quants.feedback.options import Feedback

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

N, SPAN = 768, 256
HEAVY = 3 * SPAN // 2
"""A column of the second of three spans."""
TYPES = ("Q4_K", "IQ4_KS")
"""Few: each compiles for seconds.  A scale per super-block, and one per row."""


def moments(heavy: float = 3000.0) -> Floats:
    """Of correlated inputs, one of which has ``heavy`` times the amplitude of the others, as in real models."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((4 * N, N)) @ (np.identity(N) + rng.standard_normal((N, N)) / np.sqrt(N))
    a *= np.where(np.arange(N) == HEAVY, heavy, np.exp(rng.uniform(-0.5, 0.5, N)))
    m: Floats = a.T @ a / len(a)
    return m


def losses(x: NDArray[np.float32], y: NDArray[np.float32], m: Floats) -> Floats:
    """``e M e`` (n_rows, n_spans) of each span."""
    errors = (x.astype(np.float64) - y).reshape(len(x), -1, SPAN)
    found: Floats = np.einsum("rsi,sij,rsj->rs", errors, spans_of(m), errors)
    return found


@pytest.mark.parametrize("name", TYPES)
def test_a_heavy_column_makes_no_row_worse(name: str) -> None:
    m, x = moments(), np.random.default_rng(1).standard_t(4, (80, N)).astype(np.float32)
    diag = np.diagonal(m).astype(np.float32)
    plain, kept = quantize(x, name, diag), quantize(x, name, moments=m)
    alone = import_module(f"qxmix.quants.{get(name).codec}").CODECS[name]
    factors, _ = make_factors(pack_correlations(spans_of(m), N), diag, EXACT, Feedback())
    fed = np.empty_like(plain)
    alone.feedback(x, diag, factors, fed, 0)
    by_plain, by_fed, by_kept = (losses(x, dequantize(p, name, N), m) for p in (plain, fed, kept))
    assert by_fed[:, 1].sum() > 2 * by_plain[:, 1].sum()  # else there is nothing to guard against
    if get(name).row_meta_nbytes:
        by_plain, by_fed, by_kept = (each.sum(1, keepdims=True) for each in (by_plain, by_fed, by_kept))
        light = []
    else:
        light = [0, 2]
    np.testing.assert_array_equal(by_kept[:, light], by_fed[:, light])
    heavy = np.delete(by_kept, light, axis=1)
    least = np.minimum(np.delete(by_plain, light, axis=1), np.delete(by_fed, light, axis=1))
    np.testing.assert_allclose(heavy, least, rtol=1e-3)  # correlations are halves


@pytest.mark.parametrize("name", TYPES)
def test_without_one_all_of_it_is_feedback(name: str) -> None:
    m, x = moments(heavy=1.0), np.random.default_rng(1).standard_t(4, (3, N)).astype(np.float32)
    diag = np.diagonal(m).astype(np.float32)
    alone = import_module(f"qxmix.quants.{get(name).codec}").CODECS[name]
    factors, _ = make_factors(pack_correlations(spans_of(m), N), diag, EXACT, Feedback())
    fed = np.empty((3, get(name).row_nbytes(N)), np.uint8)
    alone.feedback(x, diag, factors, fed, 0)
    np.testing.assert_array_equal(quantize(x, name, moments=m), fed)


def test_the_loss_is_that_of_the_moments_without_what_is_added() -> None:
    m, rng = moments(), np.random.default_rng(2)
    x, y = (rng.standard_normal((5, N)).astype(np.float32) for _ in range(2))
    factors, _ = make_factors(
        pack_correlations(spans_of(m), N), np.diagonal(m).astype(np.float32), EXACT, Feedback(damp=0.05)
    )
    loss = np.empty(5, np.float64)
    measure_loss(x, y, factors, loss)
    np.testing.assert_allclose(loss, losses(x, y, m).sum(1), rtol=1e-3)


def test_what_outweighs_a_span() -> None:
    columns = np.ones(3 * SPAN, np.float32)
    columns[HEAVY] = 171  # of 171 + 255
    columns[-1] = np.nan
    heavy = np.full(3, 7, np.uint8)
    find_heavy(columns, heavy)
    assert heavy.tolist() == [0, 1, 0]
    columns[HEAVY] = 169
    find_heavy(columns, heavy)
    assert heavy.tolist() == [0, 0, 0]
    find_heavy(np.zeros(3 * SPAN, np.float32), heavy)
    assert heavy.tolist() == [0, 0, 0]


def test_the_version_counts_the_guard() -> None:
    for name in TYPES:
        alone = import_module(f"qxmix.quants.{get(name).codec}").CODECS[name]
        assert codec_of(name).version == alone.version + 1
        assert codec_of(name) is codec_of(name)
