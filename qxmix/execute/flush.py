"""Setting the disk to work while tensors are computed, so that the wait at the end is short."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from qxmix import system
from qxmix.errors import RunError
from qxmix.execute.aids import REFUSALS

_FLUSH_NBYTES = 64 << 20
"""Output after which a flush begins.  It also bounds what a power cut can take."""


class Flusher:
    """A thread that syncs files whenever enough has been written; a context manager."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._wanted = threading.Event()
        self._ended = False
        self._nbytes = 0
        self._error: tuple[Path, OSError] | None = None
        self._thread = threading.Thread(target=self._run, name="qxmix-flush", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ended = True
        self._wanted.set()
        if kind is None:
            # Not after a failure: Ctrl-C must not wait for a disk.
            self._thread.join()

    def wrote(self, nbytes: int) -> None:
        """Count output, and raise what an earlier flush met.

        Raises:
            RunError: the disk reported an error.

        """
        if self._error is not None:
            path, error = self._error
            raise RunError.at(path, f"the disk failed while writing (fdatasync: {error.strerror})") from error
        self._nbytes += nbytes
        if self._nbytes >= _FLUSH_NBYTES:
            self.begin()

    def begin(self) -> None:
        """Set the disk to work on all that was written, while the caller reads it once more."""
        self._nbytes = 0
        self._wanted.set()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._ended:
                return
            for path in self._paths:
                try:
                    system.sync_data(path)
                except OSError as error:
                    # A file system that does not know the call need not; what it means is told by the sync at the end.
                    self._error = None if error.errno in REFUSALS else (path, error)
                    return
