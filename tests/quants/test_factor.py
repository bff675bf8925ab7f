"""Factors of scales and levels around zero, against the slow scalar encoders."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qxmix.quants import QUANT_TYPES, codec_of, get
from qxmix.quants.api import dequantize, quantize
from qxmix.quants.codec import encoder_for
from tests.quants.naive import grid, scalar

SEEDS = st.integers(0, 2**32 - 1)
ENGINES_OWN = {
    "IQ1_S": 1.125, "IQ1_M": 1.085, "IQ3_XXS": 1.0125, "IQ3_S": 1.033, "IQ2_K": 1.03, "IQ3_K": 1.01, "IQ2_KS": 1.03,
    "IQ2_KL": 1.025, "IQ4_KSS": 1.01, "IQ1_KT": 1.07,
}  # fmt: skip
"""What the engines multiply with; 1 for the others.  Their hidden factors stay whatever a recipe says."""
FACTOR_TYPES = [t.name for t in QUANT_TYPES if t.takes_factor and not t.base]


def weights(seed: int, n_rows: int = 2, n_cols: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(4, (n_rows, n_cols)).astype(np.float32)


def importances(seed: int, n: int = 256) -> np.ndarray:
    return (np.random.default_rng(seed).gamma(0.5, 1.0, n) + 1e-3).astype(np.float32)


def test_the_table_says_what_the_codecs_have() -> None:
    for kind in QUANT_TYPES:
        if kind.codec:
            codec = codec_of(kind.name)
            assert (kind.takes_factor, kind.has_symmetric) == (codec.scaled is not None, codec.symmetric is not None)


@pytest.mark.parametrize("name", FACTOR_TYPES)
def test_the_engines_own_factor_is_what_comes_without_one(name: str) -> None:
    x, w = weights(1), importances(2)
    own = ENGINES_OWN.get(name, 1.0)
    assert np.array_equal(quantize(x, name, w), quantize(x, name, w, scale=own))
    assert not np.array_equal(quantize(x, name, w), quantize(x, name, w, scale=own + 0.1))


@pytest.mark.parametrize("name", FACTOR_TYPES)
def test_a_factor_moves_the_stored_scale_and_nothing_else(name: str) -> None:
    """Each scale is the same float32 times the factor, rounded once as the type stores it."""
    x, w = weights(3), importances(4)
    kind = get(name)
    one = dequantize(quantize(x, name, w, scale=1.0), name, 256).astype(np.float64)
    two = dequantize(quantize(x, name, w, scale=2.0), name, 256).astype(np.float64)
    assert np.array_equal(two, 2 * one), "doubling is exact wherever scales are kept"
    some = dequantize(quantize(x, name, w, scale=1.3), name, 256).astype(np.float64)
    # Roundings of half a unit each: to float32 the factor, the scale, and the product with a level on either side; to
    # half precision the scale on either side.
    step = 4 * 2.0**-24 if kind.row_meta_nbytes == 4 else 2 * 2.0**-11
    assert (np.abs(some - 1.3 * one) <= 1.3 * np.abs(one) * step + 1e-12).all()


@pytest.mark.parametrize("name", ["IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"])
@pytest.mark.parametrize("factor", [0.947, 1.2])
def test_grid_types_with_a_factor_equal_the_scalar_encoder(name: str, factor: float) -> None:
    x, w = weights(10, 1), importances(11)
    assert quantize(x, name, w, scale=factor).tobytes() == grid.encode(name, list(x[0]), list(w), factor)


@pytest.mark.parametrize("name", ["IQ2_XS", "IQ3_S", "IQ1_M", "IQ2_KL", "IQ1_KT"])
@pytest.mark.parametrize("weighted", [True, False])
def test_auto_has_the_least_error(name: str, weighted: bool) -> None:
    if not weighted and get(name).importance == "required":
        pytest.skip("it needs an importance")
    x, w = weights(5, 16), importances(6) if weighted else None

    def error(scale: float | str | None) -> float:
        back = dequantize(quantize(x, name, w, scale=scale), name, 256)  # type: ignore[arg-type]
        return float((np.square(back - x, dtype=np.float64) * (1 if w is None else w)).sum())

    best = error("auto")
    assert best < error(None)
    assert best <= min(map(error, np.arange(0.8, 1.3, 0.02))) * 1.0002


@pytest.mark.parametrize(("name", "base"), [("IQ3_S_R4", "IQ3_S"), ("IQ2_K_R4", "IQ2_K")])
def test_interleaved_forms_take_the_factor_of_their_plain_type(name: str, base: str) -> None:
    x, w = weights(7, 4), importances(8)
    plain = dequantize(quantize(x, base, w, scale=0.9), base, 256)
    assert np.array_equal(dequantize(quantize(x, name, w, scale=0.9), name, 256), plain)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, odd=st.booleans())
def test_symmetric_q4_0_is_one_formula(seed: int, odd: bool) -> None:
    rng = np.random.default_rng(seed)
    x = weights(seed, 1, 64)
    if odd:
        x = rng.choice(np.array([0, -0.0, 1, -1, 7, -7, 3.5, 1e-20], np.float32), (1, 64))
        x[0, :32] *= rng.choice([0, 1])
    expected = scalar.q4_0_symmetric(list(x[0]))
    assert quantize(x, "Q4_0", symmetric=True).tobytes() == expected
    # The importance and the search do not matter.
    assert quantize(x, "Q4_0", importances(seed, 64), search="exhaustive", symmetric=True).tobytes() == expected


def test_symmetric_levels_give_int4_of_minus_7_to_7_back() -> None:
    """Kimi's lattice: in every block the largest magnitude is 7."""
    rng = np.random.default_rng(0)
    q = rng.integers(-7, 8, (8, 256)).astype(np.float32)
    q[:, ::32] = rng.choice([-7, 7], (8, 8))
    d = np.float16(rng.uniform(0.001, 0.1, (8, 8))).astype(np.float32).repeat(32, axis=1)
    back = dequantize(quantize(d * q, "Q4_0", symmetric=True), "Q4_0", 256)
    assert np.array_equal(np.rint(back / d), q)
    assert not np.array_equal(np.rint(dequantize(quantize(d * q, "Q4_0"), "Q4_0", 256) / d), q)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("Q4_K", {"symmetric": True}, "Q4_K has one kind of levels"),
        ("Q4_0", {"scale": 1.0}, "scales of Q4_0 are stored as they are found"),
        ("IQ3_S", {"scale": 3.0}, "scale is 3.0; it must be 'auto' or a number from 0.5 to 2.0"),
        ("IQ3_S", {"scale": "best"}, "scale is 'best'"),
        ("IQ4_K", {"scale": 1.1, "moments": np.eye(256)}, "error feedback has its own scales"),
        ("Q4_0", {"symmetric": True, "moments": np.eye(256)}, "error feedback has its own scales"),
    ],
)
def test_what_cannot_be_is_refused(name: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        quantize(weights(9), name, importances(9), **options)  # type: ignore[arg-type]


def test_what_a_codec_has_not_changes_nothing() -> None:
    codec = codec_of("Q5_0")
    assert encoder_for(codec, symmetric=True, scale=2.0) is codec.encode
