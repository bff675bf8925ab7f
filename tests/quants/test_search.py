"""The three searches against each other, in what they all maximize, and against trying every code vector."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qxmix.quants.block32.iq4_nl import search_iq4
from qxmix.quants.codec import SEARCHES
from qxmix.quants.common.exhaustive_steps import stepping
from qxmix.quants.common.lanes import LANES
from qxmix.quants.common.levels import IQ4_LEVELS
from qxmix.quants.common.search import N_TWINS, linear_search
from qxmix.quants.common.search_table import table_best
from qxmix.quants.jit import inlined
from tests.bench import brute
from tests.quants.naive.roundings import best_explained

TABLE = 0
"""Stands for the level table among the values of nmax."""


def search(x: np.ndarray, w: np.ndarray, nmax: int, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Scales (n_blocks,) and levels (n, n_blocks) of blocks side by side, ``x`` and ``w`` (n, n_blocks)."""
    n, n_blocks = x.shape
    scales, levels = [], []
    for first in range(0, n_blocks, LANES):
        scale = np.empty(LANES, np.float32)
        a, b, q = (np.ones((n, LANES), np.float32) for _ in range(3))
        part = slice(first, min(first + LANES, n_blocks))
        a[:, : part.stop - first], b[:, : part.stop - first] = x[:, part], w[:, part]
        if nmax == TABLE:
            search_iq4(a, b, SEARCHES.index(method), scale, q)
        else:
            linear_search(nmax)(a, b, SEARCHES.index(method), scale, q)
        scales.append(scale[: part.stop - first])
        levels.append(q[:, : part.stop - first])
    return np.concatenate(scales), np.concatenate(levels, axis=1)


def explained(x: np.ndarray, w: np.ndarray, q: np.ndarray) -> np.ndarray:
    """``s1 * s1 / s2`` of each block in float64."""
    x, w, q = x.astype(np.float64), w.astype(np.float64), q.astype(np.float64)
    s1, s2 = (w * x * q).sum(axis=0), (w * q * q).sum(axis=0)
    gain: np.ndarray = np.square(s1) / np.where(s2 > 0, s2, 1)
    return gain


def blocks(n: int) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    """Blocks side by side with their weights: heavy tails, and few distinct values for ties and zeros."""

    def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        x = rng.standard_t(rng.uniform(1, 9), (n, LANES)) * 10.0 ** rng.integers(-6, 6, LANES)
        return x.astype(np.float32), rng.gamma(rng.uniform(0.2, 2), 1.0, (n, LANES)).astype(np.float32) + 1e-6

    values = st.sampled_from([0.0, 1.0, -1.0, 0.5, -0.25, 3.0, -7.0, 8.0, 127.0, -113.0])
    few = st.tuples(
        arrays(np.float32, (n, LANES), elements=values),
        arrays(np.float32, (n, LANES), elements=st.sampled_from([0.0, 0.25, 1.0, 16.0])),
    )
    return st.integers(0, 2**32 - 1).map(draw) | few


@pytest.mark.parametrize(("n", "nmax"), [(16, 4), (16, 32), (32, 8), (32, 16), (32, 32), (32, TABLE)])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_exhaustive_explains_no_less_than_gradient_and_that_no_less_than_heuristic(
    n: int, nmax: int, data: st.DataObject
) -> None:
    x, w = data.draw(blocks(n))
    gain = {method: explained(x, w, search(x, w, nmax, method)[1]) for method in SEARCHES}
    assert (gain["exhaustive"] >= gain["gradient"] * (1 - 1e-6)).all()
    assert (gain["gradient"] >= gain["heuristic"] * (1 - 1e-6)).all()


@pytest.mark.parametrize("levels", [np.arange(-3, 3), np.array([-9, -4, -1, 2, 6]), np.array([-4, -1, 1, 4])], ids=str)
def test_exhaustive_equals_trying_every_code_vector(levels: np.ndarray) -> None:
    rng = np.random.default_rng(5)
    n = 4
    levels = levels.astype(np.float32)
    x, w = rng.standard_normal((n, LANES)).astype(np.float32), rng.gamma(1, 1, (n, LANES)).astype(np.float32)
    x[0, 3:6] = 0
    x[1, 5] = -x[2, 5]
    q, scale = np.empty_like(x), np.empty(LANES, np.float32)
    table_best(levels)(x, w, 0, scale, q)
    every = [
        explained(x, w, np.broadcast_to(np.array(codes)[:, None], x.shape))
        for codes in itertools.product(levels, repeat=n)
    ]
    np.testing.assert_allclose(explained(x, w, q), np.max(every, axis=0), rtol=1e-6)
    np.testing.assert_allclose(best_explained(x.T, w.T, levels), np.max(every, axis=0), rtol=1e-12)
    best = (w * x * q).sum(axis=0) / (w * q * q).sum(axis=0)
    np.testing.assert_allclose(scale, best, rtol=1e-5)


