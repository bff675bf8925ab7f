"""The test that all scales are finite.

One infinite scale turns a whole block, and then the model's output, into NaN; the engines' own check skips all newer
types of ik_llama.cpp.  Positions: the block structures in ``ggml-common.h`` of llama.cpp and ik_llama.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qxmix import quants
from qxmix.errors import ModelFileError
from qxmix.quants.quant_type import QuantType

_FLOATS = frozenset({"F32", "F16", "BF16"})
"""Types whose numbers are the weights themselves."""
_EXPONENT = {"F16": 0x7C00, "BF16": 0x7F80}
"""Exponent bits of the 16-bit floats: all set in an infinity or a NaN."""

_HIGH = 0x7C
"""The same of a float16 in its second byte."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """A number in a tensor's data that is infinite or NaN."""

    row: int
    """Counted over all stacked matrices; of an interleaved type the first row of the group."""
    column: int | None
    """None for a scale."""
    value: str

    def __str__(self) -> str:
        """Where and what: ``row 3, column 5: nan``."""
        place = f"row {self.row}" if self.column is None else f"row {self.row}, column {self.column}"
        return f"{place}: {self.value}"


def first_flaw(quant_type: QuantType, packed: NDArray[np.uint8], first_row: int) -> Flaw | None:
    """The first number that is not finite in whole row groups that were read as they are, or None.

    ``packed`` is (n_rows, row_nbytes); ``first_row`` is where they stand in their tensor.
    """
    bad = bad_group(quant_type, packed)
    if bad is None:
        return None
    if quant_type.name not in _FLOATS:
        return Flaw(first_row + bad, None, "a scale that is infinite or NaN")
    weights = np.empty((1, packed.shape[1] // quant_type.block_nbytes), np.float32)
    quants.codec_of(quant_type.name).decode(packed[bad : bad + 1], weights)
    column = int(np.argmin(np.isfinite(weights[0])))
    return Flaw(first_row + bad, column, str(weights[0, column]))


def check_scales(name: str, type_name: str, first_row: int, packed: NDArray[np.uint8]) -> None:
    """Refuse encoded rows with a scale that is infinite or NaN.

    ``packed`` is (n_rows, row_nbytes), whole row groups; ``first_row`` is where they stand in the tensor ``name``.

    Raises:
        ModelFileError: naming the first such row.

    """
    bad = bad_group(quants.get(type_name), packed)
    if bad is not None:
        text = (
            f"in row {first_row + bad} a scale of {type_name} came out infinite: the weights there, or their"
            " importances, are too large for it. Choose a type with a wider range (bf16, f32) for this tensor, or check"
            " the model"
        )
        raise ModelFileError.at(name, text)


def bad_group(quant_type: QuantType, packed: NDArray[np.uint8]) -> int | None:
    """Index of the first row (of an interleaved type: first row of the group) with a non-finite scale, or None."""
    group = quant_type.row_group
    rows = packed.reshape(len(packed) // group, -1)
    if _blocks_are_all(quant_type) and not any(_any_infinite(quant_type, packed, at) for at in quant_type.scales):
        return None
    finite = np.ones(len(rows), bool)
    meta = quant_type.row_meta_nbytes * group
    if meta:
        finite &= _finite_meta(quant_type, rows)
    mask = _EXPONENT.get(quant_type.base or quant_type.name)
    if mask is not None:
        finite &= (rows.view(np.uint16) & np.uint16(0x7FFF)).max(axis=1, initial=0) < mask
    elif quant_type.name == "F32":
        finite &= np.isfinite(rows.view(np.float32)).all(axis=1)
    if quant_type.scales:
        blocks = rows[:, meta:].reshape(len(rows), -1, quant_type.block_nbytes * group)
        for offset in quant_type.scales:
            finite &= _finite_halves(blocks[:, :, offset : offset + 2])
    if quant_type.name == "IQ1_M":
        finite &= _finite_iq1_m(rows.reshape(len(rows), -1, quant_type.block_nbytes))
    return None if finite.all() else int(np.argmin(finite)) * group


def _blocks_are_all(quant_type: QuantType) -> bool:
    """Whether there is nothing in rows but blocks of one row with their scales."""
    return bool(quant_type.scales) and not quant_type.row_meta_nbytes and quant_type.row_group == 1


def _any_infinite(quant_type: QuantType, packed: NDArray[np.uint8], offset: int) -> bool:
    """Whether a scale at ``offset`` of any block is not finite: a quarter of the time of finding the row."""
    high = packed.reshape(-1, quant_type.block_nbytes)[:, offset + 1] & np.uint8(_HIGH)
    return bool(high.max(initial=0) == _HIGH)


def _finite_meta(quant_type: QuantType, rows: NDArray[np.uint8]) -> NDArray[np.bool_]:
    n = quant_type.row_group
    if quant_type.row_meta_nbytes == 2:  # noqa: PLR2004
        return _finite_halves(rows[:, None, : 2 * n])
    # Q8_KV has a sum of quants behind the float32 scale; interleaved, all scales come first.
    scales = np.ascontiguousarray(rows[:, : 4 * n]).view(np.float32)
    return np.asarray(np.isfinite(scales).all(axis=1))


def _finite_halves(halves: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(n_rows, n_blocks, 2 n) bytes of float16 to (n_rows,)."""
    high = halves[:, :, 1::2] & np.uint8(_HIGH)
    return np.asarray((high != _HIGH).all(axis=(1, 2)))


def _finite_iq1_m(blocks: NDArray[np.uint8]) -> NDArray[np.bool_]:
    # The scale's four nibbles are the top ones of four uint16 at byte 48; its exponent is in the last two.
    exponent = ((blocks[:, :, 55] & 0xF0) == 0x70) | ((blocks[:, :, 55] & 0xF0) == 0xF0)  # noqa: PLR2004
    return np.asarray(~(exponent & ((blocks[:, :, 53] & 0xC0) == 0xC0)).any(axis=1))  # noqa: PLR2004
