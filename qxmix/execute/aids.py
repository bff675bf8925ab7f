"""Calls to the file system that only help: where one is refused, the apply goes on, and one note tells it.

Locks, syncing a folder and reserving space are not there on every network, FUSE, container or cluster file system.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qxmix.errors import Problem

REFUSALS = frozenset(
    {
        errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EBADF, errno.EACCES,
        errno.EPERM, errno.ENODEV, errno.ENOTTY, errno.EISDIR, errno.ESPIPE, errno.EROFS,
    }
)  # fmt: skip
"""What a file system answers to a call that it does not know.  Anything else, a full or failing disk, is an error."""


class Aids:
    """Those calls of one apply, and which of them were refused."""

    def __init__(self) -> None:
        self._refused: dict[str, tuple[Path, str]] = {}

    @contextmanager
    def allow(self, call: str, path: Path, without: str, *, but: int = 0) -> Iterator[None]:
        """Go on where the system refuses ``call``; ``without`` says what the user has to do without.

        ``but`` is an error number that means something else for this call.

        Raises:
            OSError: the call is known and failed.

        """
        try:
            yield
        except OSError as error:
            if error.errno not in REFUSALS or error.errno == but:
                raise
            self._refused.setdefault(f"{call} ({os.strerror(error.errno or 0)})", (path, without))

    def notes(self) -> tuple[Problem, ...]:
        """One note for all calls that were refused; none if none was."""
        if not self._refused:
            return ()
        calls, where = ", ".join(self._refused), next(iter(self._refused.values()))[0]
        without = "; ".join(dict.fromkeys(text for _, text in self._refused.values()))
        folder = str(where if where.is_dir() else where.parent)
        return (Problem(folder, f"this file system refuses {calls}: {without}", "note", "file-system"),)
