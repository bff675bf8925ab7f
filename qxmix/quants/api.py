"""``quantize`` and ``dequantize``: the codecs for arrays in memory, with every argument checked."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, get_args

import numpy as np

from qxmix.quants import QUANT_TYPES, QuantType, codec_of, find
from qxmix.quants.codec import SEARCHES, Codec, Search

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from qxmix.quants.codec import Columns


def quantize(
    x: ArrayLike,
    type: str,  # noqa: A002 - the field's word
    imatrix: ArrayLike | None = None,
    *,
    search: Search = "gradient",
) -> NDArray[np.uint8]:
    """Encode weights.

    Args:
        x: (n_rows, n_cols) float32 weights; ``n_cols`` a multiple of the type's block size.
        type: name of a type, any case.
        imatrix: (n_cols,) float32 importance of each column, not negative; None for none.
        search: how scales are searched, where the type searches (``qxmix types`` tells).

    Returns:
        (n_rows, row_nbytes) uint8: each row as it stands in a GGUF file.

    Raises:
        ValueError: unknown type or search, a type qxmix does not encode, a shape that does not fit it, weights or
            importances that are not finite, negative importances, or none where the type requires one.

    """
    quant_type, codec = _known(type)
    if codec.encode is None:
        raise ValueError(f"qxmix decodes {quant_type.name} but does not encode it")
    if search not in SEARCHES:
        raise ValueError(f"unknown search {search!r}; there are {', '.join(get_args(Search))}")
    rows = np.ascontiguousarray(x, dtype=np.float32)
    if rows.ndim != 2:  # noqa: PLR2004 - rows and columns
        raise ValueError(f"x has {rows.ndim} dimensions; it must be (n_rows, n_cols)")
    n_rows, n_cols = rows.shape
    packed = np.empty((n_rows, quant_type.row_nbytes(n_cols)), dtype=np.uint8)
    if n_rows % quant_type.row_group:
        raise ValueError(f"{quant_type.name} interleaves {quant_type.row_group} rows; {n_rows} rows are no multiple")
    _check_finite(rows)
    columns = _columns(quant_type, n_cols, imatrix)
    codec.encode(rows, columns, packed, SEARCHES.index(search))
    return packed


def dequantize(data: NDArray[np.uint8], type: str, n_cols: int) -> NDArray[np.float32]:  # noqa: A002 - the field's word
    """Decode rows.

    Args:
        data: uint8 array of any shape that holds whole rows, as :func:`quantize` returns it or a file has it.
        type: name of a type, any case.
        n_cols: weights per row.

    Returns:
        (n_rows, n_cols) float32.

    Raises:
        ValueError: unknown type, a type qxmix does not decode, or data that are not whole rows of ``n_cols`` weights.

    """
    quant_type, codec = _known(type)
    row_nbytes = quant_type.row_nbytes(n_cols)
    flat = np.ascontiguousarray(data)
    if flat.dtype != np.uint8:
        raise ValueError(f"data are {flat.dtype}; encoded rows are uint8")
    if row_nbytes == 0 or flat.size % row_nbytes:
        raise ValueError(
            f"{flat.size} bytes are not whole rows: a {quant_type.name} row of {n_cols} weights has {row_nbytes} bytes"
        )
    packed = flat.reshape(-1, row_nbytes)
    rows = np.empty((len(packed), n_cols), dtype=np.float32)
    codec.decode(packed, rows)
    return rows


def _known(name: str) -> tuple[QuantType, Codec]:
    quant_type = find(name)
    if quant_type is None:
        near = get_close_matches(name.upper(), [t.name for t in QUANT_TYPES], n=1)
        raise ValueError(f"unknown type {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    try:
        return quant_type, codec_of(quant_type.name)
    except KeyError:
        raise ValueError(f"qxmix knows the size of {quant_type.name} but neither encodes nor decodes it") from None


def _check_finite(rows: NDArray[np.float32]) -> None:
    finite = np.isfinite(rows)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise ValueError(f"x[{row}, {column}] is {rows[row, column]}; weights must be finite")


def _columns(quant_type: QuantType, n_cols: int, imatrix: ArrayLike | None) -> Columns:
    if imatrix is None:
        if quant_type.importance == "required":
            raise ValueError(f"{quant_type.name} cannot be encoded without an importance matrix")
        return np.empty(0, dtype=np.float32)
    columns = np.ascontiguousarray(imatrix, dtype=np.float32)
    if columns.shape != (n_cols,):
        raise ValueError(f"imatrix has shape {columns.shape}; x has {n_cols} columns, so it must be ({n_cols},)")
    bad = np.flatnonzero(~(np.isfinite(columns) & (columns >= 0)))
    if len(bad):
        raise ValueError(f"imatrix[{bad[0]}] is {columns[bad[0]]}; importances must be finite and not negative")
    return columns
