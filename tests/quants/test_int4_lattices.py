"""int4 weights that were stored as floats come back whole from the type that ``inspect --lattice`` names.

Over all groups, both ranges, both floats, and importances of which some count next to nothing or nothing.  What could
be decoded is told by trying halves, with an own decoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from qxmix.container.header import read_header
from qxmix.execute.source import Source
from qxmix.measure.lattice import lattice_of
from qxmix.quants.api import dequantize, quantize
from tests.cli.test_lattice import in_units, stored
from tests.execute.plans import finish_model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

N_ROWS, N_COLS = 32, 512
NAME = "blk.0.attn_q.weight"
HALF_UNIT, ELSEWHERE = 0.5, 0.57
GROUPS, LEAST, STORED = (32, 64, 128, N_COLS), (-8, -7), ("BF16", "F16")


def integers(rng: np.random.Generator, group: int, least: int, how: str) -> NDArray[np.int64]:
    """(rows, groups, group) from ``least`` to 7, evenly or as rounding makes them; some all zero or constant."""
    shape = N_ROWS, N_COLS // group, group
    if how == "even":
        q = rng.integers(least, 8, shape)
    else:
        x = rng.standard_normal(shape) if how == "normal" else rng.laplace(size=shape)
        q = np.rint(x / np.abs(x).max(axis=-1, keepdims=True) * -least).clip(least, 7).astype(np.int64)
    q[3, 0], q[5, -1], q[6, 0] = 0, 3, least
    q[7, 0, :32], q[8, -1, -32:] = 0, 5
    q[9, 0] = np.where(rng.random(group) < 0.1, 7, 0)
    return q


def importance_of(rng: np.random.Generator, kind: str) -> NDArray[np.float32] | None:
    if kind == "none":
        return None
    values: NDArray[np.float64] = rng.gamma(0.5, 1, N_COLS) + 1e-3
    if kind == "wild":
        values = np.exp(2 * rng.standard_t(2, N_COLS).clip(-8, 8))
    elif kind == "holes":
        values = np.where(rng.random(N_COLS) < 0.5, 0, values)
    return values.astype(np.float32)


def decoded(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n_blocks, 32) of Q4_0: a half, and nibbles of the first sixteen weights below those of the others."""
    blocks = packed.reshape(-1, 18)
    codes = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1).astype(np.float32) - 8
    return blocks[:, :2].copy().view(np.float16).astype(np.float32) * codes


def possible(x: NDArray[np.float32], q: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n_blocks,) least of the largest distances of ``x`` (n_blocks, 32) to ``q``, or multiples of it, times a half."""
    divisor = np.gcd.reduce(q, axis=1, keepdims=True)
    least, some = np.zeros(len(x)), divisor[:, 0] > 0
    least[some] = np.inf
    for times in (*range(-8, 0), *range(1, 9)):
        codes = q // np.maximum(divisor, 1) * times
        fits = np.flatnonzero(some & (codes.min(axis=1) >= -8) & (codes.max(axis=1) <= 7))
        level, weight = codes[fits].astype(np.float32), x[fits]
        scale = (weight * level).sum(axis=1) / (level * level).sum(axis=1)
        first = np.abs(scale).astype(np.float16).view(np.uint16).astype(np.int64)
        for step in range(-8, 9):
            half = (first + step).clip(0, 0x7BFF).astype(np.uint16).view(np.float16).astype(np.float32)
            tried = (half * np.sign(scale))[:, None] * level
            least[fits] = np.minimum(least[fits], in_units(weight, tried))
    return least


def named(folder: Path, x: NDArray[np.float32], as_type: str) -> str | None:
    """The type that ``inspect --lattice`` names for a tensor."""
    writer = gguf.GGUFWriter(folder / "m.gguf", "llama")
    if as_type == "BF16":
        data = (x.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
        writer.add_tensor(NAME, data, raw_dtype=gguf.GGMLQuantizationType.BF16)
    else:
        writer.add_tensor(NAME, x.astype(np.float16))
    finish_model(writer, {})
    found = lattice_of(Source(read_header(folder / "m.gguf").tensors[0], folder / "m.gguf", None, None))
    assert found is not None
    assert found.bits == 4
    return found.type


@pytest.mark.parametrize("how", ["even", "normal", "laplace"])
@pytest.mark.parametrize("as_type", STORED)
@pytest.mark.parametrize("least", LEAST)
@pytest.mark.parametrize("group", GROUPS)
def test_every_integer_comes_back_and_as_near_as_halves_can(
    group: int, least: int, as_type: str, how: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng([group, -least, STORED.index(as_type), len(how)])
    q = integers(rng, group, least, how)
    scales = 0.01 * np.exp(rng.standard_t(4, (*q.shape[:2], 1)).clip(-4, 4)) * rng.choice([-1, 1], (*q.shape[:2], 1))
    x = stored((q * scales).reshape(N_ROWS, N_COLS), as_type)
    assert named(tmp_path, x, as_type) == "Q4_0"
    best = possible(x.reshape(-1, 32), q.reshape(-1, 32))
    for kind in ("none", "plain", "wild", "holes"):
        y = decoded(quantize(x, "Q4_0", importance_of(rng, kind), search="exhaustive"))
        np.testing.assert_array_equal(np.rint(y.reshape(q.shape) / scales), q, err_msg=kind)
        far = in_units(x.reshape(-1, 32), y)
        assert (far[best <= HALF_UNIT] <= HALF_UNIT).all(), kind
        assert far.max() <= ELSEWHERE, kind


@pytest.mark.parametrize("name", ["Q4_0", "Q5_0", "Q6_0"])
def test_a_column_that_counts_for_nothing_keeps_its_integer(name: str) -> None:
    """One importance of 32 is 10^8 times the others: alone it would allow any step that it is a multiple of."""
    rng, most = np.random.default_rng(6), {"Q4_0": 7, "Q5_0": 15, "Q6_0": 31}[name]
    q = rng.integers(-most, most + 1, (64, 8, 32))
    scales = 0.01 * np.exp(rng.standard_t(4, (64, 8, 1)).clip(-4, 4))
    x = stored((q * scales).reshape(64, 256), "BF16")
    importance = np.where(np.arange(256) % 32 == 5, 1e8, 1).astype(np.float32)
    packed = quantize(x, name, importance, search="exhaustive")
    np.testing.assert_array_equal(np.rint(dequantize(packed, name, 256).reshape(q.shape) / scales), q)
