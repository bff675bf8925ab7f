"""Being told to stop: by Ctrl-C, by ``kill``, or by a terminal that is closed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import click

from qxmix import shells

ARGUMENTS = "qxmix.arguments"
"""Where a context keeps what the command was called with."""
_SAME_SECONDS = 0.3
"""A second signal within this time is the same wish: ``timeout`` sends to the process and to its group."""
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
"""The last is not on every system."""


class Interrupted(KeyboardInterrupt):
    """Raised where the signal found the main thread."""

    def __init__(self, number: int) -> None:
        """Note the signal's number."""
        super().__init__(number)
        self.exit_code = 128 + number
        """As shells have it."""
        self.parting = "Interrupted."
        """What there is to say to the user."""


def to_resume() -> str:
    """The command that goes on where the one that runs is stopped; inside ``demo`` that is the ``apply`` it ran."""
    arguments: list[str] = click.get_current_context().meta[ARGUMENTS]
    return shells.command_line(["qxmix", *(a for a in arguments if a not in {"--resume", "--overwrite"}), "--resume"])


def hear_interrupts() -> None:
    """From now on Ctrl-C is an exception, where until now it ended the process."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def stoppable(parting: Callable[[], str]) -> Iterator[None]:
    """Raise :class:`Interrupted` inside at the first signal; at the next end at once, saying ``parting``.

    Ending may take longer than the user likes, with a worker that waits for a network file system; what is done is
    as safe then as after a power cut, and workers end with their parent.  Signals that were ignored before, as by
    ``nohup``, stay so.
    """
    first = 0.0

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal first
        if not first:
            first = time.monotonic()
            raise Interrupted(number)
        if time.monotonic() - first > _SAME_SECONDS:
            with contextlib.suppress(OSError):
                # Not by a stream, which may be in the middle of a write.
                os.write(2, f"{parting()}\n".encode(errors="replace"))
            os._exit(128 + number)

    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    heard = [number for number in numbers if before[number] is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, on_signal)
    try:
        yield
    except Interrupted as stopped:
        stopped.parting = parting()
        raise
    finally:
        if not first:
            for number in heard:
                signal.signal(number, before[number])
