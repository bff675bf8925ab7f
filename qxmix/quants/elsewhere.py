"""Work on kernels in processes of their own, several at a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import subprocess

    from qxmix.quants.warmup import Kernel


class Work(NamedTuple):
    """What a new interpreter does to a kernel, whose type and direction are its first arguments."""

    code: str
    arguments: tuple[str, ...] = ()
    """Those behind them."""
    environment: Mapping[str, str] = os.environ
    folder: Path | None = None
    """The working folder; that of this process where there is none."""


class Outcome(NamedTuple):
    """How the work on a kernel ended."""

    kernel: Kernel
    failed: str
    """The last line of what it complained about; empty where all went well."""


def work_on(
    kernels: Sequence[Kernel], work: Work, n_processes: int, on_done: Callable[[Outcome], None] | None = None
) -> None:
    """Do it to each, ``n_processes`` at a time; ``on_done`` is told of each in turn."""
    running: set[subprocess.Popen[str]] = set()
    with ThreadPoolExecutor(n_processes) as pool:
        try:
            for outcome in pool.map(partial(_in_a_process, running, work), kernels):
                if on_done:
                    on_done(outcome)
        except BaseException:
            # Ctrl-C must not wait for seconds of compiling.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in tuple(running):
                process.kill()
            raise


def _in_a_process(running: set[subprocess.Popen[str]], work: Work, kernel: Kernel) -> Outcome:
    """Work in a new interpreter, which is in ``running`` meanwhile.

    multiprocessing would import the caller's main module again, guarded or not.
    """
    import subprocess  # noqa: PLC0415 - where there is something to do

    environment = {**work.environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", work.code, kernel.type, kernel.direction, *work.arguments]
    process = subprocess.Popen(
        command, env=environment, cwd=work.folder, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    running.add(process)
    _, complaint = process.communicate()
    running.discard(process)
    if not process.returncode:
        return Outcome(kernel, "")
    return Outcome(kernel, (complaint.strip().splitlines() or [f"exit status {process.returncode}"])[-1])
