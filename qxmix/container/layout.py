"""Where every byte of the output goes: metadata, tensor table, offsets, shards.

Nothing is written here.  The header comes back as bytes and each tensor gets its offset, so that a plan knows the size
of the output to the byte before any weight is read, and workers can write in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from qxmix.container.fields import make_field
from qxmix.container.gguf_format import (
    DEFAULT_ALIGNMENT,
    FILE_HEAD,
    GENERAL_ALIGNMENT,
    MAGIC,
    MAX_FILE_NBYTES,
    SPLIT_COUNT,
    SPLIT_NO,
    SPLIT_TENSORS_COUNT,
    U32,
    U64,
    VERSION,
    ValueType,
    pad,
)
from qxmix.container.model import MetadataField, ModelHeader, value_of
from qxmix.errors import PlanError

_MAX_SHARDS = 0xFFFF
"""``split.count`` is a u16."""
_SPLIT = "split it (--split-max-size), or look whether the model's header is right"


class OutputTensor(NamedTuple):
    """One tensor of the output, in the order of its tensor table."""

    name: str
    shape: tuple[int, ...]
    """Weights per dimension, row length first, trailing ones dropped."""
    type_id: int
    nbytes: int
    """Bytes of data, padding not counted."""


class OutputFile(NamedTuple):
    """One output file: its header to the byte, and its size."""

    suffix: str
    """What the shard's name adds before ``.gguf``: empty for a single file, ``-00001-of-00003`` for a shard."""
    header: bytes
    """Magic, metadata, tensor table and the padding up to the first tensor."""
    nbytes: int
    """The whole file, the padding after its last tensor included."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The output complete but for the weights."""

    files: tuple[OutputFile, ...]
    shards: tuple[int, ...]
    """Index into ``files`` of each tensor, in the order the tensors were given."""
    offsets: tuple[int, ...]
    """Where each tensor's data start, in bytes from the start of its file."""

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(f.nbytes for f in self.files)


def lay_out(
    tensors: Sequence[OutputTensor],
    metadata: Sequence[MetadataField],
    shards: Sequence[int] | None = None,
    n_shards: int | None = None,
) -> Layout:
    """Lay out a model in one file, or in the shards that ``shards`` says.

    Args:
        tensors: What goes in, in order; within a shard the order is kept.
        metadata: All fields of the output but ``split.*`` (see :mod:`qxmix.container.output_metadata`).
            Data are aligned to its ``general.alignment``.
        shards: Shard index of each tensor (:func:`split_by_size`, :func:`kept_split`); None for one file.
        n_shards: How many shards there are where the last ones hold no tensor; None counts them.

    Returns:
        Headers, sizes and offsets.  The first shard carries all metadata, the others only the ``split.*`` keys; they
        do not state an alignment and are laid out with the default of 32.

    Raises:
        PlanError: more than 65,535 shards, or a file of more bytes than there can be.

    """
    if shards is None:
        file, offsets = _lay_out_file("", tensors, metadata, _alignment_of(metadata))
        return Layout((file,), (0,) * len(tensors), tuple(offsets))
    count = n_shards if n_shards is not None else 1 + max(shards, default=0)
    if count > _MAX_SHARDS:
        raise PlanError(f"the output would be {count} shards and can be at most {_MAX_SHARDS}; raise the shard size")
    members: list[list[int]] = [[] for _ in range(count)]
    for index, shard in enumerate(shards):
        members[shard].append(index)
    files, offsets = [], [0] * len(tensors)
    for no, indices in enumerate(members):
        fields = _shard_metadata(metadata, no, count, len(tensors))
        chosen = [tensors[i] for i in indices]
        file, placed = _lay_out_file(shard_suffix(no, count), chosen, fields, _alignment_of(fields))
        files.append(file)
        for index, offset in zip(indices, placed, strict=True):
            offsets[index] = offset
    return Layout(tuple(files), tuple(shards), tuple(offsets))


def file_nbytes(table_nbytes: int, metadata: Sequence[MetadataField], data: Iterable[tuple[int, int]]) -> int:
    """The size that :func:`lay_out` would come to, of one file.

    Args:
        table_nbytes: Bytes of the tensor table.
        metadata: All fields of the output.
        data: Bytes of a tensor, and how many there are of it.

    """
    alignment = _alignment_of(metadata)
    header_nbytes = FILE_HEAD.size + sum(len(f.raw) for f in metadata) + table_nbytes
    end = sum(n * pad(nbytes, alignment) for nbytes, n in data)
    _check_end(end)
    return pad(header_nbytes, alignment) + end


