"""Writing the header of a model to a file of its own, drawn in :mod:`qxmix.container.header_only`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from qxmix.container.fields import make_field
from qxmix.container.gguf_format import FILE_HEAD, MAGIC, VERSION, ValueType, pad
from qxmix.container.header_only import KEY, Shard, bounds
from qxmix.container.layout import OutputTensor, table_entry
from qxmix.container.parse import GgufFile
from qxmix.container.whole_file import EXISTS, whole_file
from qxmix.errors import RunError


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
    data = _header_bytes(shards)
    if os.path.exists(path) and not overwrite:  # noqa: PTH110 - Path.exists raises for a name that is too long
        raise RunError.at(path, EXISTS)
    with suppress(OSError):  # the file itself is refused next, and told with the reason
        path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(data)
    return len(data)


def _header_bytes(shards: Sequence[GgufFile]) -> bytes:
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
