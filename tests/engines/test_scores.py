"""Scores against sums written out one term at a time."""

from __future__ import annotations

import math
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qxmix.engines.scores import Positions, log_softmax, score, summarize

N, N_VOCAB = 5, 7
# On a grid: float64 log-probabilities do not tell float32 neighbours of 0 apart.
LOGITS = arrays(np.float32, (N, N_VOCAB), elements=st.integers(-4000, 4000).map(lambda i: i / 64))
TARGETS = arrays(np.int32, N, elements=st.integers(0, N_VOCAB - 1))


def _log_probs(row: list[float]) -> list[float]:
    top = max(row)
    log_sum = top + math.log(math.fsum(math.exp(x - top) for x in row))
    return [x - log_sum for x in row]


def _has_one_top(log_probs: list[float]) -> bool:
    """Whether the likeliest token is so by more than rounding can decide."""
    first, second = sorted(log_probs)[-2:][::-1]
    return first - second > 1e-9


@given(LOGITS, LOGITS, TARGETS)
def test_positions_are_the_sums_written_out(logits: np.ndarray, base: np.ndarray, targets: np.ndarray) -> None:
    got = score(log_softmax(logits), targets, log_softmax(base))
    for i in range(N):
        ours, theirs, token = _log_probs(logits[i].tolist()), _log_probs(base[i].tolist()), int(targets[i])
        kld = math.fsum(math.exp(q) * (q - p) for p, q in zip(ours, theirs, strict=True))
        assert got.nll[i] == pytest.approx(-ours[token], rel=1e-12, abs=1e-12)
        assert got.kld[i] == pytest.approx(kld, rel=1e-10, abs=1e-12)
        assert got.kld[i] > -1e-12
        assert got.p_diff[i] == pytest.approx(math.exp(ours[token]) - math.exp(theirs[token]), abs=1e-14)
        if _has_one_top(ours) and _has_one_top(theirs):
            assert got.same_top[i] == (ours.index(max(ours)) == theirs.index(max(theirs)))


@given(LOGITS, TARGETS)
def test_a_model_is_its_own_base(logits: np.ndarray, targets: np.ndarray) -> None:
    same = log_softmax(logits)
    summary = summarize(score(same, targets, same))
    assert summary.mean_kld == summary.kld_99 == summary.rms_p_diff_percent == 0
    assert summary.same_top_percent == 100


@given(LOGITS, LOGITS, TARGETS)
def test_summary_is_the_statistics_written_out(logits: np.ndarray, base: np.ndarray, targets: np.ndarray) -> None:
    positions = score(log_softmax(logits), targets, log_softmax(base))
    summary = summarize(positions)
    nll = positions.nll.tolist()
    mean = math.fsum(nll) / N
    # The error of a mean of N values, carried through the exponential: what llama-perplexity prints.
    variance = math.fsum((x - mean) ** 2 for x in nll) / N
    assert summary.n_scored == N
    assert summary.ppl == pytest.approx(math.exp(mean))
    assert summary.ppl_error == pytest.approx(math.exp(mean) * math.sqrt(variance / (N - 1)), rel=1e-9, abs=1e-6)
    assert summary.mean_kld == pytest.approx(math.fsum(positions.kld) / N, abs=1e-12)
    assert summary.median_kld == pytest.approx(median(positions.kld.tolist()))
    ordered = sorted(positions.kld.tolist())
    assert summary.kld_99 == pytest.approx(ordered[-2] + 0.96 * (ordered[-1] - ordered[-2]))
    squares = math.fsum(x * x for x in positions.p_diff.tolist())
    assert summary.rms_p_diff_percent == pytest.approx(100 * math.sqrt(squares / N))


def test_parts_join_in_order() -> None:
    logits = np.arange(N * N_VOCAB, dtype=np.float32).reshape(N, N_VOCAB) % 5
    targets = np.arange(N, dtype=np.int32)
    base = log_softmax(logits[::-1])
    whole = score(log_softmax(logits), targets, base)
    parts = [score(log_softmax(logits[s]), targets[s], base[s]) for s in (slice(0, 2), slice(2, N))]
    joined = Positions.joined(parts)
    np.testing.assert_allclose(joined.nll, whole.nll, rtol=1e-15)
    np.testing.assert_allclose(joined.kld, whole.kld, rtol=1e-13)
    np.testing.assert_array_equal(joined.same_top, whole.same_top)


def test_hopeless_probabilities_stay_finite() -> None:
    logits = np.array([[0.0, -3e38, 100.0]], np.float32)
    base = np.array([[100.0, -3e38, 0.0]], np.float32)
    got = score(log_softmax(logits), np.array([0], np.int32), log_softmax(base))
    assert got.nll[0] == pytest.approx(100)
    assert got.kld[0] == pytest.approx(100)


def test_without_a_base_only_perplexity() -> None:
    summary = summarize(score(log_softmax(np.zeros((2, 4), np.float32)), np.array([0, 1], np.int32)))
    assert summary.ppl == pytest.approx(4)
    assert summary.ppl_error == 0
    assert summary.mean_kld is None
    assert summary.same_top_percent is None
