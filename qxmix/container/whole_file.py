"""Small outputs that appear under their name complete and on the disk, or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from errno import EACCES, EBUSY, EDQUOT, EISDIR, ENOENT, ENOSPC, ENOTDIR, EPERM, EROFS
from itertools import islice
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from qxmix import shells, system
from qxmix.container.source import show_path
from qxmix.errors import RunError

EXISTS = "exists already; give --overwrite to replace it, or another -o"
_COMPARED = 1000
"""Names beside a folder that is not there that are compared with its; all of a large folder would take seconds."""


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
    if not is_file_or_none(path):
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
        path.write_text(text, encoding="utf-8", newline="\n")


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
        system.replace(partial, target)
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
    if not is_file_or_none(path):
        raise OSError("it is a device, pipe or socket, which a file would take the place of")
    return target, target.with_name(f".{target.name[:80]}.{uuid4().hex[:12]}.partial")


def is_file_or_none(path: Path) -> bool:
    """Whether a name is a regular file's, or free: not that of a device, pipe or stream, which may be a file's, too."""
    if is_stream(path):
        return False
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return True


def is_stream(path: Path) -> bool:
    """Whether a name is that of what a process has open, whatever that is: /dev/stdout."""
    return path.is_relative_to("/proc") or str(path) in {"/dev/stdout", "/dev/stderr"} or path.is_relative_to("/dev/fd")


def missing_folder(path: Path) -> str:
    """What is wrong where a file would lie in no folder, and what to do; empty where its folder is there."""
    folder = path.parent
    if os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir raises where a name is too long
        return ""
    there, lacks = folder.parent, folder.name
    if os.path.lexists(folder):
        return f"{show_path(folder)} is no folder, and this would be inside it; give another name"
    while not os.path.lexists(there) and there != there.parent:
        there, lacks = there.parent, there.name
    if not os.path.isdir(there):  # noqa: PTH112
        return f"{show_path(there)} is no folder, and this would be inside it; give another name"
    near = get_close_matches(lacks, _folders(there), 1)
    meant = show_path(there / near[0] / folder.relative_to(there / lacks) / path.name) if near else ""
    shown = show_path(folder)
    make = f"{shells.MAKE_FOLDERS} {shells.quoted(shown)}"
    text = f"there is no folder {shown}; make it first ({make}), or give another name"
    return f"{text}; did you mean {meant}?" if meant else text


def _folders(folder: Path) -> list[str]:
    with suppress(OSError), os.scandir(folder) as entries:
        return [entry.name for entry in islice(entries, _COMPARED) if entry.is_dir()]
    return []


def _refused(path: Path, error: OSError) -> RunError:
    why = f"cannot be written: {error.strerror or error}"
    if error.errno in {ENOENT, ENOTDIR} and (missing := missing_folder(path)):
        return RunError.at(show_path(path), missing)
    if error.errno in {ENOSPC, EDQUOT}:
        return RunError.at(show_path(path), f"{why}; make room there, or give another path")
    return RunError.at(show_path(path), f"{why}; give another path")


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Let pass a path that is free, or may be taken.

    Raises:
        RunError: there is a file, and nobody said that it may go.

    """
    if not overwrite and os.path.lexists(path):
        raise RunError.at(show_path(path), EXISTS)
