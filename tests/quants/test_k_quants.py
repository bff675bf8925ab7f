"""The K-quants, Q4_1 and Q5_1 against the slow scalar encoders, and where they differ from the engines on purpose."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qxmix.quants.api import dequantize, quantize
from tests.quants.naive import k as naive_k

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAIVE: dict[str, Callable[..., bytes]] = {
    "Q2_K": naive_k.q2_k,
    "Q3_K": naive_k.q3_k,
    "Q4_K": partial(naive_k.affine_k, nmax=15, first=-1.0, n_steps=20),
    "Q5_K": partial(naive_k.affine_k, nmax=31, first=-0.5, n_steps=15),
    "Q6_K": naive_k.q6_k,
    "Q4_1": partial(naive_k.affine32, nmax=15),
    "Q5_1": partial(naive_k.affine32, nmax=31),
}
SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "student": lambda x: x,
    "positive": abs,
    "negative": lambda x: -abs(x),
    "half zero": lambda x: np.where(np.arange(256) % 64 < 32, 0, x),
    "few values": lambda x: np.round(x) * np.float32(0.25),
    "one outlier": lambda x: np.where(np.arange(256) == 77, 50, x * np.float32(0.01)),
    "tiny": lambda x: x * np.float32(1e-9),
    "wide": lambda x: np.sign(x) * np.exp(np.abs(x)),
}


def values(shape: str, seed: int) -> np.ndarray:
    x = np.clip(np.random.default_rng(seed).standard_t(4, (1, 256)), -8, 8).astype(np.float32)
    return np.ascontiguousarray(SHAPES[shape](x), dtype=np.float32)


def importance(seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).gamma(0.5, 1.0, 256) + 1e-4).astype(np.float32)


@pytest.mark.parametrize("name", NAIVE)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_bytes_equal_the_scalar_encoder(name: str, shape: str) -> None:
    for seed in range(2):
        x, imatrix = values(shape, seed), importance(seed)
        assert quantize(x, name, imatrix).tobytes() == NAIVE[name](list(x[0]), list(imatrix))
        if name.endswith("K"):
            assert quantize(x, name).tobytes() == NAIVE[name](list(x[0]), None)


@pytest.mark.parametrize("name", ["Q3_K", "Q6_K"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_heuristic_equals_the_scalar_encoder(name: str, shape: str) -> None:
    x, imatrix = values(shape, 5), importance(5)
    expected = NAIVE[name](list(x[0]), list(imatrix), gradient=False)
    assert quantize(x, name, imatrix, search="heuristic").tobytes() == expected


@pytest.mark.parametrize("name", NAIVE)
@settings(max_examples=6, deadline=None)
@given(x=arrays(np.float32, (1, 256), elements=st.sampled_from([0.0, 1.0, -1.0, 0.5, -8.0, 3e-7, -0.0078125])))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_ties_and_zeros_equal_the_scalar_encoder(name: str, x: np.ndarray) -> None:
    imatrix = importance(3)
    assert quantize(x, name, imatrix).tobytes() == NAIVE[name](list(x[0]), list(imatrix))


@pytest.mark.parametrize("name", NAIVE)
@pytest.mark.parametrize("zeros", [slice(32, 64), slice(0, 256)], ids=["block", "row"])
def test_an_importance_of_zero_leaves_no_nan(name: str, zeros: slice) -> None:
    """The reference divides 0 by 0 there: Q6_K stores a NaN scale, Q4_K aborts."""
    x, imatrix = values("student", 1), importance(1)
    imatrix[zeros] = 0
    y = dequantize(quantize(x, name, imatrix), name, 256)
    assert np.isfinite(y).all()
    assert np.square(y - x)[:, zeros].sum() < 0.25 * np.square(x)[:, zeros].sum()


def relative_error(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.sqrt(np.square(x.astype(np.float64) - y).sum() / np.square(x.astype(np.float64)).sum()))


def ternary_of_all(x: np.ndarray) -> np.ndarray:
    """Decoded ternary levels as ik_llama.cpp makes them: of the largest magnitude of all rows it is handed."""
    m = np.abs(x).max()
    return np.where(x < -0.5 * m, -1, np.where(x < 0.5 * m, 0, 1)) * np.float32(np.float16(m))


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_q2_k_ternary_weights(noise: float) -> None:
    """llama.cpp's way, the search, loses a seventh and more; ik_llama.cpp's depends on the rows that come along."""
    rng = np.random.default_rng(7)
    size = np.repeat([0.02, 0.031], 4)[:, None] * (1 - noise * rng.random((8, 256)))
    x = (size * rng.integers(-1, 2, (8, 256))).astype(np.float32)
    ours = relative_error(x, dequantize(quantize(x, "Q2_K"), "Q2_K", 256))
    searched = b"".join(naive_k.q2_k(list(row), None) for row in x)
    search = relative_error(x, dequantize(np.frombuffer(searched, np.uint8).reshape(8, 84), "Q2_K", 256))
    assert search > 0.13
    assert relative_error(x, ternary_of_all(x)) > 0.3
    assert ours < (0.07 if noise else 0.0003)
    assert ours <= min(relative_error(row, ternary_of_all(row)) for row in (x[:4], x[4:])) + 1e-3


def test_q2_k_two_levels_need_no_ternary_form() -> None:
    x = (0.02 * np.random.default_rng(8).choice([-1, 1], (4, 256))).astype(np.float32)
    packed = quantize(x, "Q2_K")
    assert packed.tobytes() == b"".join(naive_k.q2_k(list(row), None) for row in x)
    assert relative_error(x, dequantize(packed, "Q2_K", 256)) < 0.003


def test_q3_k_exhaustive_needs_no_importance() -> None:
    """A search that is named counts every column alike, and the exhaustive one has the least error."""
    x = np.random.default_rng(9).standard_t(5, (64, 256)).astype(np.float32)
    errors = {}
    for search in ("gradient", "exhaustive"):
        y = dequantize(quantize(x, "Q3_K", search=search), "Q3_K", 256)
        errors[search] = (np.sqrt(x * x + np.square(x).mean(1, keepdims=True)) * np.square(x - y)).sum()
    assert errors["exhaustive"] < errors["gradient"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Q3_K", "Q4_K"])
def test_bytes_do_not_depend_on_the_cpu(name: str, tmp_path: Path) -> None:
    """Compiled for the least of CPUs, without fused multiply-adds and with four lanes to a register."""
    x, imatrix = values("student", 4), importance(4)
    np.savez(tmp_path / "in.npz", x=x, imatrix=imatrix)
    code = f"""
import numpy as np
from qxmix.quants.api import quantize
with np.load({str(tmp_path / "in.npz")!r}) as file:
    print(quantize(file["x"], {name!r}, file["imatrix"]).tobytes().hex())
"""
    cpu = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **cpu}, capture_output=True, check=True)
    assert bytes.fromhex(done.stdout.decode()) == quantize(x, name, imatrix).tobytes()
