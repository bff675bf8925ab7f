"""Error feedback: against a slow scalar loop, by what it promises, and the same bytes however the work is cut."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qxmix.quants import QUANT_TYPES, codec_of, get
from qxmix.quants.api import dequantize, quantize
from qxmix.quants.feedback.correlations import EXACT, make_factors, pack_correlations, spans_of
from qxmix.quants.feedback.options import FACTORS_VERSION, Feedback
from tests.quants.naive import feedback as naive
from tests.quants.naive import feedback_grid, feedback_ternary, feedback_trellis
from tests.quants.naive.feedback_super import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

TYPES = ("Q4_0", "Q4_K", "IQ4_KS")
"""Few: each compiles for seconds.  A scale per block, per super-block with a minimum, and per row."""


def inputs(n_tokens: int, n_cols: int, seed: int = 0, strength: float = 1.0) -> NDArray[np.float64]:
    """Correlated activations (n_tokens, n_cols), some columns much larger than others."""
    rng = np.random.default_rng(seed)
    mixed = np.identity(n_cols) + strength * rng.standard_normal((n_cols, n_cols)) / np.sqrt(n_cols)
    a: NDArray[np.float64] = rng.standard_normal((n_tokens, n_cols)) @ mixed * np.exp(rng.standard_normal(n_cols))
    return a


def moments_of(n_cols: int, seed: int = 0, strength: float = 1.0) -> NDArray[np.float64]:
    a = inputs(4 * n_cols, n_cols, seed, strength)
    moments: NDArray[np.float64] = a.T @ a / len(a)
    return moments


def weights(n_rows: int, n_cols: int, seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_t(4, (n_rows, n_cols)).astype(np.float32)


def output_error(x: NDArray[np.float32], y: NDArray[np.float32], moments: NDArray[np.float64]) -> float:
    """``tr(E M E^T)`` within spans of 256 columns."""
    errors = x.astype(np.float64) - y
    spans = spans_of(moments)
    total = 0.0
    for i, m in enumerate(spans):
        part = errors[:, 256 * i : 256 * (i + 1)]
        n = part.shape[1]
        total += float(((part @ m[:n, :n]) * part).sum())
    return total


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([32, 96, 288]))
def test_against_the_scalar_loop(seed: int, n_cols: int) -> None:
    moments, x = moments_of(n_cols, seed), weights(2, n_cols, seed)
    columns = np.diagonal(moments).astype(np.float32)
    packed = quantize(x, "Q4_0", moments=moments)
    factors, failed = make_factors(pack_correlations(spans_of(moments), n_cols), columns, EXACT, Feedback())
    assert failed == -1
    for row, got in zip(x, dequantize(packed, "Q4_0", n_cols), strict=True):
        assert naive.decoded_row(list(row), list(columns), factors, 8) == got.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_super_blocks_against_the_scalar_loop(name: str) -> None:
    """Two super-blocks, which share a scale in the types with one for a row; a zero block and a large weight."""
    moments, x = moments_of(512), weights(1, 512, 7)
    x[0, 96:128], x[0, 300] = 0, 9.0
    columns = np.diagonal(moments).astype(np.float32)
    factors, _ = make_factors(pack_correlations(spans_of(moments), 512), columns, EXACT, Feedback())
    n = 512 if get(name).row_meta_nbytes else 256
    expected = []
    for at in range(0, 512, n):
        part = slice(at, at + n)
        expected += KINDS[name].decoded(list(x[0, part]), list(columns[part]), factors[at // 256 : (at + n) // 256])
    got = dequantize(quantize(x, name, moments=moments), name, 512)
    np.testing.assert_array_equal(got[0], expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*feedback_grid.KINDS, *feedback_ternary.KINDS])
def test_grid_types_against_the_scalar_loop(name: str) -> None:
    """A zero block, a large weight, columns that count nothing."""
    moments, x = moments_of(512), weights(1, 512, 7)
    x[0, 96:128], x[0, 300] = 0, 9.0
    columns = np.diagonal(moments).astype(np.float32)
    columns[40:48] = 0
    factors, _ = make_factors(pack_correlations(spans_of(moments), 512), columns, EXACT, Feedback())
    slow = feedback_ternary if name in feedback_ternary.KINDS else feedback_grid
    expected = slow.decoded(list(x[0]), factors, name, quantize(x, name, columns)[0])
    got = dequantize(quantize(x, name, columns, moments=moments), name, 512)
    np.testing.assert_array_equal(got[0], expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", feedback_trellis.TYPES)
def test_trellis_types_against_the_scalar_loop(name: str) -> None:
    """A zero block, a large weight, columns that count nothing; the second row is zero throughout."""
    moments, x = moments_of(512), np.concatenate([weights(1, 512, 7), np.zeros((1, 512), np.float32)])
    x[0, 96:128], x[0, 300] = 0, 9.0
    columns = np.diagonal(moments).astype(np.float32)
    columns[40:48] = 0
    factors, _ = make_factors(pack_correlations(spans_of(moments), 512), columns, EXACT, Feedback())
    usable = columns.copy()
    usable[40:48] = 1e-9
    packed = quantize(x, name, columns, moments=moments)
    got = dequantize(packed, name, 512)
    np.testing.assert_array_equal(got[0], feedback_trellis.decoded(name, x[0], columns, usable, factors))
    assert not packed[1].any()


def test_factors_are_those_of_the_inverse() -> None:
    """The form without an inverse is that of GPTQ; correlations are halves, so to three digits."""
    moments = moments_of(320)
    correlations = pack_correlations(spans_of(moments), 320)
    factors, failed = make_factors(correlations, np.diagonal(moments).astype(np.float32), EXACT, Feedback(0.02))
    assert failed == -1
    for part, span in ((slice(0, 256), factors[0]), (slice(256, 320), factors[1][:64, :64])):
        expected = naive.factor(moments[part, part], 0.02)
        np.testing.assert_allclose(np.triu(span, 1), expected, atol=2e-3 * np.abs(expected).max())
    assert not factors[1][64:].any()
    assert not factors[1][:, 64:].any()


def test_uncorrelated_inputs_give_back_nothing() -> None:
    """Then the scales are those of the encoder without feedback, and the levels the nearest ones."""
    name = "Q4_0"
    x, diag = weights(3, 256), np.random.default_rng(3).gamma(1.0, 1.0, 256).astype(np.float32)
    got = dequantize(quantize(x, name, moments=np.diag(diag)), name, 256)
    plain = dequantize(quantize(x, name, diag), name, 256)
    moved = got != plain
    assert moved.mean() < 0.1
    assert (np.abs(x - got)[moved] <= np.abs(x - plain)[moved]).all()


@pytest.mark.parametrize("name", TYPES)
def test_the_error_of_the_output_falls(name: str) -> None:
    n_cols = 512
    moments, x = moments_of(n_cols), weights(70, n_cols)
    diag = np.diagonal(moments).astype(np.float32)
    plain = output_error(x, dequantize(quantize(x, name, diag), name, n_cols), moments)
    ours = output_error(x, dequantize(quantize(x, name, moments=moments), name, n_cols), moments)
    assert ours < 0.9 * plain


@pytest.mark.slow
@pytest.mark.parametrize("name", [t.name for t in QUANT_TYPES if t.feeds_back and t.name not in TYPES])
def test_the_error_of_the_output_falls_for_every_type(name: str) -> None:
    test_the_error_of_the_output_falls(name)


def test_the_table_knows_the_types_with_feedback() -> None:
    assert [t.name for t in QUANT_TYPES if t.feeds_back] == [
        t.name for t in QUANT_TYPES if t.codec and codec_of(t.name).feedback is not None
    ]


@pytest.mark.parametrize("name", TYPES)
def test_bytes_do_not_depend_on_how_rows_are_cut(name: str) -> None:
    n_cols = 256
    moments, x = moments_of(n_cols), weights(130, n_cols)
    whole = quantize(x, name, moments=moments)
    with ThreadPoolExecutor(4) as pool:
        for step in (1, 7, 64):
            parts = pool.map(lambda i, n=step: quantize(x[i : i + n], name, moments=moments), range(0, len(x), step))
            np.testing.assert_array_equal(np.concatenate(list(parts)), whole)


@pytest.mark.parametrize("name", TYPES)
def test_odd_weights_and_importances(name: str) -> None:
    """Zero rows, one huge weight, columns without importance: finite results, and zero stays zero."""
    n_cols = 256
    moments, x = moments_of(n_cols, strength=3.0), weights(5, n_cols)
    x[1] = 0
    x[2] *= 1e-30
    x[3, 5] = 1e4
    columns = np.diagonal(moments).astype(np.float32)
    columns[32:96] = 0
    y = dequantize(quantize(x, name, columns, moments=moments), name, n_cols)
    assert np.isfinite(y).all()
    assert not y[1].any()
    assert not y[2].any()


def test_shrinking_everything_is_no_feedback() -> None:
    moments, x = moments_of(256), weights(4, 256)
    diag = np.diag(np.diagonal(moments))
    shrunk = quantize(x, "Q4_0", moments=moments, feedback=Feedback(shrink=1.0))
    np.testing.assert_array_equal(shrunk, quantize(x, "Q4_0", moments=diag))
    assert (shrunk != quantize(x, "Q4_0", moments=moments)).any()


def test_few_tokens_are_trusted_less() -> None:
    """What the number of tokens warrants: with many it is nearly all, with a handful nearly nothing."""
    a = inputs(256, 256)
    correlations = pack_correlations(spans_of(a.T @ a), 256)
    diag = (a**2).mean(0).astype(np.float32)
    factors = [make_factors(correlations, diag, n, Feedback())[0] for n in (0, 64, 1024, 1e5, EXACT)]
    size = [float(np.abs(np.triu(each, 1)).sum()) for each in factors]
    assert size[0] == 0
    assert size == sorted(size)
    fixed = [make_factors(correlations, diag, n, Feedback(shrink=0.3))[0] for n in (10, 1000)]
    np.testing.assert_array_equal(fixed[0], fixed[1])


def test_other_factors_have_another_version() -> None:
    """Reuse and resume trust the version: where the digest changes it has to rise."""
    rng = np.random.default_rng(5)
    correlations = (rng.uniform(-0.1, 0.1, 255 * 128) * (rng.random(255 * 128) < 0.1)).astype(np.float16)
    diag = rng.gamma(0.5, 1.0, 256).astype(np.float32)
    ways = [(n, options) for n in (16384, EXACT) for options in (Feedback(), Feedback(0.1, 0.5))]
    found = [make_factors(correlations, diag, *way)[0] for way in ways]
    digest = hashlib.sha256(np.concatenate(found).tobytes()).hexdigest()[:16]
    assert (FACTORS_VERSION, digest) == (2, "c8bf4c721ef45763")


ERRORS: dict[str, tuple[Callable[[NDArray[np.float64]], NDArray[np.float64]], str]] = {
    "shape": (lambda m: m[:64], r"moments have shape \(64, 256\); x has 256 columns, so it must be \(256, 256\)"),
    "NaN": (lambda m: np.where(np.arange(256) == 3, np.nan, m), r"moments\[0, 3\] is nan; moments must be finite"),
    "indefinite": (
        lambda m: np.full_like(m, -1.0) + 2 * np.identity(256),
        r"the moments of columns 0 to 255 are not positive definite, even with damp 0.01; raise it"),
}  # fmt: skip


@pytest.mark.parametrize("what", ERRORS)
def test_bad_moments(what: str) -> None:
    change, text = ERRORS[what]
    with pytest.raises(ValueError, match=text):
        quantize(weights(1, 256), "Q4_0", moments=change(moments_of(256)))


def test_a_type_without_feedback_says_so() -> None:
    assert codec_of("MXFP4").feedback is None
    with pytest.raises(ValueError, match="MXFP4 has no error feedback; leave out moments"):
        quantize(weights(1, 256), "MXFP4", moments=moments_of(256))
