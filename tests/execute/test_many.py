"""Several outputs in one pass: bytes as of single applies, work done once, and nothing lost or half done."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import time
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from qxmix import quants
from qxmix.errors import ModelFileError, PlanError, Problem, RunError
from qxmix.execute import Options, apply, apply_all, kernels, open_files, work
from qxmix.execute import output as files
from qxmix.execute.aids import Aids
from qxmix.execute.complete import find_complete
from tests.execute.plans import SHAPES, f16_model, mixes_of, plan_for, uniform_imatrix, weights, write_model

if TYPE_CHECKING:
    from qxmix.execute import Progress
    from qxmix.execute.task import Task
    from qxmix.plan import Plan
    from qxmix.quants.codec import Codec, Columns, Packed, Rows

N_KILLS = int(os.environ.get("QXMIX_TEST_KILLS", "4"))
TALL = {f"blk.{i}.ffn_up.weight": (512, 4100) for i in range(6)}


@pytest.fixture
def plans(model: Path, tmp_path: Path) -> list[Plan]:
    """Four mixes, the second without an importance matrix, the third in two shards."""
    return mixes_of(model, uniform_imatrix(tmp_path / "imatrix.dat"), shards_of_third=[0, 0, 0, 1, 1, 1])


def outputs_in(folder: Path, plans: list[Plan]) -> list[tuple[Plan, Path]]:
    return [(plan, folder / f"{i}.gguf") for i, plan in enumerate(plans)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def expected(plans: list[Plan], tmp_path: Path) -> dict[str, bytes]:
    """The files that single applies write."""
    for plan, path in outputs_in(tmp_path / "alone", plans):
        apply(plan, path)
    return contents(tmp_path / "alone")


@pytest.mark.parametrize("settings", [{}, {"executor": "serial", "report": True}, {"memory_nbytes": 300 << 20}])
def test_bytes_and_results_are_those_of_single_applies(
    plans: list[Plan], expected: dict[str, bytes], tmp_path: Path, settings: dict[str, object]
) -> None:
    results = apply_all(outputs_in(tmp_path / "new", plans), Options(**settings))  # type: ignore[arg-type]
    assert contents(tmp_path / "new") == expected
    for i, (plan, result) in enumerate(zip(plans, results, strict=True)):
        alone = apply(plan, tmp_path / "again" / f"{i}.gguf", report="report" in settings)
        assert result.tensors == alone.tensors
        assert (result.source_sha256, result.data_sha256) == (alone.source_sha256, alone.data_sha256)


def test_the_model_is_read_once_and_each_distinct_encoding_made_once(
    plans: list[Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Counter[str] = Counter()
    encoded: list[int] = []
    read_into, codec_of = work._read, quants.codec_of

    def counting_read(task: Task, source: object, buffer: memoryview) -> None:
        read[task.source] += len(buffer)
        read_into(task, source, buffer)  # type: ignore[arg-type]

    def counting_codec(name: str) -> Codec:
        codec = codec_of(name)

        def encode(rows: Rows, columns: Columns, packed: Packed, search: int) -> None:
            encoded.append(rows.size)
            codec.encode(rows, columns, packed, search)

        return replace(codec, encode=encode)

    monkeypatch.setattr(work, "_read", counting_read)
    monkeypatch.setattr(kernels, "warm", lambda *_plans: None)
    monkeypatch.setattr(quants, "codec_of", counting_codec)
    apply_all(outputs_in(tmp_path, plans), Options(n_workers=2))
    header = plans[0].header
    assert read[str(header.path.absolute())] == sum(t.nbytes for t in header.tensors)
    distinct = {(t.name, t.type, t.importance) for plan in plans for t in plan.tensors if t.action == "encode"}
    n_weights = {t.name: t.n_weights for t in header.tensors}
    assert sum(encoded) == sum(n_weights[name] for name, _, _ in distinct)


def test_sources_are_hashed_once_for_a_cache(
    plans: list[Plan], expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Counter[str] = Counter()
    read_into = work._read

    def counting_read(task: Task, source: object, buffer: memoryview) -> None:
        read[task.source] += len(buffer)
        read_into(task, source, buffer)  # type: ignore[arg-type]

    apply_all(outputs_in(tmp_path / "first", plans), Options(cache=tmp_path / "cache"))
    monkeypatch.setattr(work, "_read", counting_read)
    results = apply_all(outputs_in(tmp_path / "second", plans), Options(cache=tmp_path / "cache"))
    assert contents(tmp_path / "second") == expected
    for plan, result in zip(plans, results, strict=True):
        assert result.n_reused == sum(t.action == "encode" for t in plan.tensors)
    header = plans[0].header
    # Once for the digests; what every output copies is read besides.
    assert read[str(header.path.absolute())] <= 2 * sum(t.nbytes for t in header.tensors)


class Killed(BaseException):
    """What no code catches."""


def killing_at(monkeypatch: pytest.MonkeyPatch, call: str, nth: int) -> None:
    """The process ends before the ``nth`` call of ``Path.replace`` or ``Path.unlink`` of an end of a journal."""
    before = getattr(Path, call)
    seen = 0

    def counted(self: Path, *arguments: object, **options: object) -> object:
        nonlocal seen
        if call == "replace" or (self.suffix == ".journal" and self.stat().st_size):
            seen += 1
            if seen == nth:
                raise Killed
        return before(self, *arguments, **options)

    monkeypatch.setattr(Path, call, counted)


@pytest.mark.parametrize(("call", "nth"), [("replace", n) for n in range(1, 6)] + [("unlink", n) for n in range(1, 5)])
def test_killed_while_names_are_given(
    plans: list[Plan], expected: dict[str, bytes], tmp_path: Path, call: str, nth: int
) -> None:
    """Whatever has its name is complete, and a resume leaves it or ends with the same bytes."""
    outputs = outputs_in(folder := tmp_path / "new", plans)
    with pytest.MonkeyPatch.context() as patch:
        killing_at(patch, call, nth)
        with pytest.raises(Killed):
            apply_all(outputs, Options(n_workers=1))
    here = contents(folder)
    assert {name: data for name, data in here.items() if name in expected}.items() <= expected.items()
    left = [(plan, path) for plan, path in outputs if not find_complete(plan, files.name_output(plan, path))]
    assert len(left) == (len(plans) if call == "replace" else len(plans) - nth + 1)
    results = apply_all(left, Options(resume=True))
    assert all(result.n_resumed for result in results)
    assert contents(folder) == expected
    assert all(find_complete(plan, files.name_output(plan, path)) for plan, path in outputs)


def test_complete_is_only_what_is_as_planned(plans: list[Plan], model: Path, tmp_path: Path) -> None:
    """Another plan, a shorter file, a journal or a newer model: each makes an output that is there incomplete."""
    plan, other = plans[0], plans[3]
    target = files.name_output(plan, tmp_path / "x.gguf")
    assert not find_complete(plan, target)
    apply(plan, tmp_path / "x.gguf")
    assert find_complete(plan, target)
    assert not find_complete(other, target)
    times = model.stat()
    os.utime(model, (time.time() + 5, time.time() + 5))
    assert not find_complete(plan, target)
    os.utime(model, ns=(times.st_atime_ns, times.st_mtime_ns))
    target.journal.touch()
    assert not find_complete(plan, target)
    target.journal.unlink()
    os.truncate(tmp_path / "x.gguf", plan.file_nbytes - 1)
    assert not find_complete(plan, target)


def killed_after(seconds: float, outputs: list[tuple[Plan, Path]]) -> None:
    """Apply in a process that is killed so much later, or ends before; a fork, which need not load anything."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other threads may hold locks: then it hangs, and is killed like any other
        child = os.fork()
    if not child:
        try:
            apply_all(outputs, Options(n_workers=2))
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    model = f16_model(tmp_path / "model.gguf", {**SHAPES, **TALL})
    plans = [plan_for(model, {}, default=mix) for mix in ("IQ4_NL", "Q4_0", "Q8_0")]
    for plan, path in outputs_in(tmp_path / "expected", plans):
        apply(plan, path)
    expected = contents(tmp_path / "expected")
    began = time.monotonic()
    apply_all(outputs_in(tmp_path / "whole", plans), Options(n_workers=2))
    seconds = time.monotonic() - began
    rng = random.Random(os.getpid())  # noqa: S311
    n_resumed = []
    for i in range(N_KILLS):
        outputs = outputs_in(folder := tmp_path / str(i), plans)
        killed_after(rng.uniform(0, 1.2 * seconds), outputs)
        present = contents(folder) if folder.exists() else {}
        assert {name: data for name, data in present.items() if name in expected}.items() <= expected.items()
        left = [o for o in outputs if not find_complete(o[0], files.name_output(*o))]
        results = apply_all(left, Options(resume=True)) if left else ()
        n_resumed.append(sum(result.n_resumed for result in results))
        assert contents(folder) == expected
        shutil.rmtree(folder)
    assert any(n_resumed) or N_KILLS < 20


