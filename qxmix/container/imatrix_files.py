"""The two file formats of importance matrices.

Legacy ``.dat``, little-endian, without a magic::

    n_entries i32
    n_entries x { n_name i32 | name | n_calls i32 | n_values i32 | f32 x n_values }
    [ n_chunks i32 [ n_dataset i32 | dataset ] ]

A value is (sum of squares / count) * n_calls, and the reader divides by n_calls.  A name that comes again replaces the
former entry.  Tensors of stacked matrices have the values of matrix 0 first.

GGUF (llama.cpp since mid 2025): ``imatrix.datasets``, ``imatrix.chunk_count``, ``imatrix.chunk_size`` and for each
entry two F32 tensors, ``NAME.in_sum2`` of shape (n_cols, n_matrices) and ``NAME.counts`` of shape (1, n_matrices).  The
importance is their quotient; a matrix that saw no data (count 0) gets 1 everywhere.  Other tensors are ignored.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from struct import Struct
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from qxmix.container.file_digest import file_digest
from qxmix.container.gguf_format import (
    GENERAL_TYPE,
    IMATRIX_CHUNK_COUNT,
    IMATRIX_CHUNK_SIZE,
    IMATRIX_DATASETS,
    MAGIC,
    MAX_U32,
    U32,
)
from qxmix.container.imatrix import Imatrix
from qxmix.container.model import TensorInfo
from qxmix.container.parse import GgufFile, parse_opened
from qxmix.container.reader import Cursor, read_strings
from qxmix.container.recognize import HEAD_NBYTES, looks_like_dat, problem_with_imatrix_start
from qxmix.container.source import IMATRIX, FileBytes, Given, bad_file, opened, show

_I32 = Struct("<i")
_CALLS_AND_VALUES = Struct("<ii")
SUMS, COUNTS = ".in_sum2", ".counts"
"""What the names of an entry's two tensors end with."""
_NO_MATRIX = "is no importance matrix, neither a GGUF one nor a legacy .dat; give the file that llama-imatrix wrote"

Values = dict[str, "NDArray[np.float32]"]


def read_imatrix_file(path: Path) -> Imatrix:
    """Read a file of either format; see :func:`qxmix.container.imatrix_load.load_imatrix`."""
    with opened(path, IMATRIX) as data:
        read = _read_gguf if data[: len(MAGIC)] == MAGIC else _read_dat
        return replace(read(path, data), sha256=file_digest(data))


def _read_dat(path: Path, data: FileBytes) -> Imatrix:
    problem = problem_with_imatrix_start(path, data[:HEAD_NBYTES], len(data))
    if problem:
        raise bad_file(path, problem)
    if not looks_like_dat(data[:HEAD_NBYTES], len(data)):
        raise bad_file(path, _NO_MATRIX)
    cursor = Cursor(data.given, data)
    (n_entries,) = cursor.take(U32, "the number of entries")
    entries: Values = {}
    counts: Values = {}
    for index in range(n_entries):
        name, entries[name], counts[name] = _read_dat_entry(cursor, index, n_entries)
    datasets, n_chunks = _read_dat_trailer(cursor)
    return Imatrix(path, "", MappingProxyType(entries), datasets, n_chunks, MappingProxyType(counts), "chunks")


def _read_dat_entry(cursor: Cursor, index: int, n_entries: int) -> tuple[str, NDArray[np.float32], NDArray[np.float32]]:
    """Name, values and count of an entry."""
    what = f"entry {index + 1} of {n_entries}"
    name = cursor.name(f"the name of {what}", U32)
    what = f"{what}, {show(name)},"
    n_calls, n_values = cursor.take(_CALLS_AND_VALUES, what)
    if n_values < 1:
        raise cursor.given.damaged(f"{what} claims {n_values} values")
    start = cursor.pos
    cursor.skip(4 * n_values, what)
    stored = np.frombuffer(cursor.between(start, cursor.pos), "<f4")
    count = np.full(1, max(n_calls, 1), np.float32)
    count.flags.writeable = False
    with np.errstate(invalid="ignore"):  # a signalling NaN; _checked refuses it
        values = np.divide(stored, count, dtype=np.float32)
    return name, _checked(cursor.given.path, name, values), count


