"""Showing how far an apply is: a bar on a terminal, a line now and then elsewhere.  Both write to standard error."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from qxmix.cli.streams import notice
from qxmix.report.text import duration, human_nbytes

if TYPE_CHECKING:
    from qxmix.execute.result import OnProgress, Progress

QUIET_SECONDS = 30.0
"""Time between two lines in a log."""
_SURE_SECONDS = 2.0
"""Of work before what is left of it is estimated."""
_PHASES = {
    "kernels": "preparing kernels",
    "verify": "reading again what is done",
    "compare": "looking for what has not changed",
    "work": "quantizing",
    "check": "reading the output once more",
    "sync": "waiting for the disk",
    "done": "done",
    "hash": "comparing with the digests",
    "derive": "making again and comparing",
    "measure": "measuring",
    "lattice": "comparing whole numbers",
}


@contextmanager
def shown() -> Iterator[OnProgress]:
    """Yield what to call with each progress."""
    # A terminal without cursor movement (Emacs' shell, some logs) would get no bar, and no lines either.
    if not sys.stderr.isatty() or os.environ.get("TERM") in {"dumb", "unknown"}:
        yield _Lines()
        return
    # rich takes 0.1 s to import; a log must not pay for it.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn  # noqa: PLC0415
    from rich.progress import Progress as Bar  # noqa: PLC0415

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[amount]}"),
    )
    estimate = _Estimate()
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None, amount="")

        def on_progress(progress: Progress) -> None:
            left = estimate.left(progress, time.monotonic())
            amount = _amount(progress) + (f", about {duration(left)} left" if left is not None else "")
            bar.update(task, description=_PHASES[progress.phase], completed=progress.share, total=1.0, amount=amount)

        yield on_progress


@contextmanager
def chunks_shown(label: str) -> Iterator[Callable[[int, int], None]]:
    """Yield what to call with the number of chunks that are done and of all: a bar on a terminal, lines elsewhere."""
    if not sys.stderr.isatty():
        yield _chunk_lines()
        return
    with click.progressbar(length=1, label=label, file=sys.stderr) as bar:

        def on_chunk(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield on_chunk


def _chunk_lines() -> Callable[[int, int], None]:
    said = time.monotonic()

    def on_chunk(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said >= QUIET_SECONDS and done < total:
            said = time.monotonic()
            notice(f"{done} of {total} chunks")

    return on_chunk


class _Estimate:
    """How long the phase will still take, from its own pace: what was done before it began does not count."""

    def __init__(self) -> None:
        self._phase, self._began, self._first = "", 0.0, 0.0

    def left(self, progress: Progress, now: float) -> float | None:
        """Seconds, or None while it is too early to say."""
        if progress.phase != self._phase:
            self._phase, self._began, self._first = progress.phase, now, progress.share
        done, took = progress.share - self._first, now - self._began
        if took < _SURE_SECONDS or done <= 0:
            return None
        return took * (1 - progress.share) / done


class _Lines:
    """A line before kernels are compiled and when that took long, and every half minute of work."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._estimate = _Estimate()
        self._phase = self._compiling = ""

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        left = self._estimate.left(progress, now)
        if progress.phase != self._phase:
            if self._compiling and now - self._last > 1:
                notice(f"compiled kernels in {now - self._last:.0f} s; they are kept for the next time")
            self._compiling = progress.text if progress.phase == "kernels" else ""
            if self._compiling:
                notice(f"compiling the kernels of {self._compiling}, which takes seconds for each the first time")
            self._phase, self._last = progress.phase, now
        elif now - self._last >= QUIET_SECONDS:
            self._last = now
            estimate = f", about {duration(left)} left" if left is not None else ""
            notice(f"{progress.share:4.0%}  {_amount(progress)}{estimate}, at {progress.text}")


def _amount(progress: Progress) -> str:
    return f"{human_nbytes(progress.done_nbytes)} of {human_nbytes(progress.total_nbytes)}"
