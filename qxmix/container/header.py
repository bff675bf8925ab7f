"""Reading the header of a model: one file, or all shards of it."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from qxmix.container.gguf_format import GENERAL_TYPE
from qxmix.container.model import ModelHeader
from qxmix.container.parse import GgufFile, parse_gguf
from qxmix.container.recognize import IMATRIX_FOR_MODEL
from qxmix.container.remote.address import is_remote
from qxmix.container.shards import with_all_shards
from qxmix.container.source import bad_file


def read_header(path: str | PathLike[str]) -> ModelHeader:
    """Read everything of a GGUF model but its weights.

    Only the header is touched; arrays such as the vocabulary are carried as raw bytes.

    Args:
        path: The model, or the first shard (``...-00001-of-0000N.gguf``) of a split one; the others stand beside it.
            An address, ``https://...`` or ``hf://owner/repo/file.gguf[@revision]``, is read by ranges.

    Raises:
        ModelFileError: it cannot be read, is no GGUF model, is damaged or cut off, or shards are missing or mixed up.

    """
    shards = read_shards(path)
    first = shards[0]
    absent = first.absent
    return ModelHeader(
        paths=(first.path,) * len(absent) if absent else tuple(s.path for s in shards),
        file_nbytes=tuple(s.nbytes for s in absent or shards),
        alignment=first.alignment,
        metadata=first.metadata,
        tensors=tuple(t for s in shards for t in s.tensors),
        weights="absent" if absent else "remote" if is_remote(path) else "here",
    )


def read_shards(path: str | PathLike[str]) -> tuple[GgufFile, ...]:
    """Read the headers of all shards of a model; see :func:`read_header`."""
    if is_remote(path):
        # Of the network only a model that is there pays for it.
        from qxmix.container.remote.header import read_remote  # noqa: PLC0415

        shards = read_remote(path)
        _refuse_other_kinds(shards[0])
        return shards
    first = parse_gguf(Path(path))
    _refuse_other_kinds(first)
    return (first,) if first.absent else with_all_shards(first)


def _refuse_other_kinds(file: GgufFile) -> None:
    if file.get(GENERAL_TYPE) == "imatrix":
        raise bad_file(file.path, IMATRIX_FOR_MODEL)
    if file.get(GENERAL_TYPE) == "moments":
        raise bad_file(file.path, "is a file of second moments, not a model; give it as --moments and the model here")