def _read_dat_trailer(cursor: Cursor) -> tuple[tuple[str, ...], int]:
    """Dataset and number of chunks, which files of before 2024 do not have."""
    if cursor.pos == cursor.end:
        return (), 0
    (n_chunks,) = cursor.take(_I32, "the number of chunks")
    dataset = cursor.string("the dataset's name", U32) if cursor.pos < cursor.end else b""
    if cursor.pos < cursor.end:
        raise cursor.given.damaged(f"has {cursor.end - cursor.pos} bytes behind its end")
    return (dataset.decode("utf-8", "replace"),) if dataset else (), max(n_chunks, 0)


def _read_gguf(path: Path, data: FileBytes) -> Imatrix:
    file = parse_opened(data)
    tensors = {t.name: t for t in file.tensors}
    names = list(dict.fromkeys(n.removesuffix(s) for n in tensors for s in (SUMS, COUNTS) if n.endswith(s)))
    if not names and file.get("general.architecture") is not None:
        raise bad_file(path, "is a model, not an importance matrix; give the file that llama-imatrix wrote")
    if file.get(GENERAL_TYPE) == "moments":
        raise bad_file(path, "is a file of second moments, not an importance matrix; give it as --moments")
    present = {f.key for f in file.metadata}
    missing = [k for k in (IMATRIX_DATASETS, IMATRIX_CHUNK_COUNT, IMATRIX_CHUNK_SIZE) if k not in present]
    if missing or not names:
        lacks = ", ".join(missing) or f"any tensor named *{SUMS}"
        raise bad_file(path, f"is GGUF but no importance matrix: it lacks {lacks}; give the file llama-imatrix wrote")
    entries: Values = {}
    counts: Values = {}
    for name in names:
        sums, count = tensors.get(name + SUMS), tensors.get(name + COUNTS)
        entries[name], counts[name] = _read_gguf_entry(path, data, name, sums, count)
    n_chunks, chunk_size = (_whole_number(file, data.given, key) for key in (IMATRIX_CHUNK_COUNT, IMATRIX_CHUNK_SIZE))
    values, tokens = MappingProxyType(entries), MappingProxyType(counts)
    datasets = read_strings(file.metadata, IMATRIX_DATASETS)
    return Imatrix(path, "", values, datasets, n_chunks, tokens, "tokens", chunk_size)


def _whole_number(file: GgufFile, given: Given, key: str) -> int:
    """A count, a u32 in the files of llama.cpp; 0 where the field holds no number."""
    value = file.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    if not 0 <= value <= MAX_U32:
        raise given.damaged(f"{key} is {value}, no number from 0 to {MAX_U32}")
    return value


def _read_gguf_entry(
    path: Path, data: FileBytes, name: str, sums: TensorInfo | None, counts: TensorInfo | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Values (n_matrices * n_cols,) and counts (n_matrices,) of an entry."""
    if sums is None or counts is None:
        raise data.given.damaged(f"has {show(name)} without its {COUNTS if counts is None else SUMS}")
    for tensor in (sums, counts):
        if tensor.type != "F32":
            raise data.given.damaged(f"tensor {show(tensor.name)} is {tensor.type} and must be F32")
    n_matrices = sums.n_weights // sums.n_cols
    if counts.n_weights != n_matrices:
        raise data.given.damaged(f"has {counts.n_weights} counts for the {n_matrices} matrices of {show(name)}")
    count = _checked(path, counts.name, _floats(data, counts))
    total = _floats(data, sums).reshape(n_matrices, sums.n_cols)
    each = count.reshape(-1, 1)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.divide(total, each, where=each > 0, out=np.ones_like(total))
    return _checked(path, name, mean.reshape(-1)), count


def _floats(data: FileBytes, tensor: TensorInfo) -> NDArray[np.float32]:
    return np.frombuffer(data[tensor.offset : tensor.offset + tensor.nbytes], "<f4")


def _checked(path: Path, name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The values, read-only; every one must be a finite number of 0 or more, whether it will be used or not."""
    good = np.isfinite(values) & (values >= 0)
    if not good.all():
        index = int(np.argmin(good))
        raise bad_file(
            path,
            f"value {index} of {show(name)} is {values[index]}, no finite number of 0 or more; the matrix is unusable, "
            "make or download it again",
        )
    values.flags.writeable = False
    return values
