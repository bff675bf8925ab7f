"""Signals, and streams that cannot be written: the ``qxmix`` command in a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from qxmix.cli import progress
from qxmix.cli.interrupt import Interrupted, stoppable
from qxmix.container.header import read_header
from qxmix.execute import Progress, stop
from qxmix.execute.sample import Rows
from qxmix.execute.source import Source
from qxmix.measure.encode import errors
from qxmix.measure.lattice import lattice_of
from qxmix.measure.swap import Swap
from tests.execute.plans import f16_model, write_model

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
FULL = Path("/dev/full")
APPLY = [sys.executable, "-m", "qxmix", "apply"]
NOTHING_IGNORED = """
import os, signal, sys
for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
    signal.signal(number, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Runs a command.  What is ignored here, under nohup or behind ``&``, the command would ignore, too."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model of some 50 leaves."""
    shapes = {"token_embd.weight": (512, 64)} | {f"blk.{i}.ffn_up.weight": (512, 8200) for i in range(12)}
    return f16_model(tmp_path_factory.mktemp("models") / "m.gguf", shapes)


def interrupt(model: Path, folder: Path, signals: list[signal.Signals], *options: str) -> tuple[int, str]:
    """Send signals, half a second apart, when some leaves are done; the exit code, and what was said."""
    out = folder / "x.gguf"
    command = [
        sys.executable,
        "-c",
        NOTHING_IGNORED,
        *APPLY,
        "pure/iq4_nl",
        str(model),
        "-o",
        str(out),
        "-j",
        "1",
        *options,
    ]
    process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    journal = folder / "x.gguf.journal"
    while not journal.exists() or journal.read_bytes().count(b"\n") < 4:
        assert process.poll() is None
        time.sleep(0.01)
    for number in signals:
        process.send_signal(number)
        time.sleep(0.5)
    _, stderr = process.communicate(timeout=10)
    assert not out.exists()
    return process.returncode, stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_kill_and_a_closed_terminal_say_how_to_go_on(model: Path, tmp_path: Path, number: signal.Signals) -> None:
    code, stderr = interrupt(model, tmp_path, [number])
    assert code == 128 + number
    assert "-j 1 --resume" in stderr


@pytest.mark.slow
def test_a_second_ctrl_c_does_not_hang_with_worker_processes(model: Path, tmp_path: Path) -> None:
    code, stderr = interrupt(model, tmp_path, [signal.SIGINT] * 2, "--executor", "processes")
    # The second one may find Python ending, when signals have their default effect again.
    assert code in {130, -signal.SIGINT}
    assert "--executor processes --resume" in stderr


def test_signals_that_were_ignored_stay_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable(lambda: ""):
            os.kill(os.getpid(), signal.SIGHUP)
            terminate = signal.getsignal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.getsignal(signal.SIGTERM) is not terminate


def test_a_signal_sent_twice_at_once_counts_once() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(n) for n in numbers]
    try:
        with pytest.raises(Interrupted) as error, stoppable(lambda: ""):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert error.value.exit_code == 143
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


INTERRUPTED_AT = """
import importlib.abc, os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv, place = ["qxmix", "recipes"], sys.argv[1]
class Interrupting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == place:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
from qxmix.__main__ import run
try:
    run()
finally:
    if place == "the end":
        os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.parametrize(
    ("place", "code", "said"),
    [
        ("qxmix.cli.main", -signal.SIGINT, ""),
        ("qxmix.cli.recipes", 130, "Interrupted.\n"),
        ("the end", -signal.SIGINT, ""),
    ],
)
def test_ctrl_c_while_it_starts_or_ends_is_no_traceback(place: str, code: int, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_AT, place], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert (done.stderr, done.returncode) == (said, code)


def test_threads_end_at_their_next_step_with_the_one_who_asked() -> None:
    begun = threading.Barrier(3)
    futures: list[Future[None]] = []

    def work() -> None:
        begun.wait(10)
        while True:
            stop.step()

    def ask() -> None:
        with stop.threads(2) as pool:
            futures.extend(pool.submit(work) for _ in range(5))
            begun.wait(10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask()
    assert [f.cancelled() for f in futures] == [False] * 2 + [True] * 3
    assert all(isinstance(f.exception(), stop.Stopped) for f in futures[:2])
    stop.step()
    with stop.threads(1) as pool:
        pool.submit(stop.step).result()


@pytest.mark.parametrize("work", ["lattice", "errors", "swap"])
def test_long_work_on_a_tensor_has_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str) -> None:
    q = np.random.default_rng(0).integers(-7, 8, (64, 512))
    path = write_model(tmp_path / "m.gguf", {"blk.0.attn_q.weight": (q / 64).astype(np.float32)})
    header = read_header(path)
    source = Source(header.tensors[0], path, None, None)
    rows, over = [Rows(0, 0, 64)], threading.Event()
    with ThreadPoolExecutor(1) as pool:
        do: dict[str, Callable[[], object]] = {
            "lattice": lambda: lattice_of(source),
            "errors": lambda: errors(source, rows, source.read(rows), ["Q8_0"]),
            "swap": lambda: next(iter(Swap(source, "Q8_0", pool, 1))),
        }
        assert do[work]()
        monkeypatch.setattr(stop, "_here", SimpleNamespace(over=over))
        over.set()
        with pytest.raises(stop.Stopped):
            do[work]()


@pytest.mark.slow
@pytest.mark.parametrize("redirection", ["2>&-", ">&-", "<&- >&- 2>&-", "2>/dev/full", "2>&1 >/dev/null | true"])
def test_streams_that_cannot_be_written_stop_no_work(demo_model: Path, tmp_path: Path, redirection: str) -> None:
    if not FULL.exists():
        pytest.skip("no /dev/full")
    command = f"'{sys.executable}' -m qxmix apply pure/q8_0 '{demo_model}' -o x.gguf {redirection}"
    done = subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, env=ENVIRONMENT, timeout=60, check=False)
    assert done.returncode == 0
    assert [p.name for p in tmp_path.iterdir()] == ["x.gguf"]


def test_a_full_disk_under_standard_output_is_one_line() -> None:
    if not FULL.exists():
        pytest.skip("no /dev/full")
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "qxmix", "recipes"],
            env=ENVIRONMENT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "Error: standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_cannot_draw_a_bar_gets_lines(monkeypatch: pytest.MonkeyPatch, term: str) -> None:
    said: list[str] = []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(progress, "notice", said.append)
    with progress.shown() as on_progress:
        for done in (0, 5):
            on_progress(Progress("work", done, 10, "blk.0"))
    assert len(said) == 1
    assert said[0].startswith(" 50%")
