"""The same bytes from every executor, on any processor."""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from qxmix.errors import ModelFileError, RunError
from qxmix.execute import Options, Progress, apply, apply_all, dask_pool, death, drive, processes, workers
from tests.execute.plans import SHAPES, f16_model, plan_for, uniform_imatrix, weights, write_model
from tests.execute.test_feedback import TYPES, plan_of_every_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qxmix.execute.task import Bundle
    from qxmix.plan import Plan

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
MIX = {"output.weight": "Q8_0", "blk.1.attn_q.weight": "IQ4_NL", "token_embd.weight": "Q6_0"}


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model of about 20 leaves."""
    shapes = {**SHAPES, **{f"blk.{i}.ffn_up.weight": (512, 4100) for i in range(6)}}
    return f16_model(tmp_path_factory.mktemp("models") / "model.gguf", shapes)


@pytest.fixture(scope="module")
def plan(model: Path) -> Plan:
    """Plan several types, with importances."""
    return plan_for(model, MIX, imatrix=uniform_imatrix(model.with_name("i.dat")))


@pytest.fixture(scope="module")
def expected(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> str:
    """SHA-256 of what one worker writes."""
    out = tmp_path_factory.mktemp("expected") / "out.gguf"
    apply(plan, out, executor="serial")
    return sha256_of(out)


def three_threads() -> ThreadPoolExecutor:
    """Return an executor, as a user's own function would."""
    return ThreadPoolExecutor(3)


