"""Parsing one GGUF file's header from its bytes.

Every tensor's data must lie in the file, aligned, and apart from all others.
"""

from __future__ import annotations

import struct
from math import prod
from pathlib import Path
from typing import NamedTuple

from qxmix.container.gguf_format import (
    DEFAULT_ALIGNMENT,
    FILE_HEAD,
    GENERAL_ALIGNMENT,
    GENERAL_TYPE,
    MAX_ALIGNMENT,
    MAX_DIMS,
    MIN_ALIGNMENT,
    U32,
    pad,
)
from qxmix.container.header_only import Shard, absent_shards, bounds
from qxmix.container.model import MetadataField, Scalar, TensorInfo, field_of, value_of
from qxmix.container.reader import MIN_FIELD_NBYTES, Cursor, read_metadata
from qxmix.container.recognize import HEAD_NBYTES, problem_with_start
from qxmix.container.source import MODEL, FileBytes, Given, Role, opened, show
from qxmix.quants import by_id

_MIN_TENSOR_NBYTES = 8 + 1 + 4 + 4 + 8
_MAX_WEIGHTS = (1 << 63) - 1
_DIMS = tuple(struct.Struct(f"<{n}Q") for n in range(MAX_DIMS + 1))
_KIND_AND_OFFSET = struct.Struct("<IQ")


class GgufFile(NamedTuple):
    """The header of one file, of whatever kind: a model, a shard of one, or an importance matrix."""

    path: Path
    nbytes: int
    """Size of the file."""
    alignment: int
    metadata: tuple[MetadataField, ...]
    tensors: tuple[TensorInfo, ...]
    data_start: int
    """Where the tensor data start, in bytes from the start of the file."""
    absent: tuple[Shard, ...] = ()
    """Of a file that holds a model's header and none of its weights, the files that hold them; else none."""

    def get(self, key: str) -> Scalar | None:
        """The scalar or string under ``key``; None where it is missing or an array."""
        return value_of(self.metadata, key)


class _Entry(NamedTuple):
    """A row of the tensor table as it stands in the file."""

    name: str
    shape: tuple[int, ...]
    type_id: int
    offset: int
    """Bytes from the start of the data."""


def parse_gguf(path: Path, shard: int = 0, role: Role = MODEL) -> GgufFile:
    """Read the header of one GGUF file.

    Args:
        path: The file.
        shard: What ``TensorInfo.shard`` says.
        role: What the user gave it as, for the errors.

    Raises:
        ModelFileError: it cannot be read, is no GGUF, or its header is damaged.

    """
    with opened(path, role) as data:
        return parse_opened(data, shard)


def stated_type(data: FileBytes) -> str:
    """The ``general.type`` of a GGUF file, whatever is behind its metadata; empty where it states none.

    Raises:
        ModelFileError: it is no GGUF, or its metadata are damaged.

    """
    cursor = _begun(data.given, data, len(data))
    *_, n_fields = cursor.take(FILE_HEAD, "the file's head")
    return str(value_of(read_metadata(cursor, n_fields), GENERAL_TYPE) or "")


def parse_opened(data: FileBytes, shard: int = 0) -> GgufFile:
    """Parse the header of a GGUF file that is open already; see :func:`parse_gguf`."""
    return parse_start(data.given, data, len(data), shard)


def parse_start(given: Given, data: FileBytes | bytes, nbytes: int, shard: int = 0) -> GgufFile:
    """Parse the header of a file of ``nbytes`` bytes of which ``data`` are the first; see :func:`parse_gguf`.

    Raises:
        ModelFileError: it is no GGUF, or its header is damaged.
        MoreNeeded: the header goes on behind ``data``.

    """
    cursor = _begun(given, data, nbytes)
    _, _, n_tensors, n_fields = cursor.take(FILE_HEAD, "the file's head")
    _check_counts(cursor, n_tensors, n_fields)
    metadata = read_metadata(cursor, n_fields)
    alignment = _alignment(given, metadata)
    entries = _read_tensor_table(cursor, n_tensors)
    absent, start = absent_shards(given, metadata, n_tensors), pad(cursor.pos, alignment)
    tensors = (
        _place_absent(given, entries, absent)
        if absent
        else _place(given, entries, start, cursor.end, alignment=alignment, shard=shard)
    )
    return GgufFile(given.path, cursor.end, alignment, metadata, tensors, start, absent)


def _begun(given: Given, data: FileBytes | bytes, nbytes: int) -> Cursor:
    """A cursor at the head of a file that begins as GGUF does."""
    if problem := problem_with_start(given.path, data[:HEAD_NBYTES], nbytes, given.role.again):
        raise given.bad(problem)
    return Cursor(given, data, nbytes)


