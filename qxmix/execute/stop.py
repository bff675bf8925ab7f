"""Stopping tasks that already run: looked at between two steps, a fraction of a second apart.

Inside this process an apply is stopped by its name, and other work by the threads that it has; a worker process is
simply ended, by the parent or with it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

_stopped: set[str] = set()


class _Here(threading.local):
    """What a thread knows of those it works for."""

    over = threading.Event()
    """Set when nobody wants its results any more; never, in a thread that :func:`threads` did not make."""


_here = _Here()


class Stopped(Exception):  # noqa: N818  # not an error: what was asked for
    """Raised inside a task whose apply was stopped."""


def request(run: str) -> None:
    """Stop all tasks of ``run`` in this process."""
    _stopped.add(run)


def forget(run: str) -> None:
    """Drop what :func:`request` noted, once no task of ``run`` is left."""
    _stopped.discard(run)


def check(run: str) -> None:
    """Raise :class:`Stopped` if the apply called ``run`` is to stop."""
    if run in _stopped:
        raise Stopped(run)


@contextmanager
def threads(n: int) -> Iterator[ThreadPoolExecutor]:
    """``n`` threads, whose tasks end at their next :func:`step` when the block ends in an error or is interrupted."""
    over = threading.Event()

    def begin() -> None:
        _here.over = over

    with ThreadPoolExecutor(n, initializer=begin) as pool:
        try:
            yield pool
        except BaseException:
            over.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def step() -> None:
    """Raise :class:`Stopped` in a task of :func:`threads` that nobody waits for any more."""
    if _here.over.is_set():
        raise Stopped
