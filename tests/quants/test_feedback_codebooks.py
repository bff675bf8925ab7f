"""Error feedback of the grid and the trellis types, which choose scales and vectors anew: what holds of any rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qxmix.quants.api import dequantize, quantize
from qxmix.quants.grid.grids import grid_points
from qxmix.quants.grid.halves import WIDE, halves_of
from qxmix.quants.grid.ternary_search import ternary_points
from tests.quants.naive.feedback_grid import KINDS
from tests.quants.naive.feedback_ternary import KINDS as TERNARY
from tests.quants.naive.feedback_trellis import TYPES as TRELLIS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

GRID = tuple(KINDS)
TYPES = (*GRID, *TERNARY, *TRELLIS)
N = 256
DAMP = 0.01

pytestmark = pytest.mark.slow  # each type compiles for seconds


def correlated(seed: int, heavy: float = 1.0) -> NDArray[np.float64]:
    """Moments of 256 correlated inputs, the 100th with ``heavy`` times the amplitude."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((1024, N)) @ (np.identity(N) + rng.standard_normal((N, N)) / 16)
    a *= np.where(np.arange(N) == 100, heavy, np.exp(rng.uniform(-1, 1, N)))
    m: NDArray[np.float64] = a.T @ a / len(a)
    return m


def rows(seed: int, n: int, tail: float = 4.0) -> Floats:
    return np.random.default_rng(seed).standard_t(tail, (n, N)).astype(np.float32)


def both(x: Floats, name: str, m: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``e m e`` (n_rows,) without feedback and with it."""
    packed = quantize(x, name, np.diagonal(m).astype(np.float32)), quantize(x, name, moments=m)
    errors = [x.astype(np.float64) - dequantize(p, name, N) for p in packed]
    plain, fed = (np.einsum("ri,ij,rj->r", e, m, e) for e in errors)
    return plain, fed


@pytest.mark.parametrize("name", TYPES)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), tail=st.sampled_from([2.0, 4.0, 30.0]))
def test_uncorrelated_inputs_make_nothing_worse(name: str, seed: int, tail: float) -> None:
    """Nothing is carried then, and what the encoder without feedback found is among what is chosen from.

    Not so for IQ1_S and IQ1_M, which try the two scales that would leave least; they are held to it all the same.
    """
    m = np.diag(np.random.default_rng(seed).gamma(2.0, 1.0, N))
    plain, fed = both(rows(seed, 6, tail), name, m + DAMP * np.diagonal(m).mean() * np.identity(N))
    assert fed.sum() <= plain.sum()


@pytest.mark.parametrize("name", TYPES)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_correlated_inputs_take_errors_back(name: str, seed: int) -> None:
    plain, fed = both(rows(seed, 24), name, correlated(seed))
    assert fed.sum() < 0.9 * plain.sum()


@pytest.mark.parametrize("name", TRELLIS)
def test_large_weights_of_a_column_that_seldom_fired_are_kept(name: str) -> None:
    """It may fire in another text: its error is no larger a share than without feedback."""
    diag, x = np.ones(N), rows(5, 256, tail=30.0)
    diag[100] = 0.02
    x[:, 100] *= 2
    packed = quantize(x, name, diag.astype(np.float32)), quantize(x, name, moments=np.diag(diag))
    errors = [(x - dequantize(p, name, N)) ** 2 for p in packed]
    plain, fed = (float(e[:, 100].mean() / e.mean()) for e in errors)
    assert fed < plain


@pytest.mark.parametrize("name", TYPES)
def test_a_column_that_outweighs_all_others_makes_no_row_worse(name: str) -> None:
    plain, fed = both(rows(3, 70), name, correlated(3, heavy=3000.0))
    assert (fed <= plain * 1.001).all()  # correlations are halves
    assert fed.sum() < plain.sum()


@pytest.mark.parametrize("name", TYPES)
@settings(max_examples=6, deadline=None)
@given(
    exponents=st.lists(st.integers(-44, 37), min_size=4, max_size=4),
    at=st.integers(0, N - 1),
    huge=st.sampled_from([1.0, 1e4, 1e30]),
)
def test_whatever_is_decoded_is_finite_and_zero_rows_stay_zero(
    name: str, exponents: list[int], at: int, huge: float
) -> None:
    x = rows(1, 5)
    x[:4] *= np.array([10.0**e for e in exponents], np.float32)[:, None]
    x[2, at], x[4] = huge, 0
    m = correlated(2)
    columns = np.diagonal(m).astype(np.float32)
    columns[32:96] = 0
    packed = quantize(np.clip(x, -60000, 60000), name, columns, moments=m)  # a half holds no larger scale
    y = dequantize(packed, name, N)
    assert np.isfinite(y).all()
    assert not y[4].any()


@pytest.mark.parametrize("name", TYPES)
def test_a_row_does_not_depend_on_the_others(name: str) -> None:
    m, x = correlated(5), rows(5, 67)
    whole = quantize(x, name, moments=m)
    for part in (slice(0, 1), slice(1, 8), slice(8, 67)):
        np.testing.assert_array_equal(quantize(x[part], name, moments=m), whole[part])
    order = np.random.default_rng(0).permutation(len(x))
    np.testing.assert_array_equal(quantize(x[order], name, moments=m), whole[order])


@pytest.mark.parametrize("name", [*GRID, "IQ1_S"])
def test_halves_make_all_points(name: str) -> None:
    points = grid_points(name)
    heads, tails, starts, behind, numbers = halves_of(points)
    assert sorted(numbers.tolist()) == list(range(len(points)))
    assert (starts[0], starts[-1]) == (0, len(points))
    of = np.searchsorted(starts, np.arange(len(points)), side="right") - 1
    np.testing.assert_array_equal(np.hstack([heads[of], tails[behind // WIDE]]), points[numbers])
    assert (np.diff(of * len(tails) + behind // WIDE) > 0).all()


def test_terms_are_the_second_halves_behind_each_first_one() -> None:
    found = ternary_points()
    made = [{i} for i in range(81)]
    for i, j in found.joined // WIDE:
        made.append(made[i] | made[j])
    for h in range(81):
        terms = [made[i] for i in found.terms[found.term_starts[h] : found.term_starts[h + 1]] // WIDE]
        assert set.union(*terms) == set((found.behind[found.starts[h] : found.starts[h + 1]] // WIDE).tolist())
    assert len(found.terms) + len(found.joined) < len(found.behind) / 2