def hard_blocks(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Heavy tails, values of few bits with ties, outliers without weight, multiples of one step, tiny and huge ones."""
    rng = np.random.default_rng(n)
    x, w = rng.standard_t(3, (n, LANES)), rng.gamma(0.5, 1.0, (n, LANES)) + 1e-6
    x[:, 8:24] = np.round(x[:, 8:24] * 4) / 4
    x[0, 24:32] *= 100
    w[0, 24:32] *= 1e-9
    x[:, 32:40] = np.round(x[:, 32:40]) * 0.37
    x[:, 40:48] *= 10.0 ** rng.integers(-12, 12, 8)
    w[:, 48:52] *= 10.0 ** rng.integers(-30, 9, (n, 4))
    return x.astype(np.float32), w.astype(np.float32)


@pytest.mark.parametrize(("n", "nmax"), [(16, 4), (16, 32), (32, 8), (32, 16), (32, 32), (32, TABLE)])
def test_exhaustive_explains_what_the_best_of_all_roundings_does(n: int, nmax: int) -> None:
    x, w = hard_blocks(n)
    levels = (IQ4_LEVELS if nmax == TABLE else np.arange(-nmax, nmax)).astype(np.float64)
    gain = explained(x, w, search(x, w, nmax, "exhaustive")[1])
    np.testing.assert_allclose(gain, best_explained(x.T, w.T, levels), rtol=1e-12)


@pytest.mark.parametrize("kind", brute.KINDS)
@pytest.mark.parametrize("name", brute.SEARCHED)
def test_the_exhaustive_search_of_a_type_explains_what_the_best_of_all_roundings_does(name: str, kind: str) -> None:
    """A thousandth of what ``python -m tests.bench.brute`` compares."""
    found = brute.differences(np.random.default_rng(len(kind)), name, kind, 3 * LANES)
    np.testing.assert_array_less(np.abs(found), brute.EQUAL)


def test_a_search_that_is_not_exhaustive_is_told() -> None:
    x, w = brute.draw(np.random.default_rng(1), "gaussian", LANES, 32)
    gain = explained(x.T, w.T, search(x.T.copy(), w.T.copy(), 8, "gradient")[1])
    assert (gain < best_explained(x, w, brute.SEARCHED["Q4_0"].levels) * (1 - brute.EQUAL)).any()


def test_exhaustive_of_a_block_without_values_or_weights_is_scale_zero() -> None:
    x, w = np.ones((8, LANES), np.float32), np.ones((8, LANES), np.float32)
    x[:, 0], w[:, 1] = 0, 0
    for nmax in (4, TABLE):
        scale, q = search(x, w, nmax, "exhaustive")
        assert scale[0] == scale[1] == 0
        assert np.isfinite(q).all()
        assert (scale[2:] != 0).all()


@inlined
def nearest_index(y: float, low: float, _high: float) -> float:
    return float(np.rint(y - low))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38])
def test_no_value_has_a_level_outside_of_the_table(value: float) -> None:
    """Error feedback makes NaN of weights near the largest float; what lies behind the levels is 777."""
    levels = np.append(np.arange(-4, 5), np.full(40, 777)).astype(np.float32)[:9]
    block, q = np.full((3 * 4, 8), 0.5, np.float32), np.zeros((4, LANES), np.float32)
    block[1] = value
    _, apply_steps = stepping(nearest_index)
    apply_steps(block, 3, levels, np.array([1.0, 1.0, 4.0, 4.0, 1.0]), q, 5)
    assert q[0, 5] == 2
    assert q[1, 5] in levels


def sphere(width: int) -> np.ndarray:
    """(3, n) points of an equirectangular map of the unit sphere, both poles included."""
    theta = np.linspace(0, 2 * np.pi, width, endpoint=False)
    phi = np.linspace(0, np.pi, width // 2)
    parts = (
        np.outer(np.sin(phi), np.cos(theta)),
        np.outer(np.sin(phi), np.sin(theta)),
        np.outer(np.cos(phi), 1 + 0 * theta),
    )
    return np.stack([part.ravel() for part in parts]).astype(np.float32)


SPHERE = {
    (4, "heuristic"): (0.985745, 0.997211),
    (4, "gradient"): (0.985745, 0.997237),
    (4, "exhaustive"): (0.985745, 0.997237),
    (8, "heuristic"): (0.996284, 0.999353),
    (8, "gradient"): (0.996284, 0.999437),
    (8, "exhaustive"): (0.996284, 0.999477),
    (16, "heuristic"): (0.999114, 0.999845),
    (16, "gradient"): (0.999183, 0.999872),
    (16, "exhaustive"): (0.999198, 0.999910),
    (TABLE, "heuristic"): (0.997754, 0.999399),
    (TABLE, "gradient"): (0.997940, 0.999489),
    (TABLE, "exhaustive"): (0.998516, 0.999740),
}
"""Least and mean cosine between unit vectors of three weights and their codes, from scalar versions of the searches."""


@pytest.mark.parametrize(("nmax", "method"), SPHERE)
def test_cosines_over_the_sphere(nmax: int, method: str) -> None:
    x = sphere(512)
    scale, q = search(x, np.ones_like(x), nmax, method)
    if nmax == TABLE:  # its codes are found again from the scale
        q = IQ4_LEVELS[np.abs((x / scale)[..., None] - IQ4_LEVELS).argmin(axis=-1)]
    y, x = (q * scale).astype(np.float64), x.astype(np.float64)
    cosine = (x * y).sum(axis=0) / np.sqrt((y * y).sum(axis=0) * (x * x).sum(axis=0))
    least, mean = SPHERE[nmax, method]
    assert cosine.min() == pytest.approx(least, abs=5.1e-7)
    assert cosine.mean() == pytest.approx(mean, abs=5.1e-7)
    assert cosine.max() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("nmax", [4, 8, 16, 32])
def test_trials_with_a_twin_have_its_scale_to_the_bit(nmax: int) -> None:
    """And under it the largest, and so every weight, stays short of the last half level, where levels are cut off."""
    for step in range(1, N_TWINS + 1):
        up = np.float32(nmax - 1) + np.float32(0.1) * np.float32(step)
        down = np.float32(nmax) + np.float32(0.1) * np.float32(step - 10)
        assert up == down < nmax - 0.55
