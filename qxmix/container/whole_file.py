"""Small outputs that appear under their name complete and on the disk, or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EACCES, EBUSY, EISDIR, EPERM, EROFS
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from qxmix.container.source import show_path
from qxmix.errors import RunError

EXISTS = "exists already; give --overwrite to replace it, or another -o"


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write to; when the block ends without an error, it gets the name ``path``, else it is removed.

    A symbolic link is followed, so that its target is replaced and not the link.

    Raises:
        RunError: the system refuses; what stood under the name before is still there.

    """
    try:
        with _replacing(path) as file:
            yield file
    except OSError as error:
        raise _refused(path, error) from error


def write_whole(path: Path, text: str) -> None:
    """Write a text: a file gets all of it or keeps what it had, a pipe or device gets it as it comes.

    Raises:
        OSError: the system refuses.

    """
    if not _is_file_or_none(path):
        with path.open("a", encoding="utf-8") as stream:
            stream.write(text)
        return
    try:
        with _replacing(path) as file:
            file.write(text.encode())
    except OSError as error:
        # Nothing can be put beside a file in a folder of somebody else's, nor in the place of one that is mounted.
        if error.errno not in {EACCES, EBUSY, EPERM, EROFS} or not path.is_file():
            raise
        path.write_text(text, encoding="utf-8")


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """As :func:`whole_file`, with the system's own errors."""
    partial = None
    try:
        target, partial = _places(path)
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        if partial is not None:
            # It need not be there, nor its folder be one; what was refused before is what counts.
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def refuse_unwritable(path: Path) -> None:
    """Let pass a path where :func:`whole_file` can write: before work that may take long.

    Raises:
        RunError: it cannot.

    """
    try:
        _, partial = _places(path)
        partial.touch(exist_ok=False)
        partial.unlink()
    except OSError as error:
        raise _refused(path, error) from error


def _places(path: Path) -> tuple[Path, Path]:
    """What a name stands for, and what stands beside it until it is complete."""
    target = path.resolve()
    if target.is_dir():
        raise IsADirectoryError(EISDIR, os.strerror(EISDIR))
    if not _is_file_or_none(path):
        raise OSError("it is a device, pipe or socket, which a file would take the place of")
    return target, target.with_name(f".{target.name[:80]}.{uuid4().hex[:12]}.partial")


def _is_file_or_none(path: Path) -> bool:
    """Whether a name is a regular file's, or free: not that of a device, pipe or stream, which may be a file's, too."""
    if path.is_relative_to("/proc") or str(path) in {"/dev/stdout", "/dev/stderr"} or path.is_relative_to("/dev/fd"):
        return False
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return True


def _refused(path: Path, error: OSError) -> RunError:
    text = f"cannot be written: {error.strerror or error}; give another path, or make room there"
    return RunError.at(show_path(path), text)


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Let pass a path that is free, or may be taken.

    Raises:
        RunError: there is a file, and nobody said that it may go.

    """
    if not overwrite and os.path.lexists(path):
        raise RunError.at(show_path(path), EXISTS)
