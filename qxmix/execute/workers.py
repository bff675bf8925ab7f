"""Where tasks run.  Whatever it is, it is a ``concurrent.futures.Executor`` and nothing more is asked of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TypeVar

from qxmix import system
from qxmix.errors import RunError
from qxmix.execute import stop
from qxmix.execute.pool import WINDOW, Pool
from qxmix.processors import n_processors

T = TypeVar("T")

KINDS = ("threads", "processes", "serial")
"""Executors that are always there; besides them ``dask:ADDRESS`` and ``package:callable``."""


class _SerialExecutor(Executor):
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
        yield Pool(_SerialExecutor(), 1, stop.request, window=1)
    elif spec == "threads":
        yield from _closing(Pool(ThreadPoolExecutor(n, "qxmix"), n, stop.request, WINDOW * n))
    elif spec == "processes":
        yield from _processes(n)
    elif spec.startswith("dask:"):
        from qxmix.execute.dask_pool import open_dask  # noqa: PLC0415 - logging, queues: of no use to others

        yield from open_dask(spec.removeprefix("dask:"), n_workers)
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
