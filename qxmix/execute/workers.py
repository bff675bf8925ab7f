"""Where tasks run.  Whatever it is, it is a ``concurrent.futures.Executor`` and nothing more is asked of it."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from typing import Any, Protocol, TypeVar

from qxmix import system
from qxmix.errors import RunError
from qxmix.execute import stop
from qxmix.execute.death import Death
from qxmix.processors import n_processors

T = TypeVar("T")

KINDS = ("threads", "processes", "serial")
"""Executors that are always there; besides them ``dask:ADDRESS`` and ``package:callable``."""
WINDOW = 3
"""Tasks in flight per worker: one runs, the others wait, so that no worker does."""

DASK_TIMEOUT = "10s"
"""How long a scheduler may take to answer."""

NO_WORKERS_SECONDS = 60.0
"""How long a cluster may be without a worker, where one that dies is mostly started anew within seconds."""


class _Fault(Enum):
    """What a scheduler may lack, and what to do then."""

    ANSWER = "has not answered", "once it works, --resume goes on"
    WORKERS = "has had no workers", "start some, and go on with --resume"
    RESULTS = "has had nothing to do and has not given all results", "once it works, --resume goes on"


class _Client(Protocol):
    """What is asked of Dask's."""

    def nthreads(self) -> Mapping[str, int]:
        """Threads of each worker."""

    def processing(self) -> Mapping[str, Collection[str]]:
        """The tasks that each worker has."""


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


class SerialExecutor(Executor):
    """Runs each task where it is submitted: for debugging, and as the slow and obvious case in tests."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:  # noqa: ANN401
        """Run ``fn`` now and return a future that is done."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  # whatever it is, it belongs to the future
            future.set_exception(error)
        return future


@contextmanager
def open_pool(spec: str, n_workers: int | None = None) -> Iterator[Pool]:
    """Open the executor that ``spec`` names and close it at the end, waiting for no task that was not begun.

    Args:
        spec: ``threads``, ``processes``, ``serial``, ``dask:ADDRESS`` of a scheduler, or ``package:callable`` whose
            call without arguments returns an executor.
        n_workers: Workers; None for one per processor, or as many threads as the cluster has.

    Raises:
        RunError: there is no such executor, or it cannot be reached.

    """
    n = n_workers or n_processors()
    if spec == "serial":
        yield Pool(SerialExecutor(), 1, stop.request, window=1)
    elif spec == "threads":
        yield from _closing(Pool(ThreadPoolExecutor(n, "qxmix"), n, stop.request, WINDOW * n))
    elif spec == "processes":
        yield from _processes(n)
    elif spec.startswith("dask:"):
        yield from _dask(spec.removeprefix("dask:"), n_workers)
    else:
        yield from _closing(Pool(_from_callable(spec), n, stop.request, WINDOW * n))


def _closing(pool: Pool) -> Iterator[Pool]:
    try:
        yield pool
    finally:
        pool.executor.shutdown(wait=True, cancel_futures=True)


def _processes(n: int) -> Iterator[Pool]:
    from qxmix.execute.processes import open_processes  # noqa: PLC0415 - multiprocessing, 20 ms of each start

    n = min(n, system.MAX_PROCESSES)
    executor, context = open_processes(n)
    # Ended, not asked: one that still imports would answer a second later, and a leaf half written is made anew anyway.
    yield from _closing(Pool(executor, n, lambda _run: context.terminate(), WINDOW * n, context.cause_of_death))


def _dask(address: str, n_workers: int | None) -> Iterator[Pool]:
    try:
        from distributed import Client  # noqa: PLC0415  # an extra
    except ImportError:
        raise RunError('Dask is not installed; install it with: pip install "qxmix[dask]"') from None
    if not re.search(r":\d+/?$|^inproc:", address):
        # Dask would say so, too, and then wait 20 s for what it never began.
        raise RunError(f"{address!r} is no address of a Dask scheduler; give the one it prints: dask:tcp://HOST:PORT")
    try:
        client = Client(address, timeout=DASK_TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise RunError(f"no Dask scheduler answers at {address}: {error}") from None
    with _hushed() as hush, closing(client):
        n = n_workers or sum(client.nthreads().values())
        if not n:
            raise RunError(f"the Dask scheduler at {address} has no workers; start some and try again")
        # Not pure: a pure task could be answered from what the cluster remembers of an earlier run, whose file is gone.
        executor = client.get_executor(pure=False)

        def stop_all(_run: str) -> None:
            # Leaving cancels what waits; a task that runs goes on to its end, and writes what it would have written.
            hush()
            executor.shutdown(wait=False)

        yield Pool(executor, n, stop_all, WINDOW * n, look=_Watch(address, client).look)


@contextmanager
def _hushed() -> Iterator[Callable[[], None]]:
    """Let no traceback of Dask's be printed, and yield what makes it say nothing more.

    Of a result that breaks off on its way, as what is cancelled may, it tells at length, and the apply in a line.
    """
    loggers = [logging.getLogger(name) for name in ("tornado.application", "distributed", "distributed.client")]
    levels = [logger.level for logger in loggers]
    loggers[0].setLevel(logging.CRITICAL)

    def hush() -> None:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)

    try:
        yield hush
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class _Watch:
    """Looks after a scheduler: Dask waits for ever for workers, and for results that it lost."""

    def __init__(self, address: str, client: _Client) -> None:
        self._address, self._client = address, client
        self._fault: _Fault | None = None
        self._since = 0.0

    def look(self) -> None:
        """Raise a RunError where there has been nobody to wait for since long."""
        before, self._fault = self._fault, self._found()
        now = time.monotonic()
        if self._fault is None or self._fault is not before:
            self._since = now
        elif now - self._since >= NO_WORKERS_SECONDS:
            what, advice = self._fault.value
            text = f"the Dask scheduler at {self._address} {what} for {NO_WORKERS_SECONDS:.0f} s"
            raise RunError(f"{text}; what is done is kept: {advice}")

    def _found(self) -> _Fault | None:
        """What is wrong; None where nothing is."""
        try:
            there, busy = self._client.nthreads(), self._client.processing()
        except Exception:  # noqa: BLE001 - Dask's own, the system's, asyncio's
            return _Fault.ANSWER
        if not there:
            return _Fault.WORKERS
        # A result that breaks off on its way here, as where the scheduler is started anew, ends no future.
        return None if any(busy.values()) else _Fault.RESULTS


def _from_callable(spec: str) -> Executor:
    if not re.fullmatch(r"[\w.]+:[\w.]+", spec):
        kinds = ", ".join(KINDS)
        raise RunError(f"unknown executor {spec!r}; there are {kinds}, dask:ADDRESS and package:callable")
    module, _, name = spec.partition(":")
    try:
        found: object = import_module(module)
    except Exception as error:
        # Whatever a module of the user's own may raise, not ImportError alone.
        raise RunError(f"executor {spec!r}: cannot import {module}: {error}") from error
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise RunError(f"executor {spec!r}: {module} has no callable {name}")
    try:
        executor = found()
    except Exception as error:
        raise RunError(f"executor {spec!r}: calling it raised {type(error).__name__}: {error}") from error
    if not isinstance(executor, Executor):
        kind = type(executor).__name__
        raise RunError(f"executor {spec!r} returned a {kind}, not a concurrent.futures.Executor")
    return executor
