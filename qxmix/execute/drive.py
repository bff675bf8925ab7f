"""Feeding tasks to an executor and taking their results, a window at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import BrokenExecutor, Future
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from qxmix.errors import QxmixError, RunError
from qxmix.execute.task import Bundle, Task, TaskResult
from qxmix.execute.work import run_bundle

if TYPE_CHECKING:
    from qxmix.execute.pool import Pool

LOOK_SECONDS = 5.0
"""After so long without a result it is asked whether there still is who makes one."""

OnResult = Callable[[Task, TaskResult], None]
Results = Future[tuple[TaskResult, ...]]
Pending = dict[Results, Bundle]


def drive(tasks: Iterable[Task], pool: Pool, run: str, on_result: OnResult) -> None:
    """Run all tasks, each by itself; see :func:`drive_bundles`."""
    drive_bundles(((task,) for task in tasks), pool, (run,), on_result)


def drive_bundles(bundles: Iterable[Bundle], pool: Pool, runs: Iterable[str], on_result: OnResult) -> None:
    """Run all bundles in any order, at most a window of them submitted at a time.

    When one fails, or the caller is interrupted, those of ``runs`` that are under way are told to stop, those that wait
    are dropped when the pool is closed, and results that are already there are still delivered, each with its task.

    Raises:
        QxmixError: of the first bundle that failed; a dead or unreachable worker is a RunError.

    """
    pending: Pending = {}
    ended: SimpleQueue[Results] = SimpleQueue()
    try:
        for bundle in bundles:
            future = _submit(pool, bundle)
            pending[future] = bundle
            # `wait` would lock all that are pending for each that has ended.
            future.add_done_callback(ended.put)
            if len(pending) >= pool.window:
                _collect(pending, _all_there(ended, pool), on_result)
        while pending:
            _collect(pending, _all_there(ended, pool), on_result)
    except BaseException as error:
        # What waits is left to the closing of the pool.  Cancelled from here, it ends the thread of an executor of
        # processes, which gives each task that is left an error when its processes are gone (Python 3.11): nobody
        # empties its pipe then, and with more than 64 KB in there Python waits for ever at its end.
        for run in runs:
            pool.request_stop(run)
        if isinstance(error, BrokenExecutor):
            death = pool.cause_of_death()
            advice = ", with fewer workers (-j) if memory is short" if death.of_memory else ""
            text = f"a worker process {death.text}; what is done is kept: go on with --resume{advice}"
            raise RunError(text) from error
        raise


def _submit(pool: Pool, bundle: Bundle) -> Results:
    kind = type(pool.executor).__name__
    try:
        future: object = pool.executor.submit(run_bundle, bundle)
    except (QxmixError, BrokenExecutor):
        raise
    except Exception as error:
        text = f"the executor {kind} takes no tasks: {type(error).__name__}: {error}; what is done is kept"
        raise RunError(text) from error
    if not isinstance(future, Future):
        raise RunError(f"the executor {kind} returned a {type(future).__name__}, not a concurrent.futures.Future")
    return future


def _all_there(ended: SimpleQueue[Results], pool: Pool) -> list[Results]:
    """Wait for one that has ended, and take all that have by then; meanwhile none is submitted."""
    while True:
        try:
            first = ended.get(timeout=LOOK_SECONDS)
        except Empty:
            pool.look()
        else:
            return [first, *(ended.get() for _ in range(ended.qsize()))]


def _collect(pending: Pending, ended: Sequence[Results], on_result: OnResult) -> None:
    failure: BaseException | None = None
    for future in ended:
        bundle = pending.pop(future)
        if future.cancelled():
            # What Dask does with all tasks when its scheduler is gone.
            error: BaseException | None = RunError("the executor dropped a task; once it works, --resume goes on")
        else:
            error = future.exception()
        if error is None:
            for task, result in zip(bundle, _checked(bundle, future.result()), strict=True):
                on_result(task, result)
        elif failure is None:
            failure = error if isinstance(error, QxmixError | BrokenExecutor) else _foreign(bundle[0], error)
    if failure is not None:
        raise failure


def _checked(bundle: Bundle, results: object) -> tuple[TaskResult, ...]:
    """The results, if they are those of this bundle: an executor may be anyone's."""
    wanted = [(task.tensor, task.leaf) for task in bundle]
    found = results if isinstance(results, tuple) else ()
    if [(r.tensor, r.leaf) for r in found if isinstance(r, TaskResult)] != wanted:
        raise RunError(f"the executor answered tensor {bundle[0].name} with something else: {results!r:.100}")
    return found


def _foreign(task: Task, error: BaseException) -> RunError:
    wrapped = RunError(f"a worker failed at tensor {task.name}: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
