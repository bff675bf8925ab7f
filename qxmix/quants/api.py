"""``quantize`` and ``dequantize``: the codecs for arrays in memory, with every argument checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from qxmix.quants import QUANT_TYPES, QuantType, codec_of, find
from qxmix.quants.codec import SEARCHES, Codec, Search, encoder_for
from qxmix.quants.factor import best_factor, explained
from qxmix.quants.feedback.correlations import EXACT, make_factors, pack_correlations, spans_of
from qxmix.quants.feedback.options import Feedback
from qxmix.quants.feedback.spans import SPAN
from qxmix.quants.quant_type import LEAST_FACTOR, MOST_FACTOR

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from qxmix.quants.codec import Columns, Factors

_DEFAULT_FEEDBACK = Feedback()


def quantize(
    x: ArrayLike,
    type: str,  # noqa: A002 - the field's word
    imatrix: ArrayLike | None = None,
    *,
    search: Search | None = None,
    moments: ArrayLike | None = None,
    feedback: Feedback = _DEFAULT_FEEDBACK,
    symmetric: bool = False,
    scale: float | Literal["auto"] | None = None,
) -> NDArray[np.uint8]:
    """Encode weights.

    Args:
        x: (n_rows, n_cols) float32 weights; ``n_cols`` a multiple of the type's block size.
        type: name of a type, any case.
        imatrix: (n_cols,) float32 importance of each column, not negative; None for none.
        search: how scales are searched, where the type searches (``qxmix types`` tells); without ``imatrix`` every
            column then counts 1.  None: as the reference does, which without ``imatrix`` has weights of its own or
            none, or else the first of ``SEARCHES``.  Q4_1, Q5_1 and Q8_0 heed ``exhaustive`` alone, for blocks that
            sit on a lattice.
        moments: (n_cols, n_cols) second moments ``E[a a^T]`` of what the columns are multiplied with; given, the error
            of each weight is taken back by the later ones of its row, within spans of 256 columns: only the diagonal
            blocks are read.  Without ``imatrix`` their diagonal is the importance.
        feedback: how the moments are damped; they count as exact where its ``shrink`` is None.
        symmetric: levels -7 .. 7 of Q4_0, rounded without a search; ``imatrix`` and ``search`` then change nothing.
        scale: what the scales of a low-bit type are multiplied with, in place of the engine's own factor; ``auto``: the
            one with the least error, weighted by ``imatrix``.

    Returns:
        (n_rows, row_nbytes) uint8: each row as it stands in a GGUF file.

    Raises:
        ValueError: unknown type or search, a type qxmix does not encode, a shape that does not fit it, weights or
            importances that are not finite, negative importances, or none where the type requires one; moments that are
            not finite, of another shape or not positive definite, or a type without error feedback; ``symmetric`` or
            ``scale`` for a type that has no such levels or takes no factor, or beside moments.

    """
    quant_type, codec = _known(type)
    if search is not None and search not in SEARCHES:
        raise ValueError(f"unknown search {search!r}; there are {', '.join(get_args(Search))}")
    rows = np.ascontiguousarray(x, dtype=np.float32)
    if rows.ndim != 2:  # noqa: PLR2004 - rows and columns
        raise ValueError(f"x has {rows.ndim} dimensions; it must be (n_rows, n_cols)")
    n_rows, n_cols = rows.shape
    packed = np.empty((n_rows, quant_type.row_nbytes(n_cols)), dtype=np.uint8)
    if n_rows % quant_type.row_group:
        raise ValueError(f"{quant_type.name} interleaves {quant_type.row_group} rows; {n_rows} rows are no multiple")
    _check_finite(rows)
    index = SEARCHES.index(search or SEARCHES[0])
    _check_variant(quant_type, scale, symmetric=symmetric, fed_back=moments is not None)
    if moments is None:
        if search is not None and imatrix is None and quant_type.searches:
            imatrix = np.ones(n_cols, np.float32)
        columns = np.empty(0, np.float32) if symmetric else _columns(quant_type, n_cols, imatrix)
        if scale == "auto":
            scale = best_factor([explained(codec, packed.shape[1], rows, columns, None)])
        encoder_for(codec, symmetric=symmetric, scale=scale)(rows, columns, packed, index)
        return packed
    if codec.feedback is None:
        raise ValueError(f"{quant_type.name} has no error feedback; leave out moments")
    matrix = _moments(n_cols, moments)
    columns = _columns(quant_type, n_cols, np.diagonal(matrix) if imatrix is None else imatrix)
    codec.feedback(rows, columns, _factors(matrix, columns, feedback), packed, index)
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


def _check_variant(quant_type: QuantType, scale: object, *, symmetric: bool, fed_back: bool) -> None:
    if symmetric and not quant_type.has_symmetric:
        raise ValueError(f"{quant_type.name} has one kind of levels; Q4_0 alone has symmetric ones")
    if scale is not None and not quant_type.takes_factor:
        raise ValueError(f"scales of {quant_type.name} are stored as they are found, so none can be given")
    if scale not in (None, "auto") and not (isinstance(scale, int | float) and LEAST_FACTOR <= scale <= MOST_FACTOR):
        raise ValueError(f"scale is {scale!r}; it must be 'auto' or a number from {LEAST_FACTOR} to {MOST_FACTOR}")
    if fed_back and (symmetric or scale is not None):
        raise ValueError("error feedback has its own scales, beside which are no symmetric and scale")


def _known(name: str) -> tuple[QuantType, Codec]:
    quant_type = find(name)
    if quant_type is None:
        from difflib import get_close_matches  # noqa: PLC0415 - for those who mistype

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


def _moments(n_cols: int, moments: ArrayLike) -> NDArray[np.float64]:
    matrix = np.asarray(moments, dtype=np.float64)
    if matrix.shape != (n_cols, n_cols):
        raise ValueError(f"moments have shape {matrix.shape}; x has {n_cols} columns, so it must be {(n_cols, n_cols)}")
    bad = np.argwhere(~np.isfinite(matrix))
    if len(bad):
        i, j = bad[0]
        raise ValueError(f"moments[{i}, {j}] is {matrix[i, j]}; moments must be finite")
    return matrix


def _factors(matrix: NDArray[np.float64], columns: Columns, feedback: Feedback) -> Factors:
    correlations = pack_correlations(spans_of(matrix), len(matrix))
    factors, failed = make_factors(correlations, columns, EXACT, feedback)
    if failed >= 0:
        first = SPAN * failed
        text = f"the moments of columns {first} to {min(first + SPAN, len(matrix)) - 1} are not positive definite"
        raise ValueError(f"{text}, even with damp {feedback.damp}; raise it, or measure them on more tokens")
    return factors


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