def _check_counts(cursor: Cursor, n_tensors: int, n_fields: int) -> None:
    for n, least, what in (
        (n_fields, MIN_FIELD_NBYTES, "metadata fields"),
        (n_tensors, _MIN_TENSOR_NBYTES, "tensors"),
    ):
        if n * least > cursor.end - cursor.pos:
            raise cursor.given.damaged(f"claims {n} {what}, more than a file of {cursor.end} bytes can hold")


def _alignment(given: Given, metadata: tuple[MetadataField, ...]) -> int:
    field = field_of(metadata, GENERAL_ALIGNMENT)
    if field is None:
        return DEFAULT_ALIGNMENT
    value = field.value
    if isinstance(value, int) and not isinstance(value, bool):
        if MIN_ALIGNMENT <= value <= MAX_ALIGNMENT and value & (value - 1) == 0:
            return value
        shown = str(value)
    else:
        shown = f"value type {field.value_type}"
    raise given.damaged(
        f"{GENERAL_ALIGNMENT} is {shown}; it must be a power of two from {MIN_ALIGNMENT} to {MAX_ALIGNMENT}"
    )


def _read_tensor_table(cursor: Cursor, n_tensors: int) -> list[_Entry]:
    entries: dict[str, _Entry] = {}
    for index in range(n_tensors):
        entry = _read_entry(cursor, index)
        if entry.name in entries:
            raise cursor.given.damaged(f"has the tensor {show(entry.name)} twice")
        entries[entry.name] = entry
    return list(entries.values())


def _read_entry(cursor: Cursor, index: int) -> _Entry:
    name = cursor.name(f"the name of tensor {index}")
    (n_dims,) = cursor.take(U32, "the tensor table")
    if n_dims > MAX_DIMS:
        raise cursor.given.damaged(f"tensor {show(name)} has {n_dims} dimensions, GGUF allows {MAX_DIMS}")
    shape = cursor.take(_DIMS[n_dims], "the tensor table")
    type_id, offset = cursor.take(_KIND_AND_OFFSET, "the tensor table")
    if not 0 < prod(shape) <= _MAX_WEIGHTS:
        raise cursor.given.damaged(f"tensor {show(name)} has the impossible shape {' x '.join(map(str, shape))}")
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    # A scalar is written without dimensions by some converters; it is a row of one weight.
    return _Entry(name, shape or (1,), type_id, offset)


def _place_absent(given: Given, entries: list[_Entry], shards: tuple[Shard, ...]) -> tuple[TensorInfo, ...]:
    """Where the data lie in the files that are not here; what a later shard aligns to is not known."""
    return tuple(
        tensor
        for no, (shard, (first, last)) in enumerate(zip(shards, bounds(shards), strict=True))
        for tensor in _place(
            given, entries[first:last], shard.data_start, shard.nbytes, alignment=MIN_ALIGNMENT, shard=no
        )
    )


def _place(
    given: Given, entries: list[_Entry], start: int, nbytes: int, *, alignment: int, shard: int
) -> tuple[TensorInfo, ...]:
    """Check where the data lie; a tensor of unknown type reaches up to the next one or the end of the file."""
    order = sorted(range(len(entries)), key=lambda i: entries[i].offset)
    sizes = [0] * len(entries)
    for at, index in enumerate(order):
        entry = entries[index]
        follower = entries[order[at + 1]] if at + 1 < len(order) else None
        limit = follower.offset if follower else max(nbytes - start, 0)
        sizes[index] = size = _data_nbytes(given, entry, limit)
        if entry.offset % alignment:
            raise given.damaged(f"tensor {show(entry.name)} starts at {entry.offset}, no multiple of {alignment}")
        if start + entry.offset + size > nbytes:
            ends = start + entry.offset + size
            raise given.cut_off(f"is cut off: tensor {show(entry.name)} ends at byte {ends} and the file has {nbytes}")
        if entry.offset + size > limit:
            other = follower.name if follower else ""
            raise given.damaged(f"tensors {show(entry.name)} and {show(other)} overlap")
    return tuple(
        TensorInfo(e.name, e.shape, e.type_id, shard, start + e.offset, size)
        for e, size in zip(entries, sizes, strict=True)
    )


def _data_nbytes(given: Given, entry: _Entry, limit: int) -> int:
    known = by_id(entry.type_id)
    if known is None:
        if limit <= entry.offset:
            raise given.damaged(f"tensor {show(entry.name)} of unknown type {entry.type_id} has no data of its own")
        return limit - entry.offset
    if not known.fits(entry.shape[0]):
        raise given.damaged(
            f"tensor {show(entry.name)} has rows of {entry.shape[0]} weights, no whole number of {known.name} blocks "
            f"of {known.block_size}"
        )
    return known.nbytes(entry.shape)
