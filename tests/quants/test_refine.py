"""Blocks that sit on a lattice come out whole of Q4_1, Q5_1 and Q8_0 where ``search: exhaustive`` is asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qxmix.quants import get
from qxmix.quants.api import dequantize, quantize
from tests.cli.test_lattice import in_units, stored
from tests.quants.naive import lattices

SEEDS = st.integers(0, 2**32 - 1)
GROUPS = st.sampled_from([32, 64, 128, 256])
STORED = st.sampled_from(["BF16", "F16", "F32"])
F = np.float32


def as_stored(x: np.ndarray, as_type: str) -> np.ndarray:
    return x.astype(F) if as_type == "F32" else stored(x, as_type)


def scales(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Heavy-tailed, 2e-4 to 0.5: halves are normal numbers there, and so are their products."""
    return np.asarray(0.01 * np.exp(rng.standard_t(4, shape).clip(-4, 4)))


def lattice(seed: int, bits: int, group: int, as_type: str, n_rows: int = 4) -> tuple[np.ndarray, ...]:
    """Weights (n_rows, 256), their integers and steps (n_rows, n, group); some groups all zero or constant."""
    rng, top = np.random.default_rng(seed), 2 ** (bits - 1) - 1
    q = rng.integers(-top, top + 1, (n_rows, 256 // group, group))
    q[0, 0], q[-1, -1] = 0, rng.integers(-top, top + 1)
    d = scales(rng, (n_rows, 256 // group, 1))
    return as_stored((q * d).reshape(n_rows, 256), as_type), q, d


def above_minimum(seed: int, bits: int, group: int, as_type: str, n_rows: int = 4) -> tuple[np.ndarray, ...]:
    """The same with minima of 0 to ``2 ** bits`` steps below zero, whole or not."""
    rng, n = np.random.default_rng(seed), 2**bits
    q = rng.integers(0, n, (n_rows, 256 // group, group))
    q[0, 0], q[-1, -1] = 0, rng.integers(0, n)
    d = scales(rng, (n_rows, 256 // group, 1))
    m = -d * (rng.integers(0, n, d.shape) if rng.random() < 0.5 else rng.uniform(0, n, d.shape))
    return as_stored((q * d + m).reshape(n_rows, 256), as_type), q, d, m


def moved(packed: np.ndarray, name: str, at: int, step: int) -> np.ndarray:
    """Blocks (n_blocks, nbytes) with the half at byte ``at`` moved by ``step``."""
    blocks = packed.reshape(-1, get(name).block_nbytes).copy()
    halves = blocks[:, at : at + 2].copy().view(np.uint16)
    blocks[:, at : at + 2] = (halves + np.uint16(step & 0xFFFF)).view(np.uint8)
    return blocks


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(2, 7), GROUPS, STORED)
def test_multiples_of_up_to_seven_bits_come_back_from_q8_0(seed: int, bits: int, group: int, as_type: str) -> None:
    x, q, d = lattice(seed, bits, group, as_type)
    y = dequantize(quantize(x, "Q8_0", search="exhaustive"), "Q8_0", 256)
    np.testing.assert_array_equal(np.rint(y.reshape(q.shape) / d), q)
    assert in_units(x, y).max() <= 0.65


@settings(max_examples=60, deadline=None)
@given(SEEDS, GROUPS, st.sampled_from(["F16", "F32"]))
def test_multiples_of_eight_bits_come_back_from_q8_0(seed: int, group: int, as_type: str) -> None:
    x, q, d = lattice(seed, 8, group, as_type)
    y = dequantize(quantize(x, "Q8_0", search="exhaustive"), "Q8_0", 256)
    np.testing.assert_array_equal(np.rint(y.reshape(q.shape) / d), q)


@settings(max_examples=60, deadline=None)
@given(SEEDS, GROUPS)
def test_of_eight_bits_in_bfloat16_all_come_back_that_the_weights_tell(seed: int, group: int) -> None:
    """One in 100,000 is stored as a bfloat16 that a multiple beside it of much the same step rounds to, too."""
    x, q, d = lattice(seed, 8, group, "BF16")
    y = dequantize(quantize(x, "Q8_0", search="exhaustive"), "Q8_0", 256)
    assert (np.rint(y.reshape(q.shape) / d) != q).sum() <= 2
    assert in_units(x, y).max() <= 0.65


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(2, 8), GROUPS)
def test_no_other_scale_of_q8_0_is_nearer(seed: int, bits: int, group: int) -> None:
    x, _, _ = lattice(seed, bits, group, "BF16")
    packed = quantize(x, "Q8_0", search="exhaustive")
    far = in_units(x, dequantize(packed, "Q8_0", 256))
    for step in range(-5, 6):
        other = in_units(x.reshape(-1, 32), dequantize(moved(packed, "Q8_0", 0, step), "Q8_0", 32))
        assert not (other < far).any()  # a scale of zero moved down is a NaN


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from([("Q4_1", 2), ("Q4_1", 3), ("Q4_1", 4), ("Q5_1", 5)]), GROUPS, STORED, st.booleans())
def test_codes_above_a_minimum_come_back(
    seed: int, kind: tuple[str, int], group: int, as_type: str, weighted: bool
) -> None:
    name, bits = kind
    x, q, d, m = above_minimum(seed, bits, group, as_type)
    importance = np.random.default_rng(seed).gamma(0.5, 1, 256).astype(F) if weighted else None
    y = dequantize(quantize(x, name, importance, search="exhaustive"), name, 256)
    np.testing.assert_array_equal(np.rint((y.reshape(q.shape) - m) / d), q)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.sampled_from([("Q4_1", 4), ("Q5_1", 5)]), GROUPS)
def test_with_a_minimum_it_is_within_half_a_unit_where_halves_can_be(
    seed: int, kind: tuple[str, int], group: int
) -> None:
    name, bits = kind
    x, *_ = above_minimum(seed, bits, group, "BF16")
    packed = quantize(x, name, search="exhaustive")
    far = in_units(x, dequantize(packed, name, 256))
    possible = np.full(len(far), np.inf)
    for step in range(-4, 5):
        for other in range(-4, 5):
            tried = moved(moved(packed, name, 0, step), name, 2, other)
            possible = np.minimum(possible, in_units(x.reshape(-1, 32), dequantize(tried, name, 32)))
    assert (far[possible <= 0.5] <= 0.5).all()
    assert (far[possible <= 0.65] <= 0.65).all()
    # Elsewhere no farther than the rounding of the minimum and of the scale.
    size = np.abs(x).reshape(-1, 32).max(axis=1)
    error = np.abs(x - dequantize(packed, name, 256)).reshape(-1, 32).max(axis=1)
    assert (error <= 2 * size * 2.0**-8).all()


@pytest.mark.parametrize(("name", "bits"), [("Q8_0", 7), ("Q8_0", 8), ("Q4_1", 4), ("Q5_1", 5)])
def test_where_it_is_farther_than_of_int4_so_is_every_other_scale(name: str, bits: int) -> None:
    """Of int4 all blocks are within 0.57; a half is too coarse for that where levels, or a minimum, are large."""
    rng, top, minimum = np.random.default_rng(bits), 2 ** (bits - 1) - 1, name != "Q8_0"
    q = rng.integers(0, 2**bits, (2000, 32)) if minimum else rng.integers(-top, top + 1, (2000, 32))
    d = scales(rng, (2000, 1))
    x = stored(q * d - (d * rng.uniform(0, 2**bits, d.shape) if minimum else 0), "BF16")
    packed = quantize(x, name, search="exhaustive")
    y = dequantize(packed, name, 32)
    far, possible = in_units(x, y), np.full(len(x), np.inf)
    kept = (np.rint((y - y.min(axis=1, keepdims=True)) / d) == q - q.min(axis=1, keepdims=True)).all(axis=1)
    for step in range(-16, 17):
        for other in range(-12, 13) if minimum else (0,):
            tried = moved(packed, name, 0, step)
            tried = moved(tried, name, 2, other) if minimum else tried
            possible = np.fmin(possible, in_units(x, dequantize(tried, name, 32)))
    none = possible > 0.57
    assert none.any()
    # What the weights do not tell (1 in 100,000 of 8 bits) may be another integer.
    assert (far[kept] <= np.where(possible[kept] <= 0.65, possible[kept] * 1.001, np.inf)).all()
    assert minimum or far[kept].max() <= 0.625
    assert (~kept).mean() <= 0.003


def test_a_minimum_next_to_nothing_does_not_lose_the_step() -> None:
    """Steps of 0.0034 from -1.4e-6 on: as a half it is off by more than a last place of its own."""
    codes = np.arange(32) % 15
    codes[5:8] = 15
    x = stored(0.0033828566 * codes - 1.4e-6, "BF16").reshape(1, 32)
    y = dequantize(quantize(x, "Q4_1", search="exhaustive"), "Q4_1", 32)
    assert np.abs(y - x).max() < 0.0034 / 20


@settings(max_examples=10, deadline=None)
@given(SEEDS, st.integers(2, 8), GROUPS, STORED)
def test_q8_0_is_what_trying_every_half_gives(seed: int, bits: int, group: int, as_type: str) -> None:
    x, _, _ = lattice(seed, bits, group, as_type, n_rows=2)
    x[-1, 32:64] = np.random.default_rng(seed).standard_t(4, 32)
    packed, plain = quantize(x, "Q8_0", search="exhaustive").reshape(2, -1, 34), quantize(x, "Q8_0").reshape(2, -1, 34)
    for row, made, without in zip(x, packed, plain, strict=True):
        for block, told, engines in zip(made, lattices.q8_0(row), without, strict=True):
            if told is None:
                np.testing.assert_array_equal(block, engines)
            else:
                assert (block[:2].view(np.float16)[0], block[2:].view(np.int8).tolist()) == told


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.sampled_from([("Q4_1", 4), ("Q5_1", 5)]), GROUPS, STORED)
def test_with_a_minimum_it_is_as_near_as_any_pair(seed: int, kind: tuple[str, int], group: int, as_type: str) -> None:
    name, bits = kind
    x, *_ = above_minimum(seed, bits, group, as_type, n_rows=1)
    y = dequantize(quantize(x, name, search="exhaustive"), name, 256)
    for block, back in zip(x.reshape(-1, 32), y.reshape(-1, 32), strict=True):
        xs = list(block)
        codes = lattices.codes_above(xs, 2**bits - 1)
        assert codes is not None
        slope, offset = np.polyfit(codes, block.astype(float), 1) if any(codes) else (0.0, float(block[0]))
        units = np.array([lattices.unit_of(x) for x in xs], float)
        best = lattices.best_pair(xs, codes, F(np.float16(slope)), units)
        if best > lattices.NEAR:
            units = np.maximum(units, max(abs(offset) * 2.0**-10, 2.0**-24))
            best = lattices.best_pair(xs, codes, F(np.float16(slope)), units)
        far = (np.abs(back.astype(float) - block) / units).max()
        assert far <= best * 1.001 + 1e-6


ORDINARY = st.sampled_from(["Q4_1", "Q5_1", "Q8_0", "Q8_0_R8"])


@settings(max_examples=40, deadline=None)
@given(SEEDS, ORDINARY, STORED, st.floats(-30, 4), st.booleans())
def test_other_blocks_keep_the_engines_bytes(
    seed: int, name: str, as_type: str, exponent: float, weighted: bool
) -> None:
    rng = np.random.default_rng(seed)
    # Halves hold no such small weights, which are then whole numbers of their least.
    assume(as_type != "F16" or exponent > -3)
    x = as_stored(np.clip(rng.standard_t(3, (8, 256)), -60, 60) * 10.0**exponent, as_type)
    importance = rng.gamma(0.5, 1, 256).astype(F) if weighted else None
    for search in ("heuristic", "exhaustive"):
        np.testing.assert_array_equal(quantize(x, name, importance, search=search), quantize(x, name, importance))


def test_a_block_of_eight_bits_is_told_by_those_of_its_row() -> None:
    """Of two steps that explain a block by itself, one explains the others of its row, too."""
    x, q, d = lattice(5, 8, 256, "BF16", n_rows=512)
    y = dequantize(quantize(x, "Q8_0", search="exhaustive"), "Q8_0", 256)
    wrong = np.rint(y.reshape(q.shape) / d) != q
    alone = dequantize(quantize(x.reshape(-1, 32), "Q8_0", search="exhaustive"), "Q8_0", 32)
    assert wrong.sum() < (np.rint(alone.reshape(q.shape) / d) != q).sum()


def test_minus_128_is_no_level_that_is_written() -> None:
    """Kernels of ik_llama.cpp add 127 to the levels, and a byte has no -1."""
    q = np.arange(-128, 128).reshape(1, 256)
    y = dequantize(quantize(q.astype(F), "Q8_0", search="exhaustive"), "Q8_0", 256)
    np.testing.assert_array_equal(y[0, 32:], q[0, 32:])
    assert quantize(q.astype(F), "Q8_0", search="exhaustive").reshape(-1, 34)[0, 2:].view(np.int8).min() == -127