def split_by_size(
    tensors: Sequence[OutputTensor],
    metadata: Sequence[MetadataField],
    max_nbytes: int | None = None,
    max_tensors: int | None = None,
) -> tuple[int, ...]:
    """Fill shards in order, each up to ``max_nbytes`` of file size (header and padding counted) and ``max_tensors``.

    A tensor that alone exceeds ``max_nbytes`` gets a shard of its own, which is then larger than asked for.

    Returns:
        Shard index of each tensor.

    """
    shards: list[int] = []
    no, n_members = 0, 0
    table_nbytes, data_nbytes = _empty_header_nbytes(metadata, no, len(tensors)), 0
    for tensor in tensors:
        alignment = _alignment_of(metadata) if no == 0 else DEFAULT_ALIGNMENT
        grown = table_nbytes + len(table_entry(tensor, 0)), data_nbytes + pad(tensor.nbytes, alignment)
        too_large = max_nbytes is not None and pad(grown[0], alignment) + grown[1] > max_nbytes
        too_many = max_tensors is not None and n_members >= max_tensors
        if n_members and (too_large or too_many):
            no, n_members = no + 1, 0
            table_nbytes = _empty_header_nbytes(metadata, no, len(tensors)) + len(table_entry(tensor, 0))
            data_nbytes = pad(tensor.nbytes, DEFAULT_ALIGNMENT)
        else:
            table_nbytes, data_nbytes = grown
        shards.append(no)
        n_members += 1
    return tuple(shards)


def kept_split(header: ModelHeader) -> tuple[tuple[int, ...], int] | tuple[None, None]:
    """Shard index of each of the model's tensors, and how many shards it has; (None, None) for a single file."""
    if len(header.paths) == 1:
        return None, None
    return tuple(t.shard for t in header.tensors), len(header.paths)


def shard_suffix(no: int, count: int) -> str:
    """``-00001-of-00003`` for shard 0 of 3, as both engines look for it."""
    return f"-{no + 1:05d}-of-{count:05d}"


def output_path(output: Path, suffix: str) -> Path:
    """``dir/name.gguf`` and a shard's suffix to ``dir/name-00001-of-00003.gguf``."""
    return output.with_name(output.name.removesuffix(".gguf") + suffix + ".gguf") if suffix else output


def _alignment_of(metadata: Sequence[MetadataField]) -> int:
    """``general.alignment`` of the fields, or the default."""
    value = value_of(metadata, GENERAL_ALIGNMENT)
    return value if isinstance(value, int) else DEFAULT_ALIGNMENT


def _lay_out_file(
    suffix: str, tensors: Sequence[OutputTensor], metadata: Sequence[MetadataField], alignment: int
) -> tuple[OutputFile, list[int]]:
    """Header and size of one file, and the absolute offset of each tensor."""
    parts = [FILE_HEAD.pack(MAGIC, VERSION, len(tensors), len(metadata))]
    parts += [f.raw for f in metadata]
    relative, end = [], 0
    for tensor in tensors:
        parts.append(table_entry(tensor, end))
        relative.append(end)
        end += pad(tensor.nbytes, alignment)
        _check_end(end)
    header = b"".join(parts)
    header += bytes(pad(len(header), alignment) - len(header))
    return OutputFile(suffix, header, len(header) + end), [len(header) + offset for offset in relative]


def _check_end(end: int) -> None:
    if end > MAX_FILE_NBYTES:
        raise PlanError(f"the output would have more than {MAX_FILE_NBYTES:,} bytes, which no file can: {_SPLIT}")


def table_entry(tensor: OutputTensor, offset: int) -> bytes:
    """A row of the tensor table: ``name | n_dims u32 | dim u64 ... | type u32 | offset u64``."""
    name = tensor.name.encode()
    dims = b"".join(map(U64.pack, tensor.shape))
    return b"".join(
        (U64.pack(len(name)), name, U32.pack(len(tensor.shape)), dims, U32.pack(tensor.type_id), U64.pack(offset))
    )


def _shard_metadata(metadata: Sequence[MetadataField], no: int, count: int, n_tensors: int) -> list[MetadataField]:
    """All fields for the first shard, none for the others, and the three keys of a split."""
    return [
        *(metadata if no == 0 else ()),
        make_field(SPLIT_NO, no, ValueType.UINT16),
        make_field(SPLIT_COUNT, count, ValueType.UINT16),
        make_field(SPLIT_TENSORS_COUNT, n_tensors, ValueType.INT32),
    ]


def _empty_header_nbytes(metadata: Sequence[MetadataField], no: int, n_tensors: int) -> int:
    """Bytes of a shard's header before its tensor table."""
    return FILE_HEAD.size + sum(len(f.raw) for f in _shard_metadata(metadata, no, 1, n_tensors))