def test_nothing_is_written_where_one_output_is_refused(plans: list[Plan], tmp_path: Path) -> None:
    """A policy, two recipes of one name, files that are there, a lock: all told before any work."""
    outputs = outputs_in(folder := tmp_path / "new", plans)
    folder.mkdir()
    bad = replace(plans[3], problems=(Problem("recipe.yaml", "breaks a policy", "error", "limits"),))
    with pytest.raises(PlanError, match="breaks a policy"):
        apply_all([*outputs[:3], (bad, folder / "3.gguf")], Options())
    with pytest.raises(RunError, match=r"1.*\.gguf: would be written by two recipes, .* give one of them another name"):
        apply_all([outputs[1], (plans[2], folder / "1.gguf"), (plans[3], folder / "1.gguf")], Options())
    assert not list(folder.iterdir())
    (folder / "3.gguf").write_bytes(b"precious")
    (folder / "1.gguf").write_bytes(b"precious")
    with pytest.raises(RunError, match=r"(?s)1\.gguf: exists already.*3\.gguf: exists already"):
        apply_all(outputs, Options())
    (folder / "1.gguf").unlink()
    (folder / "3.gguf").unlink()
    with (
        files.locked(folder / "3.gguf.journal", Aids()),
        pytest.raises(RunError, match=r"3\.gguf: another apply is writing this output now"),
    ):
        apply_all(outputs, Options())
    assert [p.name for p in folder.iterdir()] == ["3.gguf.journal"]


