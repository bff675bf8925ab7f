"""Weights of 2 to 6 bits that are multiples of steps which are multiples of one come back whole from Q3_K and Q6_K."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from qxmix.container.header import read_header
from qxmix.execute.source import Source
from qxmix.measure.lattice import lattice_of
from qxmix.quants.api import quantize
from qxmix.quants.common.lanes import LANES
from qxmix.quants.k_quants.lattice import find_lattices
from tests.cli.test_lattice import in_units, stored
from tests.execute.plans import write_model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

N_ROWS, N_COLS, SUPER = 32, 768, 256
KINDS = [("Q3_K", -4, 3), ("Q3_K", -3, 3), ("Q3_K", -2, 1), ("Q6_K", -32, 31), ("Q6_K", -31, 31), ("Q6_K", -16, 15)]
MOST = {"Q3_K": 32, "Q6_K": 128}
"""The scale of a block is at most one less."""


def heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    scales: NDArray[np.float64] = 0.01 * np.exp(rng.standard_t(4, shape).clip(-4, 4)) * rng.choice([-1, 1], shape)
    return scales


def made(
    rng: np.random.Generator, group: int, least: int, most: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Whole numbers (rows, groups, group), steps (rows, groups, 1), and how many times that of 256 weights these are.

    Groups below 256 have one to six times a common step.
    """
    shape = N_ROWS, N_COLS // group, group
    q = rng.integers(least, most + 1, shape)
    q[3, 0], q[5, -1], q[6, 0] = 0, 1, least
    q[7, 0, :16], q[8, -1, -32:] = 0, most
    if group >= SUPER:
        return q, heavy(rng, (*shape[:2], 1)), np.ones((1, 1, 1), np.int64)
    steps = np.repeat(heavy(rng, (N_ROWS, N_COLS // SUPER, 1)), SUPER // group, axis=1)
    times = rng.integers(1, 7, (*shape[:2], 1))
    return q, steps * times, times


def possible(x: NDArray[np.float32], whole: NDArray[np.int64], name: str) -> NDArray[np.float64]:
    """(n,) least of the largest distances of super-blocks ``x`` (n, 256) to ``whole`` times a half and a scale.

    Of all scales of the block with the largest step, and halves around that of least squares.
    """
    n = len(x)
    divisor = np.gcd.reduce(whole.reshape(n, 16, 16), axis=2)
    # Levels of each block that are as few as can be, and the steps that they leave, in units of their common part.
    steps = divisor // np.maximum(np.gcd.reduce(divisor, axis=1, keepdims=True), 1)
    levels = (whole.reshape(n, 16, 16) // np.maximum(divisor, 1)[..., None]).reshape(n, SUPER)
    best = np.where(whole.any(axis=1), np.inf, 0.0)
    for times in range(1, MOST[name]):
        scales = steps * times
        fits = np.flatnonzero((scales.max(axis=1) < MOST[name]) & whole.any(axis=1))
        product = np.repeat(scales[fits], 16, axis=1) * levels[fits].astype(np.float64)
        half = ((x[fits] * product).sum(axis=1) / (product * product).sum(axis=1)).astype(np.float16)
        for step in range(-6, 7):
            moved = (half.view(np.uint16).astype(np.int64) + step).astype(np.uint16).view(np.float16).astype(np.float32)
            block = moved[:, None] * np.repeat(scales[fits], 16, axis=1).astype(np.float32)
            far = in_units(x[fits], block * levels[fits].astype(np.float32)).reshape(-1, 8).max(axis=1)
            best[fits] = np.minimum(best[fits], far)
    return best


@pytest.mark.parametrize("as_type", ["BF16", "F16"])
@pytest.mark.parametrize("group", [32, 64, SUPER, N_COLS])
@pytest.mark.parametrize(("name", "least", "most"), KINDS)
def test_every_integer_comes_back_and_as_near_as_scales_can(
    name: str, least: int, most: int, group: int, as_type: str
) -> None:
    rng = np.random.default_rng([group, -least, most, len(as_type)])
    q, steps, times = made(rng, group, least, most)
    x = stored((q * steps).reshape(N_ROWS, N_COLS), as_type)
    best = possible(x.reshape(-1, SUPER), (q * times).reshape(-1, SUPER), name)
    wild = np.exp(2 * rng.standard_t(2, N_COLS).clip(-8, 8)).astype(np.float32)
    for importance in (None, wild):
        packed = quantize(x, name, importance, search="exhaustive")
        y = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[name])
        np.testing.assert_array_equal(np.rint(y.reshape(q.shape) / steps), q)
        far = in_units(x, y).reshape(-1, 8).max(axis=1)
        assert (far[best <= 0.5] <= 0.5).all()
        assert far.max() <= 0.65
        assert group < SUPER or far.max() <= 0.52


@pytest.mark.parametrize("as_type", ["BF16", "F16"])
@pytest.mark.parametrize(("nmax", "most"), [(4, 32), (32, 128)])
def test_ordinary_super_blocks_keep_the_scales_of_the_search(nmax: int, most: int, as_type: str) -> None:
    rng, told, levels = np.random.default_rng(2), np.empty(LANES, np.float32), np.empty((16, LANES), np.float32)
    shape = SUPER, LANES
    for x in (rng.standard_normal(shape), rng.standard_t(3, shape), rng.laplace(size=shape), np.zeros(shape)):
        find_lattices(np.ascontiguousarray(stored(x, as_type)), nmax, most, told, levels)
        assert not told.any()
    # Steps that are no multiples of one, as those of 32 weights each mostly are.
    free = rng.integers(1 - nmax, nmax, (8, 32, LANES)) * heavy(rng, (8, 1, LANES))
    find_lattices(np.ascontiguousarray(stored(free.reshape(shape), as_type)), nmax, most, told, levels)
    assert (told == 0).mean() > 0.95


@pytest.mark.parametrize(
    ("bits", "group", "engine", "keeper"),
    [
        (2, 256, "ik_llama.cpp", "Q3_K"), (3, 512, "llama.cpp", "Q3_K"), (3, 64, "llama.cpp", "Q4_0"),
        (6, 256, "llama.cpp", "Q6_K"), (6, 512, "ik_llama.cpp", "Q6_0"), (6, 128, "llama.cpp", "Q8_0"),
    ],
)  # fmt: skip
def test_the_smallest_type_is_named(bits: int, group: int, engine: str, keeper: str, tmp_path: Path) -> None:
    rng, top = np.random.default_rng(9), 2 ** (bits - 1)
    q, scales = rng.integers(-top, top, (16, 512 // group, group)), heavy(rng, (16, 512 // group, 1))
    write_model(tmp_path / "m.gguf", {"blk.0.attn_q.weight": (q * scales).reshape(16, 512).astype(np.float16)})
    source = Source(read_header(tmp_path / "m.gguf").tensors[0], tmp_path / "m.gguf", None, None)
    found = lattice_of(source, (engine,))  # type: ignore[arg-type]
    assert found is not None
    assert (found.bits, found.type) == (bits, keeper)
