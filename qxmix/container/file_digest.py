"""The digest of a mapped input file."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from qxmix.container.source import release

if TYPE_CHECKING:
    from mmap import mmap

_PIECE_NBYTES = 4 << 20


def file_digest(data: mmap) -> str:
    """SHA-256 of the file in hex, a piece at a time: the matrix of a large model has a gigabyte."""
    digest = sha256()
    for start in range(0, len(data), _PIECE_NBYTES):
        stop = min(start + _PIECE_NBYTES, len(data))
        digest.update(data[start:stop])
        release(data, start, stop)
    return digest.hexdigest()
