"""Interrupted applies: whatever the moment and the way, no wrong bytes at the final name, and resume ends the same."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from qxmix.errors import RunError
from qxmix.execute import Progress, apply, journal
from qxmix.execute import output as files
from qxmix.execute.aids import Aids
from tests.execute.plans import SHAPES, f16_model, plan_for, weights, write_model

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
TALL = {f"blk.{i}.ffn_up.weight": (512, 4100) for i in range(6)}
N_KILLS = int(os.environ.get("QXMIX_TEST_KILLS", "6"))


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model of some 20 leaves."""
    return f16_model(tmp_path_factory.mktemp("models") / "model.gguf", {**SHAPES, **TALL})


@pytest.fixture(scope="module")
def expected(model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """SHA-256 of the output of an apply that nothing interrupts."""
    out = tmp_path_factory.mktemp("expected") / "out.gguf"
    apply(plan_for(model, {}, default="IQ4_NL"), out)
    return sha256_of(out)


def start(model: Path, out: Path, *options: str, **settings: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.execute.interrupted", str(model), str(out), *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, **settings)  # type: ignore[call-overload,no-any-return]


def processor_time(group: int) -> float:
    """Seconds that the processes of a group and those they waited for have used so far, by Linux's process table."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            fields = stat.read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15])) * (int(fields[2]) == group)
    return ticks / os.sysconf("SC_CLK_TCK")


def processor_time_of_children() -> float:
    """Seconds that processes used which this one started and has waited for, with what those waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def finish(model: Path, out: Path, *options: str) -> int:
    """Resume to the end; how many leaves were not made again."""
    stdout, stderr = (process := start(model, out, "resume=true", *options)).communicate(timeout=120)
    assert process.returncode == 0, stderr
    return int(stdout.split()[-1])


@pytest.mark.slow
def test_killed_at_random_moments(model: Path, expected: str, tmp_path: Path) -> None:
    rng = random.Random(os.getpid())  # noqa: S311
    for i in range(N_KILLS):
        out = tmp_path / f"{i}.gguf"
        process = start(model, out, "n_workers=2")
        assert process.stdout is not None
        for _ in range(rng.randrange(24)):
            process.stdout.readline()
        time.sleep(rng.uniform(0, 0.03))
        process.kill()
        process.communicate()
        assert not out.exists() or sha256_of(out) == expected
        if not out.exists():
            finish(model, out)
            assert sha256_of(out) == expected
        assert [p.name for p in tmp_path.iterdir()] == [out.name]
        out.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["threads", "processes", "serial"])
def test_ctrl_c_ends_within_a_second_and_can_be_resumed(
    model: Path, expected: str, tmp_path: Path, executor: str
) -> None:
    out = tmp_path / "out.gguf"
    before = processor_time_of_children()
    process = start(model, out, f'executor="{executor}"', "n_workers=2", start_new_session=True)
    assert process.stdout is not None
    for _ in range(3):
        assert process.stdout.readline() == "work\n"
    # The whole group, as a terminal does it.
    os.killpg(process.pid, signal.SIGINT)
    used = processor_time(process.pid)
    _, stderr = process.communicate(timeout=30)
    # Processor time, as the machine may be busy: alone on it, the wall time is less.
    assert processor_time_of_children() - before - used < 1
    assert (process.returncode, stderr) == (130, "")
    assert not out.exists()
    assert finish(model, out) >= 2
    assert sha256_of(out) == expected


@pytest.mark.slow
def test_a_killed_worker_process_is_told_and_can_be_resumed(model: Path, expected: str, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    process = start(model, out, 'executor="processes"', "n_workers=2")
    assert process.stdout is not None
    assert process.stdout.readline() == "work\n"
    os.kill(worker_of(process.pid), signal.SIGKILL)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    told = (
        "a worker process was killed by SIGKILL (Killed), as the system does where memory runs out; what is done is "
        "kept: go on with --resume, with fewer workers (-j) if memory is short"
    )
    assert told in stderr
    assert not out.exists()
    finish(model, out)
    assert sha256_of(out) == expected


def worker_of(pid: int) -> int:
    """Return a spawned worker of a process, not multiprocessing's resource tracker."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    raise AssertionError("no worker process found")


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed(model: Path, tmp_path: Path) -> None:
    process = start(model, tmp_path / "out.gguf", 'executor="processes"', "n_workers=2")
    assert process.stdout is not None
    assert process.stdout.readline() == "work\n"
    worker = worker_of(process.pid)
    process.kill()
    process.communicate()
    for _ in range(100):
        state = Path(f"/proc/{worker}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    raise AssertionError("the worker outlived its parent")


def interrupt_after(n: int) -> Callable[[Progress], None]:
    """Raise Ctrl-C's exception when n leaves are done."""
    count = iter(range(n))

    def on_progress(progress: Progress) -> None:
        if progress.phase == "work" and next(count, None) is None:
            raise KeyboardInterrupt

    return on_progress


def interrupt(model: Path, out: Path, n: int = 8, *, resume: bool = False, overwrite: bool = False) -> None:
    plan = plan_for(model, {}, default="IQ4_NL")
    with pytest.raises(KeyboardInterrupt):
        apply(plan, out, executor="serial", on_progress=interrupt_after(n), resume=resume, overwrite=overwrite)


def test_what_is_done_is_not_made_again(model: Path, expected: str, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    interrupt(model, out, 8)
    interrupt(model, out, 3, resume=True)
    result = apply(plan_for(model, {}, default="IQ4_NL"), out, resume=True)
    assert result.n_resumed == 8 + 1 + 3 + 1
    assert sha256_of(out) == expected


def test_a_plain_apply_does_not_throw_work_away(model: Path, expected: str, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    interrupt(model, out)
    plan = plan_for(model, {}, default="IQ4_NL")
    with pytest.raises(RunError, match="go on with --resume, or start over with --overwrite"):
        apply(plan, out)
    assert apply(plan, out, overwrite=True).n_resumed == 0
    assert sha256_of(out) == expected


def test_lost_and_damaged_data_is_made_again(model: Path, expected: str, tmp_path: Path) -> None:
    out, plan = tmp_path / "out.gguf", plan_for(model, {}, default="IQ4_NL")
    interrupt(model, out)
    with (tmp_path / "out.gguf.partial").open("r+b") as file:
        # What a power cut leaves where data had not reached the disk.
        file.seek(plan.tensors[0].offset)
        file.write(bytes(64))
    assert apply(plan, out, resume=True).n_resumed == 8
    assert sha256_of(out) == expected
    interrupt(model, out, overwrite=True)
    (tmp_path / "out.gguf.partial").unlink()
    assert apply(plan, out, resume=True).n_resumed == 0
    assert sha256_of(out) == expected


@pytest.mark.parametrize(
    "tail", [b'[3,0,"ab', b"\0" * 300, b"[1]\n[2]\n", b'{"checked":1}\n', b"[0,0,5,5]\n", b"\xff\n", b'[99,0,"",""]\n']
)
def test_a_torn_journal_is_read_up_to_the_tear(model: Path, expected: str, tmp_path: Path, tail: bytes) -> None:
    out = tmp_path / "out.gguf"
    interrupt(model, out)
    with (tmp_path / "out.gguf.journal").open("ab") as file:
        file.write(tail)
    assert apply(plan_for(model, {}, default="IQ4_NL"), out, resume=True).n_resumed == 9
    assert sha256_of(out) == expected


def test_every_cut_of_a_journal_can_be_resumed(model: Path, tmp_path: Path) -> None:
    interrupt(model, tmp_path / "out.gguf", 3)
    path = tmp_path / "out.gguf.journal"
    whole = path.read_bytes()
    for cut in range(0, len(whole) + 1, 7):
        path.write_bytes(whole[:cut])
        with files.locked(path, Aids()) as descriptor:
            found = journal.read(descriptor)
        lines = whole[:cut].count(b"\n")
        assert len(found.leaves) == max(0, lines - 1)
        assert (found.identity is None) == (lines == 0)


def test_another_plan_model_or_kernel_is_refused_with_the_difference(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    interrupt(model, out)
    other = plan_for(model, {"output.weight": "Q8_0"}, default="IQ4_NL")
    with pytest.raises(RunError, match=r"plan: was \w{12}, is \w{12}; kernels: was IQ4_NL=(\d), is IQ4_NL=\1 Q8_0=\d"):
        apply(other, out, resume=True)
    stat = model.stat()
    os.utime(model, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    with pytest.raises(RunError, match=r"model 1: was \d+ bytes of .*Give --overwrite"):
        apply(plan_for(model, {}, default="IQ4_NL"), out, resume=True)
    os.utime(model, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert apply(plan_for(model, {}, default="IQ4_NL"), out, resume=True).n_resumed == 9


def test_the_work_of_another_job_is_not_thrown_away(model: Path, expected: str, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    interrupt(model, out)
    with pytest.raises(RunError, match=r"of another job is here \(plan: was \w{12}, .*its work would be lost"):
        apply(plan_for(model, {"output.weight": "Q8_0"}, default="IQ4_NL"), out)
    assert apply(plan_for(model, {}, default="IQ4_NL"), out, resume=True).n_resumed == 9
    assert sha256_of(out) == expected


@pytest.mark.parametrize("gone", [False, True])
def test_a_model_that_changes_while_it_is_read_is_noticed(tmp_path: Path, *, gone: bool) -> None:
    model, out = f16_model(tmp_path / "model.gguf"), tmp_path / "out.gguf"
    other = f16_model(tmp_path / "other.gguf", seed=1)

    def exchange(progress: Progress) -> None:
        # After all reading; before that a missing file is met by whoever opens it.
        if progress.phase == "work" and progress.done_nbytes == progress.total_nbytes:
            model.unlink() if gone else other.replace(model)

    with pytest.raises(RunError, match=r"changed while it was read .*model 1: was"):
        apply(plan_for(model, {}), out, on_progress=exchange)
    assert not out.exists()


def test_a_date_that_no_calendar_has(tmp_path: Path) -> None:
    shm = Path("/dev/shm")  # noqa: S108  # few file systems keep such dates
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else tmp_path) as folder:
        model = f16_model(Path(folder) / "model.gguf")
        os.utime(model, (10**14, 10**14))
        assert apply(plan_for(model, {}), tmp_path / "out.gguf").paths[0].exists()


def test_a_journal_that_is_deleted_meanwhile_changes_nothing(model: Path, expected: str, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"

    def delete(progress: Progress) -> None:
        if progress.phase == "work":
            (tmp_path / "out.gguf.journal").unlink(missing_ok=True)

    apply(plan_for(model, {}, default="IQ4_NL"), out, on_progress=delete)
    assert sha256_of(out) == expected


def test_what_was_carried_over_is_told_after_a_resume_too(tmp_path: Path) -> None:
    data = weights()
    data["token_embd.weight"][2, 3] = np.inf
    model, out = write_model(tmp_path / "model.gguf", data), tmp_path / "out.gguf"
    plan = plan_for(model, {"token_embd.weight": "keep"})
    with pytest.raises(KeyboardInterrupt):
        apply(plan, out, executor="serial", on_progress=interrupt_after(2))
    result = apply(plan, out, resume=True)
    assert result.n_resumed
    assert [p.where for p in result.problems] == ["token_embd.weight"]


def test_resuming_nothing_is_just_an_apply(model: Path, expected: str, tmp_path: Path) -> None:
    apply(plan_for(model, {}, default="IQ4_NL"), tmp_path / "out.gguf", resume=True)
    assert sha256_of(tmp_path / "out.gguf") == expected


def test_interrupted_between_the_renames(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_for(model, {}, default="IQ4_NL", shards=[0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2])
    whole = apply(plan, tmp_path / "whole.gguf")
    replace, calls = Path.replace, iter(range(2))

    def fail_at_the_third(self: Path, target: Path) -> Path:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        apply(plan, tmp_path / "out.gguf")
    monkeypatch.undo()
    result = apply(plan, tmp_path / "out.gguf", resume=True)
    assert result.data_sha256 == whole.data_sha256
    assert [sha256_of(p) for p in result.paths] == [sha256_of(p) for p in whole.paths]
    assert not list(tmp_path.glob("*.partial")) + list(tmp_path.glob("*.journal"))


def test_one_of_two_applies_at_once_is_told(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    plan = plan_for(model, {}, default="IQ4_NL")
    told: list[object] = []

    def second(progress: Progress) -> None:
        if progress.phase == "work" and not told:
            with pytest.raises(RunError, match=r"out\.gguf: another apply is writing this output now") as error:
                apply(plan, out, overwrite=True)
            told.append(error)

    apply(plan, out, on_progress=second)
    assert told
    assert out.exists()


def test_a_size_limit_is_met_before_any_work(model: Path, tmp_path: Path) -> None:
    plan = plan_for(model, {}, default="IQ4_NL")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, old[1]))
    try:
        with pytest.raises(RunError, match="larger than is allowed here"):
            apply(plan, tmp_path / "out.gguf")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert not list(tmp_path.iterdir())


def test_a_journal_line_is_json(model: Path, tmp_path: Path) -> None:
    interrupt(model, tmp_path / "out.gguf", 2)
    head, *leaves = (tmp_path / "out.gguf.journal").read_text().splitlines()
    assert json.loads(head)["qxmix_journal"] == 1
    assert [json.loads(line)[:2] for line in leaves] == [[0, 0], [1, 0], [2, 0]]
