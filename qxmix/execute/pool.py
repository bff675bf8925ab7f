"""Where tasks run: an executor, and how it is fed, watched and stopped."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from qxmix.execute.death import Death

WINDOW = 3
"""Tasks in flight per worker: one runs, the others wait, so that no worker does."""


@dataclass(frozen=True, slots=True)
class Pool:
    """An executor and how to feed and stop it."""

    executor: Executor
    n_workers: int
    request_stop: Callable[[str], None]
    """Makes the running tasks of an apply end at their next step."""
    window: int
    """Tasks submitted at a time."""
    cause_of_death: Callable[[], Death] = lambda: Death("died", of_memory=True)
    """What became of a worker, once the executor is broken."""
    look: Callable[[], None] = lambda: None
    """Called while results are waited for; raises RunError where nobody will make one any more."""
