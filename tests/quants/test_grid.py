"""The grid I-quants against the slow scalar encoders, and what is special to them."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qxmix.quants import get
from qxmix.quants.api import dequantize, quantize
from qxmix.quants.grid.grids import LIST_STEP, load_grid
from tests.quants.naive.grid import KINDS, candidates, encode, levels_of

TYPES = list(KINDS)


def row(seed: int) -> np.ndarray:
    """A super-block of ordinary weights, some of its blocks zero, constant, tiny, or of few values."""
    rng = np.random.default_rng(seed)
    x = rng.standard_t(3, 256).astype(np.float32).reshape(8, 32)
    for j in rng.choice(8, rng.integers(0, 4), replace=False):
        x[j] = [np.zeros(32), np.full(32, -0.5), x[j] * 1e-9, rng.choice([1.0, -8.0, 0.0], 32)][rng.integers(4)]
    return x.reshape(1, 256)


def importance(seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).gamma(0.5, 1.0, 256) + 1e-4).astype(np.float32)


def error(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.sqrt(np.square(x - y).mean() / np.square(x).mean()))


@pytest.mark.parametrize("name", TYPES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), weighted=st.booleans())
def test_bytes_equal_the_scalar_encoder(name: str, seed: int, weighted: bool) -> None:
    x = row(seed)
    imatrix = importance(seed) if weighted or get(name).importance == "required" else None
    assert quantize(x, name, imatrix).tobytes() == encode(name, list(x[0]), None if imatrix is None else list(imatrix))


@pytest.mark.parametrize("name", TYPES)
def test_neighbour_lists_equal_a_plain_search(name: str) -> None:
    kind, grid = KINDS[name], load_grid(name, KINDS[name].n_wanted)
    bits = 2 if kind.n == 8 else 3
    codes = (levels_of(name) << bits * np.arange(kind.n)).sum(axis=1)
    np.testing.assert_array_equal(grid.index[codes], np.arange(len(codes)))
    for levels in np.random.default_rng(0).integers(0, kind.n_levels, (300, kind.n)).tolist():
        k = grid.index[sum(level << bits * i for i, level in enumerate(levels))]
        found = candidates(name, kind.n_wanted, tuple(levels))
        if k >= 0:
            assert found == [k]
            continue
        kept = grid.neighbours[grid.offsets[-1 - k] : grid.offsets[-k]].tolist()
        assert len(kept) % LIST_STEP == 0
        assert kept[: len(found)] == codes[found].tolist()
        assert set(kept[len(found) :]) <= {codes[found[-1]]}


def as_the_reference_places_it(data: np.ndarray, live: np.ndarray) -> np.ndarray:
    """IQ3_S bytes with ``qs`` and ``signs`` of the blocks after a zero block where the reference puts them."""
    wrong = data.copy()
    for at, n in ((2, 8), (74, 4)):
        parts = data[0, at : at + 8 * n].reshape(8, n)
        moved = np.concatenate([parts[live], np.zeros_like(parts[~live])])
        wrong[0, at : at + 8 * n] = moved.ravel()
    return wrong


def test_iq3_s_blocks_after_a_zero_block_stay_in_place() -> None:
    """The reference stores them too early: they decode to noise, worse than zeros.  Ours to what the type can do."""
    x = np.random.default_rng(1).normal(size=(1, 256)).astype(np.float32)
    full = dequantize(quantize(x, "IQ3_S"), "IQ3_S", 256)
    later = slice(64, 256)
    usual = error(x[0, later], full[0, later])
    x[0, 32:64] = 0
    live = np.arange(8) != 1
    ours = quantize(x, "IQ3_S")
    theirs = as_the_reference_places_it(ours, live)
    y = dequantize(ours, "IQ3_S", 256)
    z = gguf.quants.dequantize(theirs, gguf.GGMLQuantizationType.IQ3_S)
    assert error(x[0, later], y[0, later]) == pytest.approx(usual, rel=0.05)
    assert error(x[0, later], z[0, later]) > 1.0


@pytest.mark.parametrize("name", TYPES)
def test_zero_rows_are_zero_bytes(name: str) -> None:
    assert not quantize(np.zeros((2, 512), np.float32), name, np.ones(512, np.float32)).any()


@pytest.mark.parametrize("name", TYPES)
def test_blocks_without_importance_get_a_plain_fit(name: str) -> None:
    """Without the rule every trial of such a block explains 0 of 0, and nothing is found for it."""
    x = np.random.default_rng(4).normal(size=(1, 256)).astype(np.float32)
    imatrix = np.ones(256, np.float32)
    plain = dequantize(quantize(x, name, imatrix), name, 256)
    imatrix[32:96] = 0
    y = dequantize(quantize(x, name, imatrix), name, 256)
    assert np.isfinite(y).all()
    assert error(x, y) < 1.1 * error(x, plain)


@pytest.mark.parametrize("name", TYPES)
def test_importance_on_zeros_alone_stores_finite_values(name: str) -> None:
    x = np.random.default_rng(5).normal(size=(1, 256)).astype(np.float32)
    imatrix = np.zeros(256, np.float32)
    x[0, ::16] = 0
    imatrix[::16] = 1
    assert np.isfinite(dequantize(quantize(x, name, imatrix), name, 256)).all()
