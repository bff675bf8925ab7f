"""Reading the header of a model: one file, or all shards of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qxmix.container.gguf_format import GENERAL_TYPE
from qxmix.container.model import ModelHeader
from qxmix.container.parse import parse_gguf
from qxmix.container.shards import with_all_shards
from qxmix.container.source import bad_file

if TYPE_CHECKING:
    from os import PathLike


def read_header(path: str | PathLike[str]) -> ModelHeader:
    """Read everything of a GGUF model but its weights.

    The file is mapped and only its header is touched; arrays such as the vocabulary are carried as raw bytes.

    Args:
        path: The model, or the first shard (``...-00001-of-0000N.gguf``) of a split one; the others stand beside it.

    Raises:
        ModelFileError: it cannot be read, is no GGUF model, is damaged or cut off, or shards are missing or mixed up.

    """
    first = parse_gguf(Path(path))
    if first.get(GENERAL_TYPE) == "imatrix":
        raise bad_file(first.path, "is an importance matrix, not a model; give it as --imatrix and the GGUF model here")
    if first.get(GENERAL_TYPE) == "moments":
        raise bad_file(first.path, "is a file of second moments, not a model; give it as --moments and the model here")
    shards = with_all_shards(first)
    return ModelHeader(
        paths=tuple(s.path for s in shards),
        file_nbytes=tuple(s.nbytes for s in shards),
        alignment=first.alignment,
        metadata=first.metadata,
        tensors=tuple(t for s in shards for t in s.tensors),
    )
