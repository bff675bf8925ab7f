"""Files with the header of a model and none of its weights: a few megabytes that plans can be made from.

Such a file is GGUF with the metadata of the model's first shard, the tensors of all its shards, and one field more::

    qxmix.header_only = array of u64: for each shard its size, where its tensor data start, and how many tensors it has

The offsets in the tensor table are those in the shards, so every engine finds that the data are missing and refuses
the file.  Keys that start with ``qxmix.`` are neither carried into an output nor part of a header's hash.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from qxmix.container.gguf_format import U64, ValueType
from qxmix.container.model import MetadataField, field_of
from qxmix.container.source import Given

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


def absent_shards(given: Given, metadata: Sequence[MetadataField], n_tensors: int) -> tuple[Shard, ...]:
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
        raise given.damaged(f"has a field {KEY} that does not describe its tensors")
    return shards


def bounds(shards: Sequence[Shard]) -> list[tuple[int, int]]:
    """First and last row (exclusive) of each shard in the tensor table."""
    ends = [0]
    for shard in shards:
        ends.append(ends[-1] + shard.n_tensors)
    return list(pairwise(ends))
