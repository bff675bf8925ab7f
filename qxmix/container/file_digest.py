"""The digest of an input file."""

from __future__ import annotations

from hashlib import sha256

from qxmix.container.source import FileBytes

_PIECE_NBYTES = 4 << 20


def file_digest(data: FileBytes) -> str:
    """SHA-256 of the file in hex, a piece at a time: the matrix of a large model has a gigabyte."""
    digest = sha256()
    for start in range(0, len(data), _PIECE_NBYTES):
        digest.update(data[start : start + _PIECE_NBYTES])
    return digest.hexdigest()
