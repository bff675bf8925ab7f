"""Writing importance matrices; both formats are drawn in :mod:`qxmix.container.imatrix_files`."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from qxmix.container.fields import make_field
from qxmix.container.gguf_format import (
    GENERAL_TYPE,
    IMATRIX_CHUNK_COUNT,
    IMATRIX_CHUNK_SIZE,
    IMATRIX_DATASETS,
    MAX_I32,
    ValueType,
)
from qxmix.container.imatrix import Imatrix
from qxmix.container.imatrix_files import COUNTS, SUMS
from qxmix.container.layout import OutputTensor, lay_out
from qxmix.container.model import MetadataField
from qxmix.container.source import show, show_path
from qxmix.container.whole_file import whole_file
from qxmix.errors import RunError
from qxmix.quants import get

Format = Literal["gguf", "dat"]
_NOTHING: Mapping[str, str] = MappingProxyType({})


def format_of(path: Path) -> Format:
    """The format that a name asks for.

    Raises:
        RunError: it is neither ``.gguf`` nor ``.dat``.

    """
    match path.suffix.lower():
        case ".gguf":
            return "gguf"
        case ".dat":
            return "dat"
        case _:
            text = (
                "the suffix says which format an importance matrix is written in: name it .gguf (llama.cpp, with counts"
                " per expert) or .dat (which ik_llama.cpp reads)"
            )
            raise RunError.at(show_path(path), text)


def write_imatrix(imatrix: Imatrix, path: Path, stated: Mapping[str, str] = _NOTHING) -> None:
    """Write ``imatrix`` in the format of the path's suffix.

    Args:
        imatrix: Counts in tokens for GGUF and in chunks for ``.dat`` (see :mod:`qxmix.importance.convert`).
        path: Where to; what is there is replaced once all is written.
        stated: Metadata, key to text, that a GGUF gets besides; a ``.dat`` has no place for it.

    Raises:
        RunError: the suffix is unknown, the file cannot be written, or a number is larger than the format can hold.

    """
    to = format_of(path)
    with whole_file(path) as file:
        if to == "gguf":
            _write_gguf(imatrix, file, stated)
        else:
            _write_dat(imatrix, file)


def _write_gguf(imatrix: Imatrix, file: BinaryIO, stated: Mapping[str, str]) -> None:
    assert imatrix.counts_in == "tokens"
    tensors: list[OutputTensor] = []
    for name, values in imatrix.entries.items():
        n_counts = imatrix.counts[name].size
        tensors += [_f32(name + SUMS, values.size // n_counts, n_counts), _f32(name + COUNTS, 1, n_counts)]
    layout = lay_out(tensors, list(_fields(imatrix, stated)))
    file.write(layout.files[0].header)
    # One part after the other: sums of a large model take a gigabyte.
    parts = _parts(imatrix)
    for offset in layout.offsets:
        file.write(bytes(offset - file.tell()))
        file.write(next(parts).astype("<f4").data)
    file.write(bytes(layout.files[0].nbytes - file.tell()))


def _f32(name: str, n_cols: int, n_rows: int) -> OutputTensor:
    f32 = get("F32")
    shape = (n_cols, n_rows) if n_rows > 1 else (n_cols,)
    return OutputTensor(name, shape, f32.id, f32.nbytes(shape))


def _fields(imatrix: Imatrix, stated: Mapping[str, str]) -> Iterator[MetadataField]:
    yield make_field(GENERAL_TYPE, "imatrix", ValueType.STRING)
    yield make_field(IMATRIX_DATASETS, imatrix.datasets, ValueType.ARRAY, ValueType.STRING)
    yield make_field(IMATRIX_CHUNK_COUNT, imatrix.n_chunks, ValueType.UINT32)
    yield make_field(IMATRIX_CHUNK_SIZE, imatrix.chunk_size, ValueType.UINT32)
    yield from (make_field(key, text, ValueType.STRING) for key, text in stated.items())


def _parts(imatrix: Imatrix) -> Iterator[NDArray[np.float32]]:
    """Sums and counts of each entry; the sums of a matrix that saw nothing are 0."""
    for name, values in imatrix.entries.items():
        counts = imatrix.counts[name]
        yield _sums(name, values.reshape(counts.size, -1), counts[:, None])
        yield counts


def _sums(name: str, values: NDArray[np.float32], counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """What files hold; a reader that finds an infinity there refuses the whole matrix."""
    sums = values.astype(np.float64) * counts.astype(np.float64)
    if sums.max(initial=0.0) > np.finfo(np.float32).max:
        raise RunError(f"the sums of {show(name)} reach {sums.max():.3g}, more than a float32 holds; is it damaged?")
    return sums.astype(np.float32)


def _write_dat(imatrix: Imatrix, file: BinaryIO) -> None:
    assert imatrix.counts_in == "chunks"
    _check_count("the number of chunks", imatrix.n_chunks)
    file.write(struct.pack("<i", len(imatrix.entries)))
    for name, values in imatrix.entries.items():
        raw, n_calls = name.encode(), int(imatrix.counts[name][0])
        _check_count(f"the count of {show(name)}", n_calls)
        file.write(struct.pack("<i", len(raw)) + raw + struct.pack("<ii", n_calls, values.size))
        file.write(_sums(name, values, np.full(1, n_calls, np.float32)).astype("<f4").data)
    dataset = imatrix.datasets[0].encode("utf-8", "replace") if imatrix.datasets else b""
    file.write(struct.pack("<ii", imatrix.n_chunks, len(dataset)) + dataset)


def _check_count(what: str, count: int) -> None:
    if count > MAX_I32:
        raise RunError(f"{what} is {count:,} and can be at most {MAX_I32:,} in a .dat; write a .gguf")
