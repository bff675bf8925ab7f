"""Stopping tasks that already run: looked at between two steps, a fraction of a second apart.

Inside this process an apply is stopped by its name; a worker process is simply ended, by the parent or with it.
"""

from __future__ import annotations

import threading

_stopped: set[str] = set()


class Stopped(Exception):  # noqa: N818  # not an error: what was asked for
    """Raised inside a task whose apply was stopped."""


def request(run: str) -> None:
    """Stop all tasks of ``run`` in this process."""
    _stopped.add(run)


def forget(run: str) -> None:
    """Drop what :func:`request` noted, once no task of ``run`` is left."""
    _stopped.discard(run)


def end_with_parent() -> None:
    """In a worker process: end when the parent is gone."""
    threading.Thread(target=_follow_parent, daemon=True).start()


def check(run: str) -> None:
    """Raise :class:`Stopped` if the apply called ``run`` is to stop."""
    if run in _stopped:
        raise Stopped(run)


def _follow_parent() -> None:
    # A worker of a parent that was killed would wait for work for ever, and hold the terminal.
    import multiprocessing as mp  # noqa: PLC0415
    import os  # noqa: PLC0415

    parent = mp.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