class Odd(Executor):
    """An executor that does with each task what its subclass says."""

    def treat(self, future: Future[Any], fn: Callable[..., object], *args: object) -> None:
        """Fill the future, or fail."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        assert not kwargs
        self.treat(future, fn, *args)
        return future


class Refusing(Odd):
    def treat(self, future: Future[Any], fn: Callable[..., object], *args: object) -> None:  # noqa: ARG002
        raise ValueError("no more")


class Dropping(Odd):
    def treat(self, future: Future[Any], fn: Callable[..., object], *args: object) -> None:  # noqa: ARG002
        future.cancel()
        future.set_running_or_notify_cancel()


class Inventing(Odd):
    def treat(self, future: Future[Any], fn: Callable[..., object], *args: object) -> None:  # noqa: ARG002
        future.set_result(42)


class Repeating(Odd):
    first: object = None

    def treat(self, future: Future[Any], fn: Callable[..., object], *args: object) -> None:
        self.first = self.first or fn(*args)
        future.set_result(self.first)


class Silent(Executor):
    def submit(self, *_args: object) -> None:  # type: ignore[override]
        return None


def unable() -> None:
    raise OSError("no nodes")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Refusing", "executor Refusing takes no tasks: ValueError: no more"),
        ("Dropping", "executor dropped a task"),
        ("Inventing", r"answered tensor .* with something else: 42"),
        ("Repeating", r"answered tensor .* with something else: .TaskResult"),
        ("Silent", "executor Silent returned a NoneType, not a concurrent.futures.Future"),
        ("unable", "calling it raised OSError: no nodes"),
    ],
)
def test_executors_that_misbehave_are_told(plan: Plan, tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(RunError, match=text):
        apply(plan, tmp_path / "out.gguf", executor=f"{__name__}:{name}")
    assert not (tmp_path / "out.gguf").exists()


def test_an_address_that_is_none(plan: Plan, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with pytest.raises(RunError, match=r"'foo' is no address of a Dask scheduler; .*dask:tcp://HOST:PORT"):
        apply(plan, tmp_path / "out.gguf", executor="dask:foo")


def assert_same_bytes(plan: Plan, expected: str, folder: Path, spec: str) -> None:
    """Of an output alone, and of two in one pass."""
    apply(plan, folder / "out.gguf", executor=spec, n_workers=2)
    other = plan_for(plan.header.path, {}, default="Q8_0")
    apply(other, folder / "other.gguf")
    apply_all([(plan, folder / "a.gguf"), (other, folder / "b.gguf")], Options(2, spec))
    assert [sha256_of(folder / f"{name}.gguf") for name in ("out", "a")] == [expected] * 2
    assert sha256_of(folder / "b.gguf") == sha256_of(folder / "other.gguf")


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["processes", f"{__name__}:three_threads"])
def test_same_bytes_from_every_executor(plan: Plan, expected: str, tmp_path: Path, spec: str) -> None:
    assert_same_bytes(plan, expected, tmp_path, spec)


@pytest.mark.slow
def test_an_error_in_another_process_arrives_whole(tmp_path: Path) -> None:
    data = weights()
    data["output.weight"][4, 5] = float("nan")
    bad = write_model(tmp_path / "model.gguf", data)
    with pytest.raises(ModelFileError, match=r"output\.weight: row 4, column 5 is nan") as error:
        apply(plan_for(bad, {}), tmp_path / "out.gguf", executor="processes", n_workers=1)
    assert error.value.problems[0].where == f"{bad}: output.weight"


@pytest.mark.slow
@pytest.mark.parametrize("cpu", ["generic"])
def test_same_bytes_without_the_instructions_of_this_processor(
    model: Path, expected: str, tmp_path: Path, cpu: str
) -> None:
    code = (
        "import sys; from pathlib import Path; from qxmix.execute import apply;"
        "from tests.execute import test_executors as t;"
        "from tests.execute.plans import plan_for, uniform_imatrix; m = Path(sys.argv[1]);"
        "apply(plan_for(m, t.MIX, imatrix=uniform_imatrix(m.with_name('i.dat'))), sys.argv[2])"
    )
    environment = {**os.environ, "NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    out = tmp_path / "out.gguf"
    subprocess.run([sys.executable, "-c", code, model, out], cwd=ROOT, env=environment, check=True, timeout=300)
    assert sha256_of(out) == expected


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Start a scheduler and two worker processes of one thread each."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
    ) as found:
        yield found


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_same_bytes_from_dask(plan: Plan, expected: str, tmp_path: Path, cluster: Any) -> None:
    assert_same_bytes(plan, expected, tmp_path, f"dask:{cluster.scheduler_address}")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_same_bytes_from_dask_with_error_feedback(tmp_path: Path, cluster: Any) -> None:
    fed_back = plan_of_every_type(tmp_path)
    assert len([t for t in fed_back.tensors if t.feedback]) == len(TYPES)
    serial = apply(fed_back, tmp_path / "serial.gguf", executor="serial").paths[0]
    apply(fed_back, tmp_path / "out.gguf", executor=f"dask:{cluster.scheduler_address}")
    assert sha256_of(tmp_path / "out.gguf") == sha256_of(serial)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_dask_goes_on_when_a_worker_dies(plan: Plan, expected: str, tmp_path: Path, cluster: Any) -> None:
    killed: list[int] = []

    def kill_one(progress: Progress) -> None:
        if progress.phase == "work" and not killed:
            pid = cluster.workers[0].process.pid
            killed.append(pid)
            os.kill(pid, 9)

    apply(plan, tmp_path / "out.gguf", executor=f"dask:{cluster.scheduler_address}", on_progress=kill_one)
    assert killed
    assert sha256_of(tmp_path / "out.gguf") == expected


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_dask_without_workers_is_told_and_goes_on_with_new_ones(
    plan: Plan, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(dask_pool, "NO_WORKERS_SECONDS", 0.3)
    monkeypatch.setattr(drive, "LOOK_SECONDS", 0.2)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
    ) as cluster:

        def send_home(progress: Progress) -> None:
            if progress.phase == "work" and cluster.workers:
                cluster.scale(0)

        spec, out = f"dask:{cluster.scheduler_address}", tmp_path / "out.gguf"
        with pytest.raises(RunError, match=r"has had no workers for 0 s; .* start some, and go on with --resume"):
            apply(plan, out, executor=spec, n_workers=2, on_progress=send_home)
        cluster.scale(1)
        cluster.wait_for_workers(1)
        assert apply(plan, out, executor=spec, resume=True).n_resumed > 0
    assert sha256_of(out) == expected


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_result_whose_worker_goes_once_it_is_here_counts(
    plan: Plan, expected: str, tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask's own executor took it for an error, as the scheduler says by then that the task is lost."""
    client = importlib.import_module("distributed").Client
    gather = client._gather
    lost: list[Any] = []

    async def gather_and_lose(self: Any, futures: list[Any], **options: Any) -> Any:
        results = await gather(self, futures, **options)
        lost.extend(futures)
        for future in futures:
            self._handle_lost_data(future.key)
        return results

    monkeypatch.setattr(client, "_gather", gather_and_lose)
    apply(plan, tmp_path / "out.gguf", executor=f"dask:{cluster.scheduler_address}")
    assert lost
    assert sha256_of(tmp_path / "out.gguf") == expected


