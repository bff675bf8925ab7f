"""Interleaved types against their plain types, and the types of rows against slow scalar encoders."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import quants as gguf_quants

from qxmix.quants import QUANT_TYPES, get
from qxmix.quants.api import dequantize, quantize
from qxmix.quants.interleaved import q8_rows, rows_32, rows_grid, rows_k, rows_levels
from qxmix.quants.interleaved.interleave import _shape, _unweave, _weave
from qxmix.quants.interleaved.moves import Unit, fewest_moves
from tests.quants.naive import rows as naive

OWN = {"IQ1_S_R4", "IQ1_M_R4", "Q8_K_R8"}
"""Interleaved types with encoders of their own."""
PERMUTED = [t.name for t in QUANT_TYPES if t.codec and t.base and t.name not in OWN | {"BF16_R16"}]
CLEANED = {
    32: ("Q4_0_R8", "Q6_0_R4", "IQ4_NL_R4", "Q4_K_R4", "Q5_K_R4", "IQ4_XS_R8", "IQ2_XXS_R4", "IQ3_XXS_R4"),
    16: ("Q6_K_R4", "Q3_K_R4", "Q2_K_R4", "IQ2_XS_R4", "IQ2_S_R4", "IQ3_S_R4"),
}
"""Types for which ik_llama.cpp cleans importances of blocks of 32 and of 16, unlike for their plain types."""


def weights(n_rows: int, n_cols: int = 512, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(4, (n_rows, n_cols)).astype(np.float32)


def importance(n_cols: int = 512, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).gamma(1.0, 1.0, n_cols).astype(np.float32)


@pytest.mark.parametrize("name", PERMUTED)
def test_rows_decode_as_their_plain_type_does(name: str) -> None:
    x, imatrix, base = weights(16), importance(), get(name).base
    plain = dequantize(quantize(x, base, imatrix), base, 512)
    np.testing.assert_array_equal(dequantize(quantize(x, name, imatrix), name, 512), plain)


UNITS = [
    value
    for module in (rows_32, rows_k, rows_grid, rows_levels, q8_rows)
    for value in vars(module).values()
    if isinstance(value, Unit)
]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: f"{unit.n_rows}x{unit.nbytes}")
@pytest.mark.parametrize("n_units", [1, 16, 19])
def test_any_bytes_survive_weaving_and_unweaving(unit: Unit, n_units: int) -> None:
    moves, weave = fewest_moves(unit)
    plain = np.random.default_rng(4).integers(0, 256, (3 * unit.n_rows, unit.meta_nbytes + n_units * unit.nbytes))
    data, back = plain.astype(np.uint8), np.empty(plain.shape, np.uint8)
    shape = _shape(unit, moves)
    _weave(data, shape, weave.runs, weave.parts, weave.sources, weave.targets)
    assert (data != plain).any()
    _unweave(data, back, shape, moves.unweave, moves.n_whole)
    np.testing.assert_array_equal(back, plain)


def scrambled(x: np.ndarray) -> np.ndarray:
    """Weights some of whose blocks of 16 are zero, all but zero, or constant."""
    blocks = x.reshape(-1, 16)
    rng = np.random.default_rng(3)
    for j in rng.choice(len(blocks), len(blocks) // 6, replace=False):
        blocks[j] = [np.zeros(16), blocks[j] * np.float32(1e-10), np.full(16, 0.5)][rng.integers(3)]
    x[::8, :64] = 0
    return x


def unlikely(imatrix: np.ndarray) -> np.ndarray:
    """Importances that are zero or all but zero in some blocks of 16 or 32."""
    imatrix[64:96], imatrix[112:128], imatrix[128:160] = 0, 0, imatrix[128:160] * np.float32(1e-12)
    imatrix[240:250] = 0
    return imatrix


@pytest.mark.parametrize(("name", "block"), [(name, block) for block, names in CLEANED.items() for name in names])
def test_importances_are_cleaned_row_by_row(name: str, block: int) -> None:
    x, imatrix, base = scrambled(weights(16, 256)), unlikely(importance(256)), get(name).base
    decoded = dequantize(quantize(x, name, imatrix), name, 256)
    for row, found in zip(x, decoded, strict=True):
        own = np.array(naive.cleaned(list(row), list(imatrix), block), np.float32)
        plain = quantize(row[None], base, own)
        np.testing.assert_array_equal(dequantize(plain, base, 256)[0], found)


def test_cleaning_makes_a_difference() -> None:
    """Tiny importances of very different size say little about where the weights are wrong."""
    x, imatrix = weights(8, 256), importance(256)
    imatrix[:32] = np.geomspace(1e-18, 1e-10, 32)
    a, b = (dequantize(quantize(x, name, imatrix), name, 256) for name in ("IQ4_NL", "IQ4_NL_R4"))
    assert np.square(x - b)[:, :32].sum() < 0.9 * np.square(x - a)[:, :32].sum()
    np.testing.assert_array_equal(a[:, 32:], b[:, 32:])


def test_iq3_s_r4_is_right_behind_a_zero_block() -> None:
    """The reference stores all that follows a zero block of 32 too early: 8 bytes of indices, 4 of signs."""
    x = np.random.default_rng(5).standard_normal((4, 256)).astype(np.float32)
    x[:, 64:96] = 0
    packed = quantize(x, "IQ3_S_R4")
    wrong = quantize(x, "IQ3_S")
    wrong[:, 2 + 16 : 2 + 56] = wrong[:, 2 + 24 : 2 + 64]
    wrong[:, 74 + 8 : 74 + 28] = wrong[:, 74 + 12 : 74 + 32]
    behind = slice(96, 256)
    ours, theirs = (
        np.square(x - y)[:, behind].sum() / np.square(x)[:, behind].sum()
        for y in (dequantize(packed, "IQ3_S_R4", 256), dequantize(wrong, "IQ3_S", 256))
    )
    assert ours < 0.03
    assert theirs > 0.9


def test_q2_k_r4_keeps_ternary_rows_and_no_others() -> None:
    """Without importance, row by row: what the other rows of the group hold makes no difference."""
    x = weights(8)
    x[1], x[6] = 0.25 * np.sign(x[1]) * (abs(x[1]) > 0.7), np.sign(x[6])
    y = dequantize(quantize(x, "Q2_K_R4"), "Q2_K_R4", 512)
    np.testing.assert_array_equal(y[[1, 6]], x[[1, 6]])
    plain = dequantize(quantize(x, "Q2_K"), "Q2_K", 512)
    np.testing.assert_array_equal(y[[0, 2, 3, 4, 5, 7]], plain[[0, 2, 3, 4, 5, 7]])


def test_bf16_r16_cuts_off_and_pairs_columns() -> None:
    x = weights(32, 6)
    bits = (x.view(np.uint32) >> 16).astype(np.uint16)
    expected = bits.reshape(2, 16, 3, 2).transpose(0, 2, 1, 3).ravel()
    packed = quantize(x, "BF16_R16")
    np.testing.assert_array_equal(packed.view(np.uint16).ravel(), expected)
    np.testing.assert_array_equal(dequantize(packed, "BF16_R16", 6).view(np.uint32) >> 16, bits)


def edges(n_cols: int) -> np.ndarray:
    """Rows of ordinary weights, zeros, one magnitude, ties of the rounding, and one outlier."""
    x = weights(8, n_cols, 7)
    x[1], x[2], x[3] = 0, np.where(x[2] < 0, -0.75, 0.75), np.round(2 * x[3]) / 2
    x[3, 0], x[4, 5], x[5] = 127, 500, x[5] * np.float32(1e-30)
    x[6, :64], x[7, 64:80] = 0, np.sign(x[7, 64:80]) * np.float32(1e-8)
    return x


@pytest.mark.parametrize("name", ["Q8_KV", "IQ1_BN", "IQ2_BN"])
def test_plain_rows_equal_the_scalar_encoder(name: str) -> None:
    x = edges(128)
    expected = b"".join(getattr(naive, name.lower())(list(row)) for row in x)
    assert quantize(x, name).tobytes() == expected


def test_the_sum_of_a_long_row_is_exact() -> None:
    """One of floats would not be: each of 16 lanes gets 2 ** 18 bytes of 127, whose sum is above 2 ** 24."""
    n = (1 << 22) + 256
    x = np.full((1, n), 127, np.float32)
    x[0, -256:] = np.arange(256) % 3 + 1
    packed = quantize(x, "Q8_KV")[0]
    levels = packed[8:].view(np.int8)
    np.testing.assert_array_equal(levels, x[0])
    assert packed[4:8].view(np.int32)[0] == levels.sum(dtype=np.int64) == 127 * (1 << 22) + int(x[0, -256:].sum())


def test_q8_k_r8_equals_the_scalar_encoder() -> None:
    x = edges(512)
    rows = np.frombuffer(b"".join(naive.q8_k(list(row)) for row in x), np.uint8).reshape(8, 2, 258)
    packed = quantize(x, "Q8_K_R8").reshape(2, 8 * 258)
    for block in range(2):
        assert packed[block, :16].tobytes() == rows[:, block, :2].tobytes()
        expected = rows[:, block, 2:].reshape(8, 64, 4).transpose(1, 0, 2)
        assert packed[block, 16:].tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", ["Q8_KV", "Q8_KV_R8", "Q8_K_R8"])
def test_bytes_of_rows_too_small_to_scale_are_zero(name: str) -> None:
    """The reference divides by a scale that is zero or nearly so, and makes each level -128."""
    x = np.full((8, 256), 1e-40, np.float32)
    assert not quantize(x, name).any()


@pytest.mark.parametrize("name", ["IQ1_BN", "IQ2_BN", "IQ2_BN_R4"])
def test_ternary_rows_are_exact(name: str) -> None:
    x = np.random.default_rng(4).integers(-1, 2, (8, 192)).astype(np.float32) * np.float32(0.375)
    np.testing.assert_array_equal(dequantize(quantize(x, name), name, 192), x)


@pytest.mark.parametrize(("name", "weighted"), [("IQ1_S_R4", True), ("IQ1_M_R4", True), ("IQ1_M_R4", False)])
def test_iq1_rows_equal_the_scalar_encoder(name: str, weighted: bool) -> None:
    x = edges(96)[4:]
    imatrix = importance(96, 8)
    imatrix[16:32] = 0
    rows = [getattr(naive, name[:-3].lower() + "_row")(list(row), list(imatrix) if weighted else None) for row in x]
    nbytes = get(name).block_nbytes
    expected = b"".join(row[:2] for row in rows)
    for at in range(2, len(rows[0]), nbytes):
        blocks = [row[at : at + nbytes] for row in rows]
        expected += bytes(b[i] for i in range(4) for b in blocks)
        if name == "IQ1_S_R4":
            expected += b"".join(b[4:] for b in blocks)
        else:
            expected += bytes(b[i] for i in range(4, 7) for b in blocks)
    assert quantize(x, name, imatrix if weighted else None).tobytes() == expected


@pytest.mark.parametrize("name", ["IQ1_S_R4", "IQ1_M_R4"])
def test_zero_rows_get_the_grid_point_of_zeros(name: str) -> None:
    gguf_quants.IQ1_S.init_grid()
    assert not np.asarray(gguf_quants.IQ1_S.grid).reshape(2048, 8)[naive.ZEROS].any()
    packed = quantize(np.zeros((4, 32)), name, np.ones(32)).reshape(-1)
    assert not packed[:8].any()
    assert (packed[8:24] == naive.ZEROS & 255).all()
