"""Work on kernels in processes of their own, several at a time.

A process goes on with the next kernel: what a new one imports before its first, numba above all, takes a second, more
than most decoders do, and what kernels have in common is compiled once in it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from qxmix.parent import end_with_parent
from qxmix.quants.kernels.kernel import Kernel, every_kernel


class Work(NamedTuple):
    """What new interpreters run: code that ends with a call of ``serve``."""

    code: str
    arguments: tuple[str, ...] = ()
    """Of the interpreter."""
    environment: Mapping[str, str] = os.environ
    folder: Path | None = None
    """The working folder; that of this process where there is none."""
    n_kernels: int = 1
    """What one process works on before another takes its place: nothing of numba's is ever freed."""


class Outcome(NamedTuple):
    """How the work on a kernel ended."""

    kernel: Kernel
    failed: str
    """The last line of what it complained about; empty where all went well."""


def work_on(
    kernels: Sequence[Kernel], work: Work, n_processes: int, on_done: Callable[[Outcome], None] | None = None
) -> None:
    """Do it to each, ``n_processes`` at a time; ``on_done`` is told of each in turn."""
    idle: list[_Process] = []
    running: set[_Process] = set()

    def done(kernel: Kernel) -> Outcome:
        try:
            process = idle.pop()
        except IndexError:
            process = _Process(work)
        running.add(process)
        failed = process.work_on(kernel)
        running.discard(process)
        if process.goes_on:
            idle.append(process)
        return Outcome(kernel, failed)

    try:
        with ThreadPoolExecutor(n_processes) as pool:
            try:
                for outcome in pool.map(done, kernels):
                    if on_done:
                        on_done(outcome)
            except BaseException:
                # Ctrl-C must not wait for seconds of compiling.
                pool.shutdown(wait=False, cancel_futures=True)
                for process in tuple(running):
                    process.kill()
                raise
    finally:
        for process in idle:
            process.end()


class _Process:
    """An interpreter that works on one kernel after another."""

    def __init__(self, work: Work) -> None:
        # multiprocessing would import the caller's main module again, guarded or not.
        import subprocess  # noqa: PLC0415 - where there is something to do

        environment = {**work.environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._left = work.n_kernels
        self._process = subprocess.Popen(
            [sys.executable, "-c", work.code, *work.arguments], env=environment, cwd=work.folder, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    @property
    def goes_on(self) -> bool:
        """Whether it takes another kernel."""
        return self._left > 0

    def work_on(self, kernel: Kernel) -> str:
        """What it complained about in the end, if anything."""
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answers is not None
        self._left -= 1
        try:
            print(kernel, file=asked, flush=True)
            answer = answers.readline()
        except OSError:
            answer = ""
        if not answer:  # it ended before it was done
            self._left = 0
            return f"exit status {self.end()}"
        failed = answer.strip()
        if failed:  # nobody knows what is left of it
            self._left = 0
        if not self.goes_on:
            self.end()
        return failed

    def end(self) -> int:
        """Let it end; its exit status."""
        self._process.communicate()
        return self._process.returncode

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()


def serve(work: Callable[[Kernel], object]) -> None:
    """Do the work to the kernels that the lines of the standard input name; then end the process.

    A line is answered by an empty one, or by what went wrong.
    """
    end_with_parent()
    answers, sys.stdout = sys.stdout, sys.stderr
    named = {str(kernel): kernel for kernel in every_kernel()}
    for line in sys.stdin:
        failed = ""
        try:
            work(named[line.strip()])
        except Exception as error:  # noqa: BLE001 - the one that asked is told
            failed = " ".join(f"{type(error).__name__}: {error}".split())
        print(failed, file=answers, flush=True)
    os._exit(0)  # after a half second of freeing what numba made, otherwise