class Told:
    """A client of a scheduler: of each look the tasks of its workers, or nothing where it does not answer."""

    def __init__(self, *looks: dict[str, list[str]] | None) -> None:
        self._looks = list(looks)

    def nthreads(self) -> dict[str, int]:
        if self._looks[0] is None:
            del self._looks[0]
            raise OSError("closed")
        return dict.fromkeys(self._looks[0], 1)

    def processing(self) -> dict[str, list[str]]:
        return self._looks.pop(0) or {}


@pytest.mark.parametrize(
    ("look", "told"),
    [
        ({}, "has had no workers for 60 s; what is done is kept: start some"),
        ({"w": []}, "has had nothing to do and has not given all results for 60 s; what is done is kept: once"),
        (None, "has not answered for 60 s; what is done is kept: once it works, --resume goes on"),
    ],
)
def test_a_scheduler_with_which_nothing_goes_on_is_told(
    monkeypatch: pytest.MonkeyPatch, look: dict[str, list[str]] | None, told: str
) -> None:
    """A worker that is busy meanwhile makes good for all before."""
    seconds = iter([0.0, 59.0, 70.0, 100.0, 161.0])
    monkeypatch.setattr("qxmix.execute.dask_pool.time.monotonic", lambda: next(seconds))
    watch = dask_pool._Watch("tcp://a:1", Told(look, look, {"v": ["task"], "w": []}, look, look))
    for _ in range(4):
        watch.look()
    with pytest.raises(RunError, match=f"at tcp://a:1 {told}"):
        watch.look()


def test_dask_says_nothing_of_what_is_dropped_and_speaks_again() -> None:
    loggers = [logging.getLogger(name) for name in ("tornado.application", "distributed.client")]
    before = [logger.level for logger in loggers]
    with dask_pool._hushed() as hush:
        assert [logger.isEnabledFor(logging.ERROR) for logger in loggers] == [False, True]
        hush()
        assert not any(logger.isEnabledFor(logging.ERROR) for logger in loggers)
    assert [logger.level for logger in loggers] == before


