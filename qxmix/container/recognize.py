"""Saying what a file is that is not the GGUF it was given as, and what to do about it."""

from __future__ import annotations

import re
import string
from pathlib import Path

from qxmix.container.gguf_format import FILE_HEAD, MAGIC, READABLE_VERSIONS, U32, U64

HEAD_NBYTES = 1024
"""How many bytes from the start of a file tell what it is."""
PARTIAL = ".partial"
"""What the name of an output has at its end until an apply has finished it."""
IMATRIX_FOR_MODEL = "is an importance matrix, not a model; give it as --imatrix and the GGUF model here"

_CONVERT = "convert the model's folder with llama.cpp's convert_hf_to_gguf.py and give the .gguf file it writes"
_IMATRIX = "give the file that llama-imatrix wrote (.dat or .gguf)"
_UNFINISHED = (
    "is what an apply has made so far", "wait for it, or if it was interrupted give the same command --resume",
)  # fmt: skip
_ZEROS = ("starts with zeros: a file whose writing was interrupted", "download or make it again")

_STARTS: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the file itself", "run `git lfs pull` in its folder"),
    (b"PK\x03\x04", "is a zip archive, probably a PyTorch checkpoint", ""),
    (b"\x80", "is a Python pickle, probably a PyTorch checkpoint", ""),
    (b"\x89HDF", "is an HDF5 file, probably a Keras or TensorFlow checkpoint", ""),
    (b"\x93NUMPY", "is a NumPy array", ""),
    (b"\x1f\x8b", "is compressed with gzip", "decompress it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd", "decompress it first"),
    (b"\xfd7zXZ", "is compressed with xz", "decompress it first"),
    (b"lmgg", "is a GGML file of 2023, older than GGUF", ""),
    (b"fmgg", "is a GGMF file of 2023, older than GGUF", ""),
    (b"tjgg", "is a GGJT file of 2023, older than GGUF", ""),
    (b"algg", "is a GGLA adapter of 2023, older than GGUF", ""),
    (b"<", "is a web page or XML, not the file itself", "the download went wrong, try it again"),
)
"""First bytes, what the file is, and the remedy where it does not depend on what the file was given as."""

_MAX_NAME_NBYTES = 512
_PRINTABLE = frozenset(string.printable.encode())


def problem_with_start(path: Path, data: bytes, nbytes: int, again: str) -> str | None:
    """What is wrong with the first bytes of a file given as a model; None where they are a GGUF file's.

    Args:
        path: The file, for what its name tells.
        data: Its first bytes; 1024 are enough.
        nbytes: Its size.
        again: How to get it anew.

    """
    if data[:4] != MAGIC:
        return _what_it_is(path, data, nbytes, again)
    if nbytes < FILE_HEAD.size:
        return f"is cut off: {nbytes} bytes cannot hold a GGUF header; {again}"
    (version,) = U32.unpack_from(data, 4)
    if version in READABLE_VERSIONS:
        return None
    if version == 1:
        return f"is GGUF version 1, which no engine reads any more; {_CONVERT}"
    if version in {v << 24 for v in (1, *READABLE_VERSIONS)}:
        return (
            "is a big-endian GGUF file; turn it around first: `gguf-convert-endian FILE little` (a tool of the gguf "
            "Python package)"
        )
    return f"is GGUF version {version}, and qxmix reads 2 and 3; look for a newer qxmix, or {again}"


def looks_like_dat(data: bytes, nbytes: int) -> bool:
    """Whether a file starts like a legacy importance matrix: a count of entries and the name of the first."""
    if nbytes < 16:  # noqa: PLR2004 - three integers and a value
        return False
    n_entries, n_name = U32.unpack_from(data, 0)[0], U32.unpack_from(data, 4)[0]
    name = data[8 : 8 + n_name]
    fits = 0 < n_name <= _MAX_NAME_NBYTES and 0 < n_entries <= nbytes // 16
    return fits and re.fullmatch(rb"[!-~]+", name) is not None


def looks_like_recipe(path: Path, data: bytes) -> bool:
    """Whether a file is a recipe by its name or its first bytes."""
    named = path.suffix in {".yaml", ".yml"} and not data.startswith(MAGIC)
    return named or data.lstrip().startswith(b"qxmix:")


def problem_with_imatrix_start(path: Path, data: bytes, nbytes: int) -> str | None:
    """What is wrong with the first bytes of a file given as an importance matrix, as far as they tell."""
    kind, remedy = _kind(path, data, nbytes)
    return f"{kind}; {remedy or _IMATRIX}" if kind else None


def _what_it_is(path: Path, data: bytes, nbytes: int, again: str) -> str:
    kind, remedy = _kind(path, data, nbytes)
    if kind:
        return f"{kind}; {remedy or _CONVERT}"
    if looks_like_dat(data, nbytes):
        return IMATRIX_FOR_MODEL
    return f"is no GGUF file (first bytes {data[:4].hex(' ')}); check the path, or {again}"


def _kind(path: Path, data: bytes, nbytes: int) -> tuple[str, str]:
    """What a file is that is neither GGUF nor an importance matrix, and a remedy; two empty strings if unknown."""
    if path.suffix == ".safetensors" or _is_safetensors(data, nbytes):
        return "is a safetensors file, not GGUF", ""
    for start, kind, remedy in _STARTS:
        if data.startswith(start):
            return kind, remedy
    if not any(data):
        return _UNFINISHED if path.suffix == PARTIAL else _ZEROS
    if looks_like_recipe(path, data):
        return "is a recipe", "where a command takes recipe and model, the recipe comes first"
    if _PRINTABLE.issuperset(data):
        return "is plain text", "check the path"
    return "", ""


def _is_safetensors(data: bytes, nbytes: int) -> bool:
    """Eight bytes of header length and then JSON."""
    return data[8:9] == b"{" and U64.unpack_from(data)[0] < nbytes
