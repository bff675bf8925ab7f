"""How far an apply is: shares by work and not by bytes, and the time that is left."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from qxmix.cli import progress
from qxmix.cli.progress import _Estimate
from qxmix.container.moments_load import load_moments
from qxmix.execute import Progress
from qxmix.execute.ledger import Ledger
from qxmix.execute.task import TaskResult
from qxmix.plan import make_plan
from qxmix.planning import effort
from qxmix.planning.memory import Chunking
from qxmix.planning.model import TensorFeedback
from qxmix.quants import get
from qxmix.quants.feedback.options import Feedback
from qxmix.quants.measured import MEASURED
from qxmix.quants.speeds import speed
from qxmix.quants.table import QUANT_TYPES
from qxmix.recipe import load_recipe
from qxmix.report.plan import about
from tests.bench.report import load_run
from tests.execute.test_feedback import write_moments
from tests.planning.models import Model, facts, header

if TYPE_CHECKING:
    from pathlib import Path

SHAPES = {"blk.0.ffn_up.weight": (256, 4096), "blk.0.ffn_gate.weight": (256, 4096)}


def ledger(tmp_path: Path, types: tuple[str, str]) -> Ledger:
    path = tmp_path / "r.yaml"
    path.write_text(
        f"qxmix: 1\ntarget: ik_llama.cpp\ndefault: {types[0]}\nrules: [{{match: ffn_gate, type: {types[1]}}}]\n"
    )
    plan = make_plan(load_recipe(path), header(Model("llama", facts(1, 256, 8, 2), SHAPES)))
    assert [t.type for t in plan.tensors] == [t.upper() for t in types]
    return Ledger(plan)


def test_a_share_is_of_work_and_not_of_bytes(tmp_path: Path) -> None:
    made = ledger(tmp_path, ("q8_0", "iq4_kt"))
    made.add(TaskResult(0, 0, b"", b""), 2 * 256 * 4096)
    assert made.done_nbytes == made.total_nbytes / 2
    assert 0 < made.done_effort < 0.02 * made.total_effort
    made.add(TaskResult(1, 0, b"", b""), 2 * 256 * 4096)
    assert made.done_effort == pytest.approx(made.total_effort)


def test_of_equal_types_it_is_that_of_the_bytes(tmp_path: Path) -> None:
    made = ledger(tmp_path, ("q4_k", "q4_k"))
    made.add(TaskResult(1, 0, b"", b""), 256 * 4096)
    assert made.done_effort / made.total_effort == pytest.approx(made.done_nbytes / made.total_nbytes) == 0.25


def test_what_a_tensor_takes(tmp_path: Path) -> None:
    rounded, kept = ledger(tmp_path, ("q4_0", "f16"))._plan.tensors
    tensors = replace(rounded, importance="x"), kept
    encoded, copied = map(effort.seconds, tensors)
    assert tensors[1].action == "copy"
    assert copied < encoded
    # Without an importance nothing is searched, unless a search is named.
    assert effort.seconds(rounded) < 0.5 * encoded
    assert effort.seconds(replace(tensors[0], symmetric=True)) == effort.seconds(rounded)
    assert effort.seconds(replace(rounded, search="gradient")) == encoded
    for tensor in (rounded, tensors[0]):
        assert effort.seconds(replace(tensor, search="exhaustive")) > 2 * encoded
    assert effort.seconds(replace(tensors[0], quant_type=get("F16"), search="exhaustive")) < encoded
    # Told for a lattice, for which alone one asks for it: 100 to 160 ns a weight, measured.
    for name in ("Q4_1", "Q5_1", "Q8_0"):
        kind = replace(tensors[0], quant_type=get(name))
        more = effort.seconds(replace(kind, search="exhaustive")) - effort.seconds(kind)
        assert 100e-9 <= more / kind.source.n_weights <= 160e-9


@pytest.mark.parametrize("name", ["Q4_0", "Q8_0", "Q5_1", "Q3_K"])
def test_feedback_is_counted_with_what_was_measured(tmp_path: Path, name: str) -> None:
    """On 4,096 x 4,096 with one thread."""
    run = load_run("feedback-speed")
    assert run is not None
    measured = next(r["speed"]["feedback"] for r in run.results if r["type"] == name)
    tensor = ledger(tmp_path, ("q4_0", "f16"))._plan.tensors[0]
    fed = replace(tensor, feedback=TensorFeedback("x", Feedback()))
    # Read, hashed and written, of which that says nothing.
    moved = (tensor.source.nbytes + tensor.nbytes) / effort._BYTES_PER_SECOND
    took = effort.seconds(replace(fed, quant_type=get(name))) - moved
    assert took == pytest.approx(tensor.source.n_weights / (1e6 * measured), rel=0.2)


def test_small_models_with_feedback_are_mostly_factors_and_checks(tmp_path: Path) -> None:
    """SmolLM2, processor time: 720 spans factorized take 0.49 s, and 720 blocks, some of them alike, checked 0.65 s."""
    plan = ledger(tmp_path, ("q4_0", "f16"))._plan
    tensor = replace(plan.tensors[0], source=replace(plan.tensors[0].source, shape=(576, 4)))
    fed = replace(tensor, feedback=TensorFeedback("x", Feedback()))
    weighted = replace(tensor, importance="x")
    assert 240 * (effort.seconds(fed) - effort.seconds(weighted)) == pytest.approx(0.49, rel=0.2)
    written = write_moments(tmp_path / "mo.gguf", {"x": (1536, 300), "y": (576, 300)})
    more = effort.seconds_before(replace(plan, moments=load_moments(written))) - effort.seconds_before(plan)
    assert 80 * more == pytest.approx(0.65, rel=0.2)
    before = about(plan.tensors, Chunking(n_workers=2), 100.0)
    assert before == ", about 2 min"  # no worker helps with what comes before


def test_all_types_that_are_not_only_rounded_have_a_speed() -> None:
    searching = [t for t in QUANT_TYPES if t.codec and t.importance != "ignored"]
    assert all((t.base or t.name) in MEASURED for t in searching)
    fed = {t.name for t in QUANT_TYPES if t.feeds_back and not t.base}
    assert {name for name, (*_, with_feedback) in MEASURED.items() if with_feedback is not None} == fed
    assert speed(get("Q4_K_R4")) == speed(get("Q4_K")) < speed(get("F16"))


def test_the_estimate_counts_only_what_the_phase_did() -> None:
    estimate, half = _Estimate(), Progress("work", 50, 100)
    assert estimate.left(half, 1000.0) is None
    assert estimate.left(Progress("work", 51, 100), 1001.0) is None  # too early to say
    assert estimate.left(Progress("work", 60, 100), 1010.0) == pytest.approx(40.0)
    assert estimate.left(Progress("work", 60, 100, effort=0.75), 1010.0) == pytest.approx(10.0)
    assert estimate.left(Progress("check", 60, 100), 1020.0) is None
    assert estimate.left(Progress("check", 60, 100), 1030.0) is None  # nothing has moved


def test_a_log_tells_of_compiling_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    now = 0.0
    monkeypatch.setattr(progress, "notice", said.append)
    monkeypatch.setattr("time.monotonic", lambda: now)
    lines = progress._Lines()
    lines(Progress("kernels", 0, 100, "Q4_0, Q6_K"))
    before = "compiling the kernels of Q4_0, Q6_K, which takes seconds for each the first time"
    assert said == [before]
    now = 12.0
    lines(Progress("work", 0, 100, "a"))
    assert said == [before, "compiled kernels in 12 s; they are kept for the next time"]
    lines(Progress("kernels", 0, 100, ""))
    assert said[2:] == []


def test_a_line_of_a_log_names_share_amount_and_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    now = 0.0
    monkeypatch.setattr(progress, "notice", said.append)
    monkeypatch.setattr("time.monotonic", lambda: now)
    lines = progress._Lines()
    lines(Progress("work", 0, 4 << 30, "a", 0.0))
    now = 60.0
    lines(Progress("work", 3 << 30, 4 << 30, "blk.3", 0.25))
    assert said == [" 25%  3.00 GiB of 4.00 GiB, about 3 min left, at blk.3"]
