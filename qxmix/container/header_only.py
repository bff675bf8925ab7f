"""Files with the header of a model and none of its weights: a few megabytes that plans can be made from.

Such a file is GGUF with the metadata of the model's first shard, the tensors of all its shards, and one field more::

    qxmix.header_only = array of u64: for each shard its size, where its tensor data start, and how many tensors it has

The offsets in the tensor table are those in the shards, so every engine finds that the data are missing and refuses
the file.  Keys that start with ``qxmix.`` are neither carried into an output nor part of a header's hash.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from qxmix.container.fields import make_field
from qxmix.container.gguf_format import FILE_HEAD, MAGIC, U64, VERSION, ValueType, pad
from qxmix.container.layout import OutputTensor, table_entry
from qxmix.container.model import MetadataField, field_of
from qxmix.container.source import DAMAGED, bad_file
from qxmix.container.whole_file import whole_file
from qxmix.errors import RunError

if TYPE_CHECKING:
    from qxmix.container.parse import GgufFile

KEY = "qxmix.header_only"
_PER_SHARD = 3
_MOST = 1 << 62


class Shard(NamedTuple):
    """What a header file says of one file of the model."""

    nbytes: int
    """Size of the file."""
    data_start: int
    """Where its tensor data start, in bytes from its start."""
    n_tensors: int
    """How many rows of the tensor table are its own."""


def read_shards(path: Path, metadata: Sequence[MetadataField], n_tensors: int) -> tuple[Shard, ...]:
    """The shards that a header file stands for; none for a file that has its weights.

    Raises:
        ModelFileError: the field is damaged.

    """
    field = field_of(metadata, KEY)
    if field is None:
        return ()
    count = field.array[1] if field.array is not None and field.array[0] == ValueType.UINT64 else 0
    values = [U64.unpack_from(field.raw, field.elements_at + U64.size * i)[0] for i in range(count)]
    shards = tuple(Shard(*values[i : i + _PER_SHARD]) for i in range(0, count - count % _PER_SHARD, _PER_SHARD))
    plausible = all(s.data_start <= s.nbytes < _MOST for s in shards)
    if not shards or count % _PER_SHARD or not plausible or sum(s.n_tensors for s in shards) != n_tensors:
        raise bad_file(path, f"has a field {KEY} that does not describe its tensors; {DAMAGED}")
    return shards


def write_header(shards: Sequence[GgufFile], path: Path, *, overwrite: bool = False) -> int:
    """Write the header of a model to a file of its own.

    Args:
        shards: The model, all shards in order.
        path: The file; it appears complete or not at all. A folder that is not there is made, as apply does.
        overwrite: Replace a file that exists.

    Returns:
        Bytes written.

    Raises:
        RunError: the file exists, or cannot be written.

    """
    data = header_bytes(shards)
    if os.path.exists(path) and not overwrite:  # noqa: PTH110 - Path.exists raises for a name that is too long
        raise RunError.at(path, "exists already; give another -o, or --overwrite to replace it")
    with suppress(OSError):  # the file itself is refused next, and told with the reason
        path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(data)
    return len(data)


def header_bytes(shards: Sequence[GgufFile]) -> bytes:
    """The bytes of a header file."""
    first = shards[0]
    if first.absent:
        files = list(first.absent)
        tensors = [first.tensors[start:end] for start, end in bounds(files)]
    else:
        files = [Shard(s.nbytes, s.data_start, len(s.tensors)) for s in shards]
        tensors = [s.tensors for s in shards]
    numbers = [n for f in files for n in (f.nbytes, f.data_start, f.n_tensors)]
    kept = [f for f in first.metadata if f.key != KEY]
    fields = [*kept, make_field(KEY, numbers, ValueType.ARRAY, ValueType.UINT64)]
    table = [
        table_entry(OutputTensor(t.name, t.shape, t.type_id, t.nbytes), t.offset - file.data_start)
        for file, its_tensors in zip(files, tensors, strict=True)
        for t in its_tensors
    ]
    parts = [FILE_HEAD.pack(MAGIC, VERSION, len(table), len(fields)), *(f.raw for f in fields), *table]
    data = b"".join(parts)
    return data + bytes(pad(len(data), first.alignment) - len(data))


def bounds(shards: Sequence[Shard]) -> list[tuple[int, int]]:
    """First and last row (exclusive) of each shard in the tensor table."""
    ends = [0]
    for shard in shards:
        ends.append(ends[-1] + shard.n_tensors)
    return list(pairwise(ends))
