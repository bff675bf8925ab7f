"""Advice that no command line alone draws: of functions, of a file that changes, of limits of the system, of Dask."""

from __future__ import annotations

import os
import resource
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from qxmix import RunError, apply, load_recipe, make_plan, quantize, read_header
from qxmix.cli.main import main
from qxmix.dialects.export import export
from qxmix.engines.library import library_path
from qxmix.engines.resident import Resident
from qxmix.errors import ModelFileError
from qxmix.execute import Progress
from qxmix.execute.factors import factors_of
from qxmix.execute.tasks import make_tasks
from qxmix.measure.model import Settings
from qxmix.plan import Plan
from qxmix.planning.memory import Chunking
from qxmix.quants.feedback.options import Feedback
from qxmix.quants.kernels.processor_levels import LEVELS
from tests.advice.texts import pattern
from tests.execute.test_feedback import FED, plan_of, write_moments
from tests.measure.test_losses import DriftingScorer, passage
from tests.measure.test_losses import run as measured
from tests.system.test_windows import STILL_OPEN

NO_FEEDBACK = "{} has no error feedback; leave out moments"
EVEN_WITH_DAMP = "{}, even with damp {}; raise it, or measure them on more tokens"
MOMENTS_CHANGED = "the moments of {} changed after the plan was made; start over with --overwrite"
NOT_CUT = "the journal cannot be cut ({}); delete it, or give another -o"
OPEN_FILES = (
    "{} outputs with {} workers need {} open files and the system allows {};"
    " use fewer workers (-j), fewer recipes at once, or raise the limit (ulimit -n)"
)
NO_ADDRESS = "{} is no address of a Dask scheduler; give the one it prints: dask:tcp://HOST:PORT"
SMALLER_BASE = "give a smaller base of the same model, such as its Q8_0"
THROWN_AWAY = "{} {}; the last {} losses are thrown away: run it again"
NO_WORKERS = "start some, and go on with --resume"
LEVEL_THAT_RUNS = "; give --level {}, too"
REQUANTIZE = "add --allow-requantize where the model is quantized already"
OTHER_MACHINE = "{}: {}; leave it out, or give it on {}"
NO_ROOM = "{}; make room there, or give another path"
ELSEWHERE = (
    NO_FEEDBACK, EVEN_WITH_DAMP, MOMENTS_CHANGED, NOT_CUT, OPEN_FILES, NO_ADDRESS, SMALLER_BASE, THROWN_AWAY,
    REQUANTIZE, NO_WORKERS, LEVEL_THAT_RUNS, OTHER_MACHINE, NO_ROOM, STILL_OPEN,
)  # fmt: skip


@pytest.fixture
def plan(demo_model: Path, tmp_path: Path) -> Plan:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("qxmix: 1\ntarget: ik_llama.cpp\ndefault: q8_0\n")
    return make_plan(load_recipe(recipe), read_header(demo_model))


def test_a_type_without_feedback_takes_no_moments() -> None:
    x = np.ones((1, 256), np.float32)
    with pytest.raises(ValueError, match=pattern(NO_FEEDBACK)):
        quantize(x, "BF16", moments=np.identity(256))
    assert quantize(x, "BF16").size == 512


def test_moments_that_are_none_of_anything_pass_with_more_damp() -> None:
    x, moments = np.ones((1, 256), np.float32), np.full((256, 256), -0.01) + 1.01 * np.identity(256)
    with pytest.raises(ValueError, match=pattern(EVEN_WITH_DAMP)):
        quantize(x, "Q4_0", moments=moments)
    assert quantize(x, "Q4_0", moments=moments, feedback=Feedback(damp=2.0)).size == 144


def test_moments_that_change_are_planned_anew(tmp_path: Path) -> None:
    moments = write_moments(tmp_path / "m.gguf", FED)
    task = next(
        t for t in make_tasks(plan_of(tmp_path, moments=moments), [tmp_path / "x"], Chunking(), "") if t.moments
    )
    write_moments(moments, FED, seed=31)
    assert task.moments
    with pytest.raises(RunError, match=pattern(MOMENTS_CHANGED)):
        factors_of(task.moments, b"")
    apply(plan_of(tmp_path, moments=moments), tmp_path / "o.gguf", overwrite=True)


