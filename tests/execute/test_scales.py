"""The check of scales: every place that the table names decides the decoded weights, and finite ones pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from qxmix import quants
from qxmix.execute.scales import bad_group
from qxmix.quants import QUANT_TYPES, QuantType

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_ROWS = 16
DECODED = [t for t in QUANT_TYPES if t.codec]
SCALED = [t for t in DECODED if t.row_meta_nbytes or t.name not in {"F32", "F16", "BF16"}]
# Every scale byte of MXFP4 and NVFP4 stands for a finite number; IQ1_M's is spread over nibbles and has its own test.
ONE_BY_ONE = [t for t in SCALED if t.row_group == 1 and t.name not in {"MXFP4", "NVFP4", "IQ1_M"}]
INTERLEAVED = [t for t in QUANT_TYPES if t.row_group > 1 and t.base != "MXFP4"]


def name_of(quant_type: QuantType) -> str:
    return quant_type.name


def encoded(quant_type: QuantType) -> NDArray[np.uint8]:
    """Sixteen rows of two blocks."""
    encode = quants.codec_of(quant_type.name).encode
    n_cols = 2 * max(quant_type.block_size, 32)
    rows = np.random.default_rng(3).normal(0, 0.1, (N_ROWS, n_cols)).astype(np.float32)
    packed = np.zeros((N_ROWS, quant_type.row_nbytes(n_cols)), np.uint8)
    encode(rows, np.ones(n_cols, np.float32), packed, 0)
    return packed


def decoded(quant_type: QuantType, packed: NDArray[np.uint8]) -> bool:
    """Whether each row decodes to finite weights only."""
    rows = np.zeros((N_ROWS, 2 * max(quant_type.block_size, 32)), np.float32)
    quants.codec_of(quant_type.name).decode(packed, rows)
    return bool(np.isfinite(rows).all())


@pytest.mark.slow
@pytest.mark.parametrize("quant_type", DECODED, ids=name_of)
def test_finite_scales_pass(quant_type: QuantType) -> None:
    assert bad_group(quant_type, encoded(quant_type)) is None


def places(quant_type: QuantType) -> list[tuple[int, bytes]]:
    """Offsets in a row of each scale of its second block, or of the row, and the bytes of an infinity there."""
    if quant_type.row_meta_nbytes == 2:
        return [(0, b"\x00\x7c")]
    if quant_type.row_meta_nbytes:
        return [(0, b"\x00\x00\x80\x7f")]
    return [(quant_type.block_nbytes + offset, b"\x00\x7c") for offset in quant_type.scales]


@pytest.mark.slow
@pytest.mark.parametrize("quant_type", ONE_BY_ONE, ids=name_of)
def test_an_infinite_scale_is_found_and_is_one(quant_type: QuantType) -> None:
    packed = encoded(quant_type)
    assert places(quant_type), "the table knows where its scales are"
    for offset, infinity in places(quant_type):
        broken = packed.copy()
        broken[5, offset : offset + len(infinity)] = np.frombuffer(infinity, np.uint8)
        assert bad_group(quant_type, broken) == 5
        assert not decoded(quant_type, broken), "so the place is a scale, and not something else"


@pytest.mark.parametrize(("name", "infinity"), [("F16", 0x7C00), ("F16", 0xFC01), ("BF16", 0x7F80), ("BF16", 0xFFFF)])
def test_floats_that_overflow(name: str, infinity: int) -> None:
    values = np.full((N_ROWS, 64), 0x3C00, np.uint16)
    assert bad_group(quants.get(name), values.view(np.uint8)) is None
    values[7, 63] = infinity
    assert bad_group(quants.get(name), values.view(np.uint8)) == 7


@pytest.mark.parametrize("quant_type", INTERLEAVED, ids=name_of)
def test_interleaved_rows_are_told_by_group(quant_type: QuantType) -> None:
    n = quant_type.row_group
    packed = np.zeros((4 * n, quant_type.row_nbytes(2 * max(quant_type.block_size, 32))), np.uint8)
    assert bad_group(quant_type, packed) is None
    group = packed.reshape(4, -1)[2]
    # The last scale of the group: float32 or float16 in front, or float16 at the start of each run of blocks.
    if quant_type.row_meta_nbytes >= 4:
        group[4 * n - 4 : 4 * n] = (0, 0, 0x80, 0x7F)
    elif quant_type.name == "BF16_R16":
        group[-2:] = (0x80, 0x7F)
    else:
        group[2 * n - 2 : 2 * n] = (0, 0x7C)
    assert bad_group(quant_type, packed) == 2 * n


def test_the_scattered_scale_of_iq1_m() -> None:
    quant_type = quants.get("IQ1_M")
    packed = np.zeros((3, 2 * quant_type.block_nbytes), np.uint8)
    assert bad_group(quant_type, packed) is None
    # 0x7c00 in nibbles: the top ones of the four uint16 at byte 48 of the second block.
    packed[1, 56 + 53], packed[1, 56 + 55] = 0xC0, 0x70
    assert bad_group(quant_type, packed) == 1
    packed[1, 56 + 53] = 0x40
    assert bad_group(quant_type, packed) is None
