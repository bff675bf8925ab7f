"""Tasks run by the workers of a Dask cluster."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import CancelledError, Executor, Future
from contextlib import closing, contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from qxmix.errors import RunError
from qxmix.execute.pool import WINDOW, Pool

if TYPE_CHECKING:
    from distributed import Client
    from distributed import Future as Remote

T = TypeVar("T")

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


def open_dask(address: str, n_workers: int | None) -> Iterator[Pool]:
    """Reach the scheduler at ``address``, and leave it at the end.

    Args:
        address: What the scheduler prints, as ``tcp://HOST:PORT``.
        n_workers: Workers that tasks are kept ready for; None for as many as the cluster has threads.

    Raises:
        RunError: there is none, Dask is not installed, or the cluster has no workers.

    """
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
        executor = _DaskExecutor(client)

        def stop_all(_run: str) -> None:
            # Leaving cancels what waits; a task that runs goes on to its end, and writes what it would have written.
            hush()
            executor.shutdown(wait=False)

        yield Pool(executor, n, stop_all, WINDOW * n, look=_Watch(address, client).look)


class _DaskExecutor(Executor):
    """Runs tasks on a cluster.

    Dask's own executor looks at a task's state after it has its result: one whose worker goes in between counts as
    failed there, with the result as the error.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._remote: set[Remote] = set()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:  # noqa: ANN401
        """Hand ``fn`` to the scheduler and return a future that ends as the task does."""
        # Not pure: a pure task could be answered from what the cluster remembers of an earlier run, whose file is gone.
        remote = self._client.submit(fn, *args, pure=False, **kwargs)
        self._remote.add(remote)
        future: Future[T] = Future()
        self._client.loop.add_callback(self._carry, remote, future)
        return future

    async def _carry(self, remote: Remote, future: Future[T]) -> None:
        """Give ``future`` what becomes of ``remote``, in the client's own thread."""
        try:
            (result,) = await self._client.gather([remote], asynchronous=True)
        except (CancelledError, asyncio.CancelledError):
            future.cancel()
            future.set_running_or_notify_cancel()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to the future
            if future.set_running_or_notify_cancel():
                future.set_exception(error)
        else:
            if future.set_running_or_notify_cancel():
                future.set_result(result)
        finally:
            self._remote.discard(remote)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        """Cancel all tasks that have not ended; to be waited for are their futures alone."""
        self._client.cancel(list(self._remote))


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