def test_a_journal_that_cannot_be_cut_stays_behind(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(progress: Progress) -> None:
        if progress.phase == "work" and progress.done_nbytes:
            raise InterruptedError

    def refuse(_descriptor: int, _nbytes: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    with suppress(InterruptedError):
        apply(plan, tmp_path / "o.gguf", on_progress=stop)
    (journal,) = tmp_path.glob("*.journal*")
    journal.write_bytes(journal.read_bytes() + b'{"cut sh')
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", refuse)
        with pytest.raises(RunError, match=pattern(NOT_CUT)):
            apply(plan, tmp_path / "o.gguf", resume=True)
    journal.unlink()
    apply(plan, tmp_path / "o.gguf", overwrite=True)


def test_fewer_workers_need_fewer_open_files(demo_model: Path, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text(f"qxmix: 1\ntarget: ik_llama.cpp\nname: {name}\ndefault: q8_0\n")
    command = [sys.executable, *shlex.split("-m qxmix apply a.yaml b.yaml -o out --executor threads"), str(demo_model)]

    def run(workers: int) -> subprocess.CompletedProcess[str]:
        limit = (100, 100)
        return subprocess.run(
            [*command, "-j", str(workers)], cwd=tmp_path, capture_output=True, text=True, check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit),
        )  # fmt: skip

    told = run(40)
    assert told.returncode == 1
    assert pattern(OPEN_FILES).search(" ".join(told.stderr.split())), told.stderr
    assert run(1).returncode == 0


def test_an_address_of_a_scheduler(plan: Plan, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with pytest.raises(RunError, match=pattern(NO_ADDRESS)):
        apply(plan, tmp_path / "o.gguf", executor="dask:localhost")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as found:
        apply(plan, tmp_path / "o.gguf", executor=f"dask:{found.scheduler_address}")


def test_a_full_disk_is_told_and_another_has_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("os.fsync", full)
        with pytest.raises(RunError, match=pattern(NO_ROOM)):
            write_moments(tmp_path / "i.gguf", {"a": (256, 300)})
    assert write_moments(tmp_path / "i.gguf", {"a": (256, 300)}).exists()


def test_a_cluster_gets_a_worker_again(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("qxmix.execute.dask_pool.NO_WORKERS_SECONDS", 0.1)
    monkeypatch.setattr("qxmix.execute.drive.LOOK_SECONDS", 0.1)
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as found:
        spec = f"dask:{found.scheduler_address}"
        with pytest.raises(RunError, match=pattern(NO_WORKERS)):
            apply(plan, tmp_path / "o.gguf", executor=spec, n_workers=1, on_progress=lambda _progress: found.scale(0))
        found.scale(1)
        found.wait_for_workers(1)
        apply(plan, tmp_path / "o.gguf", executor=spec, resume=True)


def test_a_level_that_this_machine_runs_is_given_with_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, other = (level for level in LEVELS if level.name in {"x86-64-v2", "x86-64-v3"})
    monkeypatch.setattr("qxmix.cli.warmup.machine", lambda: "x86_64")
    monkeypatch.setattr("qxmix.cli.warmup.supported", lambda: (runs,))
    monkeypatch.setattr("qxmix.quants.kernels.shipping.compile_missing", lambda *_: None)
    command = ["warmup", "F16", "--wheel", str(tmp_path), "--level", other.name]
    told = CliRunner().invoke(main, command)
    assert told.exit_code == 1
    assert pattern(LEVEL_THAT_RUNS).search(told.stderr)
    assert CliRunner().invoke(main, [*command, "--level", runs.name]).exit_code == 0


def test_a_level_that_llvm_makes_no_code_for_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, other = (level for level in LEVELS if level.name in {"x86-64-v2", "armv8"})
    monkeypatch.setattr("qxmix.cli.warmup.can_compile", lambda level: level == runs)
    monkeypatch.setattr("qxmix.cli.warmup.supported", lambda: (runs,))
    monkeypatch.setattr("qxmix.quants.kernels.shipping.compile_missing", lambda *_: None)
    command = ["warmup", "F16", "--wheel", str(tmp_path), "--level", runs.name]
    told = CliRunner().invoke(main, [*command, "--level", other.name])
    assert told.exit_code == 1
    assert pattern(OTHER_MACHINE).search(told.stderr)
    assert CliRunner().invoke(main, command).exit_code == 0


def test_a_smaller_base_fits(plan: Plan, demo_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apply(plan, tmp_path / "q8_0.gguf")
    needed = [sum(read_header(path).file_nbytes) for path in (demo_model, tmp_path / "q8_0.gguf")]
    monkeypatch.setattr("qxmix.engines.resident.available_nbytes", lambda: needed[0] - 1)
    assert needed[1] < needed[0]
    with pytest.raises(ModelFileError, match=pattern(SMALLER_BASE)):
        Resident("ik_llama.cpp", read_header(demo_model))
    with Resident("ik_llama.cpp", read_header(tmp_path / "q8_0.gguf"), n_ctx=64, n_threads=1):
        pass


def test_a_measurement_that_lost_its_base_goes_on(
    demo_model: Path, demo_text: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(
        types=("Q8_0",), n_rows=8, passage=passage(demo_text, n_chunks=1), n_measurements=2, joint=False
    )
    with monkeypatch.context() as patch:
        patch.setattr("qxmix.measure.score.KldScorer", DriftingScorer)
        with pytest.raises(RunError, match=pattern(THROWN_AWAY)):
            measured(demo_model, tmp_path / "j", settings)
    assert len(measured(demo_model, tmp_path / "j", settings).points) == 2


def test_llama_quantize_is_allowed_what_the_recipe_is(plan: Plan, tmp_path: Path) -> None:
    source = apply(plan, tmp_path / "q8_0.gguf").paths[0]
    recipe = tmp_path / "again.yaml"
    recipe.write_text("qxmix: 1\ntarget: ik_llama.cpp\ndefault: q4_0\nallow_requantize: true\n")
    again = export(make_plan(load_recipe(recipe), read_header(source)), "ik_llama.cpp")
    assert REQUANTIZE in again.notes
    words = shlex.split(again.command(str(source), str(tmp_path / "o.gguf"), None, None).replace("\\\n", " "))
    library = library_path("ik_llama.cpp")
    program, environment = library.parents[1] / "bin" / words[0], {**os.environ, "LD_LIBRARY_PATH": str(library.parent)}

    def run(*more: str) -> int:
        return subprocess.run(
            [program, *more, *words[1:]], env=environment, capture_output=True, check=False
        ).returncode

    assert run() != 0
    assert run("--allow-requantize") == 0
