"""Workers that are processes."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from typing import Any

from qxmix.execute.death import Death, how_it_ended
from qxmix.parent import end_with_parent

_DEATH_TIMEOUT = 1.0
"""Seconds in which a broken executor has terminated its processes."""


def open_processes(n: int) -> tuple[ProcessPoolExecutor, Watching]:
    """An executor of ``n`` processes, and the context that remembers them."""
    # Spawned, never forked: a fork copies locks that other threads hold, Numba's compiler lock among them.
    context = Watching()
    _start_tracker()
    return ProcessPoolExecutor(n, context, initializer=_start_worker), context


class Watching(SpawnContext):
    """The context of spawned processes that remembers them: the executor tells that one died, and not of what."""

    def __init__(self) -> None:
        super().__init__()
        self._started: list[BaseProcess] = []

    def Process(self, *args: Any, **kwargs: Any) -> BaseProcess:  # type: ignore[override]  # noqa: ANN401, N802
        """Make a process, as the executor does when it needs one."""
        self._started.append(_Worker(*args, **kwargs))
        return self._started[-1]

    def terminate(self) -> None:
        """End all processes, whatever they are at."""
        for process in self._started:
            if process.pid is not None:  # Ctrl-C may come between a process's making and its start
                process.terminate()

    def cause_of_death(self) -> Death:
        """How the first of the processes that did not end in peace ended; the executor terminates the others."""
        ended = [code for process in self._started if (code := _exit_code(process))]
        codes = [code for code in ended if code != -signal.SIGTERM] or ended
        return how_it_ended(codes[0]) if codes else Death("died", of_memory=True)


class _Worker(SpawnProcess):
    """A process that is deaf to Ctrl-C from its first moment: one that still imports would print a traceback of it."""

    def start(self) -> None:
        _start_tracker()  # before: where that starts it lets Ctrl-C through again
        with _held("SIGINT"):
            super().start()


@contextmanager
def _held(name: str) -> Iterator[None]:
    """Hold back a signal in this thread, and in what it starts until that says otherwise; not on Windows."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {getattr(signal, name)})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_tracker() -> None:
    """Have Python's process that minds what executors share, deaf to a terminal that is closed.

    It is deaf to Ctrl-C and SIGTERM by itself.  Killed by SIGHUP, which the whole group gets, it is started anew, knows
    of nothing, and prints a traceback of each thing that it is told to drop.
    """
    if not hasattr(signal, "pthread_sigmask"):
        return
    from multiprocessing import resource_tracker  # noqa: PLC0415 - not on Windows

    with _held("SIGHUP"):
        resource_tracker.ensure_running()


def _exit_code(process: BaseProcess) -> int | None:
    if process.pid is None:
        return None
    deadline = time.monotonic() + _DEATH_TIMEOUT
    process.join(_DEATH_TIMEOUT)
    # Whoever waits first learns the code: where that was the executor's own thread, it tells a moment later.
    while process.exitcode is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return process.exitcode


def _start_worker() -> None:
    # A terminal sends Ctrl-C to the whole group; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    end_with_parent()
