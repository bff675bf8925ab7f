"""Feeding tasks to an executor and taking their results, a window at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from typing import TYPE_CHECKING

from qxmix.errors import QxmixError, RunError
from qxmix.execute.task import Task, TaskResult, run_task

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qxmix.execute.workers import Pool

OnResult = Callable[[Task, TaskResult], None]


def drive(tasks: Iterable[Task], pool: Pool, run: str, on_result: OnResult) -> None:
    """Run all tasks in any order, at most a window of them submitted at a time.

    When one fails, or the caller is interrupted, the tasks that run are told to stop, those that wait are dropped, and
    results that are already there are still delivered.

    Raises:
        QxmixError: of the first task that failed; a dead or unreachable worker is a RunError.

    """
    pending: dict[Future[TaskResult], Task] = {}
    try:
        for task in tasks:
            pending[_submit(pool, task)] = task
            if len(pending) >= pool.window:
                _collect(pending, on_result)
        while pending:
            _collect(pending, on_result)
    except BaseException as error:
        pool.request_stop(run)
        for future in pending:
            future.cancel()
        if isinstance(error, BrokenExecutor):
            text = f"a worker process {pool.cause_of_death()}; what is done is kept: go on with --resume"
            raise RunError(f"{text}, with fewer workers (-j) if memory is short") from error
        raise


def _submit(pool: Pool, task: Task) -> Future[TaskResult]:
    kind = type(pool.executor).__name__
    try:
        future: object = pool.executor.submit(run_task, task)
    except (QxmixError, BrokenExecutor):
        raise
    except Exception as error:
        text = f"the executor {kind} takes no tasks: {type(error).__name__}: {error}; what is done is kept"
        raise RunError(text) from error
    if not isinstance(future, Future):
        raise RunError(f"the executor {kind} returned a {type(future).__name__}, not a concurrent.futures.Future")
    return future


def _collect(pending: dict[Future[TaskResult], Task], on_result: OnResult) -> None:
    done, _ = wait(pending, return_when=FIRST_COMPLETED)
    failure: BaseException | None = None
    for future in done:
        task = pending.pop(future)
        if future.cancelled():
            # What Dask does with all tasks when its scheduler is gone.
            error: BaseException | None = RunError("the executor dropped a task; once it works, --resume goes on")
        else:
            error = future.exception()
        if error is None:
            on_result(task, _checked(task, future.result()))
        elif failure is None:
            failure = error if isinstance(error, QxmixError | BrokenExecutor) else _foreign(task, error)
    if failure is not None:
        raise failure


def _checked(task: Task, result: object) -> TaskResult:
    """The result, if it is one of this task: an executor may be anyone's."""
    if not isinstance(result, TaskResult) or (result.tensor, result.leaf) != (task.tensor, task.leaf):
        raise RunError(f"the executor answered tensor {task.name} with something else: {result!r:.100}")
    return result


def _foreign(task: Task, error: BaseException) -> RunError:
    wrapped = RunError(f"a worker failed at tensor {task.name}: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