def test_work_that_would_be_lost_is_kept_and_nothing_else_begun(plans: list[Plan], tmp_path: Path) -> None:
    outputs = outputs_in(folder := tmp_path / "new", plans)
    with pytest.raises(KeyboardInterrupt):
        apply(plans[1], folder / "3.gguf", on_progress=interrupting_work)
    before = contents(folder)
    with pytest.raises(RunError, match=r"3\.gguf: an interrupted apply of another job is here"):
        apply_all(outputs, Options())
    assert contents(folder) == before
    with pytest.raises(RunError, match=r"3\.gguf: cannot go on with the interrupted apply"):
        apply_all(outputs, Options(resume=True))
    assert contents(folder) == before


def interrupting_work(progress: Progress) -> None:
    if progress.phase == "work" and progress.done_nbytes > progress.total_nbytes // 3:
        raise KeyboardInterrupt


def test_single_and_joint_applies_resume_each_other(
    plans: list[Plan], expected: dict[str, bytes], tmp_path: Path
) -> None:
    outputs = outputs_in(folder := tmp_path / "new", plans)
    with pytest.raises(KeyboardInterrupt):
        apply_all(outputs, Options(n_workers=1), interrupting_work)
    assert apply(*outputs[2], resume=True).n_resumed
    assert all(result.n_resumed for result in apply_all([*outputs[:2], outputs[3]], Options(resume=True)))
    assert contents(folder) == expected


def test_a_weight_that_one_output_cannot_hold_costs_the_others_nothing(tmp_path: Path) -> None:
    data = weights()
    data["output.weight"][3, 5] = float("nan")
    model = write_model(tmp_path / "bad.gguf", data)
    kept, encoded = plan_for(model, {"output.weight": "keep"}), plan_for(model, {})
    outputs = [(kept, tmp_path / "kept.gguf"), (encoded, tmp_path / "encoded.gguf")]
    with pytest.raises(ModelFileError, match="row 3, column 5 is nan"):
        apply_all(outputs, Options(n_workers=1))
    assert apply(*outputs[0], resume=True).n_resumed


def test_models_must_be_one(plans: list[Plan], tmp_path: Path) -> None:
    other = plan_for(f16_model(tmp_path / "other.gguf"), {})
    with pytest.raises(ModelFileError, match=r"other\.gguf: is another model than .*model\.gguf"):
        apply_all([(plans[0], tmp_path / "a.gguf"), (other, tmp_path / "b.gguf")], Options())


def test_disks_are_asked_for_all_outputs_together(
    plans: list[Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = max(plan.file_nbytes for plan in plans) + 1
    monkeypatch.setattr("shutil.disk_usage", lambda _path: SimpleNamespace(total=1 << 40, free=room))
    apply(plans[0], tmp_path / "alone.gguf")
    with pytest.raises(RunError, match=r"MB are needed and .* free"):
        apply_all(outputs_in(tmp_path / "new", plans), Options())


def test_open_files_are_allowed_or_refused_before_anything(
    plans: list[Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {"now": (80, 100)}
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, wanted: limits.update(now=wanted))
    open_files.allow_open_files(4, "serial", 1)
    assert limits["now"] == (80, 100)
    open_files.allow_open_files(4, "threads", 2)
    assert limits["now"] == (86, 100)
    with pytest.raises(RunError, match=r"4 outputs with 9 workers need 149 open files and the system allows 100"):
        apply_all(outputs_in(tmp_path / "new", plans), Options(n_workers=9))
    assert not (tmp_path / "new").exists()


def test_a_limit_on_open_files_that_the_system_does_not_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS has no hard limit and refuses all the same to go beyond one of its own."""

    def refuse(_kind: int, _wanted: tuple[int, int]) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (80, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    open_files.allow_open_files(4, "serial", 1)
    with pytest.raises(RunError, match=r"4 outputs with 2 workers need 86 open files and the system allows 80; use"):
        open_files.allow_open_files(4, "threads", 2)