def test_a_scheduler_that_is_not_there(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(dask_pool, "DASK_TIMEOUT", "1s")
    with pytest.raises(RunError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        apply(plan, tmp_path / "out.gguf", executor="dask:tcp://127.0.0.1:9")
    assert not list(tmp_path.iterdir())


def die(_bundle: Bundle) -> None:
    signal.raise_signal(signal.SIGBUS)


def test_a_worker_that_dies_is_told_with_the_signal(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qxmix.execute.drive.run_bundle", die)
    with pytest.raises(RunError, match=r"a worker process was killed by SIGBUS \(Bus error\); what is") as caught:
        apply(plan, tmp_path / "out.gguf", executor="processes", n_workers=2)
    assert str(caught.value).endswith("go on with --resume")


def nap(_bundle: Bundle) -> None:
    time.sleep(60)


def test_processes_that_are_ended_leave_no_thread_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The executor's own thread fails where a task that waits is cancelled by another one before it notices."""
    failed: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    monkeypatch.setattr("qxmix.execute.drive.run_bundle", nap)

    def interrupted() -> Iterator[Bundle]:
        yield from [()] * 8
        time.sleep(0.5)
        raise KeyboardInterrupt

    def run() -> None:
        with workers.open_pool("processes", 1) as pool:
            shutdown = pool.executor.shutdown

            def late(**options: bool) -> None:
                time.sleep(1)
                shutdown(**options)

            monkeypatch.setattr(pool.executor, "shutdown", late)
            drive.drive_bundles(interrupted(), replace(pool, window=10), ("x",), lambda _task, _result: None)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert not failed


class Reaped:
    """A process whose end another thread has learned and not yet told."""

    pid = 1

    def __init__(self) -> None:
        self._looks = iter([None, None])

    def join(self, _timeout: float) -> None:
        pass

    @property
    def exitcode(self) -> int | None:
        return next(self._looks, -signal.SIGKILL)


def test_the_cause_of_death_is_waited_for_where_another_thread_learns_it() -> None:
    context = processes.Watching()
    context._started.append(Reaped())  # type: ignore[arg-type]
    assert context.cause_of_death().text.startswith("was killed by SIGKILL")


def test_a_process_that_was_not_started_yet_needs_no_end() -> None:
    context = processes.Watching()
    context.Process(target=print)
    context.terminate()
    assert context.cause_of_death() == death.Death("died", of_memory=True)


INTERRUPTED_WHILE_IT_IMPORTS = """
import os, signal
if __name__ == "__mp_main__":
    os.kill(os.getpid(), signal.SIGINT)
else:
    from qxmix.execute.processes import open_processes
    if __name__ == "__main__":
        executor, _ = open_processes(2)
        print([executor.submit(abs, i).result() for i in (-1, -2)])
        executor.shutdown()
        signal.raise_signal(signal.SIGINT)
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no signal can be held back here")
def test_a_worker_that_is_interrupted_while_it_imports_says_nothing_and_works(tmp_path: Path) -> None:
    (script := tmp_path / "script.py").write_text(INTERRUPTED_WHILE_IT_IMPORTS, encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "[1, 2]\n"
    # The parent hears it as before.
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"
    assert "__mp_main__" not in done.stderr
    assert done.stderr.count("Traceback") == 1


CLOSED_TERMINAL = """
import os, signal
if __name__ == "__main__":
    from multiprocessing.resource_tracker import _resource_tracker
    from qxmix.execute.processes import open_processes
    executor, _ = open_processes(1)
    print(executor.submit(abs, -1).result())
    os.kill(_resource_tracker._pid, signal.SIGHUP)
    executor.shutdown()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no terminal tells that it is closed")
def test_what_minds_semaphores_outlives_a_closed_terminal(tmp_path: Path) -> None:
    (script := tmp_path / "script.py").write_text(CLOSED_TERMINAL, encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


@pytest.mark.parametrize(
    ("exit_code", "text", "of_memory"),
    [
        (-11, "was killed by SIGSEGV (Segmentation fault)", False),
        (-9, "was killed by SIGKILL (Killed), as the system does where memory runs out", True),
        (-7, "was killed by SIGBUS (Bus error)", False),
        (-6, "was killed by SIGABRT (Aborted)", False),
        (-4, "was killed by SIGILL (Illegal instruction)", False),
        (-99, "was killed by signal 99", False),
        (3, "ended with exit code 3", True),
    ],
)
def test_how_a_process_ended_in_words(exit_code: int, text: str, of_memory: bool) -> None:
    assert death.how_it_ended(exit_code) == death.Death(text, of_memory)
