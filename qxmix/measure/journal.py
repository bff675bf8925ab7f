"""What is measured so far, beside the output: by it a measurement that was interrupted goes on.

One JSON line per result, under a key that is a hash of all that the result follows from, so nothing old is ever taken
for something new.  A line that was torn by a crash ends the journal there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qxmix import system
from qxmix.errors import RunError
from qxmix.execute.aids import REFUSALS


def key_of(*parts: object) -> str:
    """Hash of what a result follows from: bytes, or whatever JSON can write."""
    digest = hashlib.sha256()
    for part in parts:
        data = bytes(part) if isinstance(part, bytes | memoryview) else json.dumps(part).encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:32]


class Journal:
    """Results by key, each on the disk before the next is begun."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self._path = path
        self._results: dict[str, Any] = {}
        self._read()

    def get(self, key: str) -> Any:  # noqa: ANN401 - what JSON holds
        """The result under ``key``, or None."""
        return self._results.get(key)

    def put(self, key: str, result: object) -> None:
        """Note a result; None takes it back.

        Raises:
            RunError: the disk refuses.

        """
        line = json.dumps([key, result], separators=(",", ":")).encode() + b"\n"
        with RunError.of_system(self._path, "cannot be written"):
            written = os.write(self._descriptor, line)
            if written != len(line):  # the disk is full; the write that follows says so
                os.write(self._descriptor, line[written:])
        # As it will be read again: tuples become lists.
        self._results[key] = json.loads(line)[1]

    def _read(self) -> None:
        n_bytes = 0
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            file.seek(0)
            for line in file:
                try:
                    key, result = json.loads(line)
                except (ValueError, TypeError):
                    break
                if not line.endswith(b"\n"):
                    break
                self._results[str(key)] = result
                n_bytes += len(line)
        os.ftruncate(self._descriptor, n_bytes)


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """Open the journal at ``path`` for this process alone; it stays when the block is left.

    Raises:
        RunError: another measurement has it, or it cannot be opened.

    """
    with RunError.of_system(path, "cannot be opened"):
        descriptor = system.open_log(path)
    try:
        _lock(descriptor, path)
        yield Journal(descriptor, path)
    finally:
        system.unlock(descriptor)
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        system.lock(descriptor)
    except BlockingIOError:
        raise RunError.at(path, "another measurement writes it now; wait for that one, or give another -o") from None
    except OSError as error:
        # On SMB a lock that another has is EACCES; where there are no locks, two measurements are not kept apart.
        if error.errno not in REFUSALS or error.errno == errno.EACCES:
            raise
