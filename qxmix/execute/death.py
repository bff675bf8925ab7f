"""What became of a worker process."""

from __future__ import annotations

import signal
from typing import NamedTuple

from qxmix import system


class Death(NamedTuple):
    """What became of a worker."""

    text: str
    """``was killed by SIGSEGV (Segmentation fault)``."""
    of_memory: bool
    """Whether memory may have run out."""


def how_it_ended(exit_code: int) -> Death:
    """An exit code of a process in words; it is minus the signal's number where a signal ended it."""
    if exit_code >= 0:
        why = system.fault(exit_code)
        return Death(f"ended with exit code {exit_code}{why and f' ({why})'}", of_memory=True)
    try:
        name, meaning = signal.Signals(-exit_code).name, signal.strsignal(-exit_code)
    except ValueError:
        return Death(f"was killed by signal {-exit_code}", of_memory=False)
    of_memory = name == "SIGKILL"
    hint = ", as the system does where memory runs out" if of_memory else ""
    return Death(f"was killed by {name} ({meaning}){hint}", of_memory)
