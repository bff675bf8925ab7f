"""``scale`` and ``symmetric`` from the recipe to the bytes: found before the tasks, and part of the job's identity."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner

from qxmix import load_recipe, make_plan, read_header
from qxmix.cli.main import main
from qxmix.container.moments_load import load_moments
from qxmix.errors import ModelFileError, PlanError, RunError
from qxmix.execute import apply
from qxmix.execute.find_factors import find_factors
from qxmix.execute.reuse import tensor_key
from qxmix.execute.verify import verify
from qxmix.planning.lock import check_lock, lock_of, write_lock
from qxmix.planning.memory import Chunking
from qxmix.provenance import MOMENTS_SHA256
from qxmix.quants.api import quantize
from qxmix.report.plan import plan_text
from tests.execute.plans import uniform_imatrix, weights, write_model
from tests.execute.test_feedback import write_moments

if TYPE_CHECKING:
    from pathlib import Path

    from qxmix import Plan

NAME = "blk.0.attn_q.weight"
SHAPES = {NAME: (256, 48)}
HEAD = "qxmix: 1\ntarget: ik_llama.cpp\n"


def plan_of(folder: Path, more: str, *, moments: bool = False) -> Plan:
    model, recipe = folder / "model.gguf", folder / "r.yaml"
    if not model.exists():
        write_model(model, {n: w.astype(np.float16) for n, w in weights(SHAPES).items()})
    recipe.write_text(HEAD + more)
    second = load_moments(write_moments(folder / "m.gguf", SHAPES)) if moments else None
    return make_plan(load_recipe(recipe), read_header(model), uniform_imatrix(folder / "i", SHAPES), moments=second)


def bytes_of(plan: Plan, path: Path) -> bytes:
    out = apply(plan, path).paths[0]
    tensor = read_header(out).tensors[0]
    return out.read_bytes()[tensor.offset : tensor.offset + tensor.nbytes]


@pytest.mark.parametrize(
    ("more", "options"),
    [
        ("default: iq3_s\nscale: 1.0\n", {"scale": 1.0}),
        ("default: iq3_s\nscale: {iq2_k: 0.9, IQ3_S: 0.95}\n", {"scale": 0.95}),
        ("default: iq3_s\nscale: 0.9\nrules: [{match: attn, type: iq3_s, scale: 1.1}]\n", {"scale": 1.1}),
        ("default: q4_0\nsymmetric: true\n", {"symmetric": True}),
        ("default: q8_0\nrules: [{match: attn, type: q4_0, symmetric: true}]\n", {"symmetric": True}),
    ],
)
def test_the_recipe_reaches_the_bytes(tmp_path: Path, more: str, options: dict[str, object]) -> None:
    plan = plan_of(tmp_path, more)
    assert plan.imatrix is not None
    x = weights(SHAPES)[NAME].astype(np.float16).astype(np.float32)
    expected = quantize(x, plan.tensors[0].type, plan.imatrix.entries[NAME], **options)  # type: ignore[arg-type]
    assert bytes_of(plan, tmp_path / "o.gguf") == expected.tobytes()
    assert verify(read_header(tmp_path / "o.gguf")).problems == ()


def test_auto_is_found_before_the_tasks_and_stands_in_the_lock(tmp_path: Path) -> None:
    """48 rows are fewer than a sample has, so that it is the factor of all rows."""
    plan = plan_of(tmp_path, "default: iq3_s\nscale: auto\n")
    found = find_factors(plan)
    factor = found.tensors[0].scale
    x = weights(SHAPES)[NAME].astype(np.float16).astype(np.float32)
    assert plan.imatrix is not None
    assert isinstance(factor, float)
    expected = quantize(x, "IQ3_S", plan.imatrix.entries[NAME], scale="auto").tobytes()
    assert quantize(x, "IQ3_S", plan.imatrix.entries[NAME], scale=factor).tobytes() == expected
    assert bytes_of(plan, tmp_path / "o.gguf") == bytes_of(found, tmp_path / "p.gguf") == expected
    lock = tmp_path / "plan.lock"
    write_lock(found, lock)
    assert json.loads(lock.read_text())["scales"] == {NAME: factor}
    check_lock(find_factors(plan, 1), lock)
    other = replace(found, tensors=(replace(found.tensors[0], scale=0.75),))
    with pytest.raises(PlanError, match=f"factor of the scales of {NAME} would be 0.75 and was {factor}"):
        check_lock(other, lock)


def test_moments_decide_what_auto_comes_to(tmp_path: Path) -> None:
    by_importance = find_factors(plan_of(tmp_path, "default: iq3_s\nscale: auto\n")).tensors[0].scale
    plan = plan_of(tmp_path, "default: iq3_s\nscale: auto\n", moments=True)
    assert not [p for p in plan.problems if p.id == "moments-unused"]
    by_output = find_factors(plan).tensors[0].scale
    assert isinstance(by_importance, float)
    assert isinstance(by_output, float)
    assert by_output != by_importance
    assert 0.9 < by_output < 1.2
    out = apply(plan, tmp_path / "o.gguf").paths[0]
    assert plan.moments is not None
    assert read_header(out).get(MOMENTS_SHA256) == plan.moments.sha256


def test_a_header_alone_has_no_weights_to_find_it_from(tmp_path: Path) -> None:
    write_model(tmp_path / "model.gguf", {n: w.astype(np.float16) for n, w in weights(SHAPES).items()})
    made = CliRunner().invoke(main, ["header", str(tmp_path / "model.gguf"), "-o", str(tmp_path / "h.gguf")])
    assert made.exit_code == 0
    (tmp_path / "r.yaml").write_text(HEAD + "default: iq3_s\nscale: auto\n")
    plan = make_plan(load_recipe(tmp_path / "r.yaml"), read_header(tmp_path / "h.gguf"))
    with pytest.raises(ModelFileError, match="header"):
        find_factors(plan)


def test_both_are_part_of_the_job(tmp_path: Path) -> None:
    plans = [plan_of(tmp_path, f"default: q4_0\nsymmetric: {yes}\n") for yes in ("true", "false")]
    plans += [plan_of(tmp_path, f"default: iq3_s\nscale: {scale}\n") for scale in ("1.0", "1.01")]
    assert len({tensor_key(plan, plan.tensors[0], "0") for plan in plans}) == 4
    assert "scales" not in lock_of(plans[0])

    def stop(progress: object) -> None:
        if getattr(progress, "phase", "") == "work":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply(plans[2], tmp_path / "o.gguf", on_progress=stop)
    with pytest.raises(RunError, match="cannot go on with the interrupted apply"):
        apply(plans[3], tmp_path / "o.gguf", resume=True)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ("default: iq3_s\nsymmetric: true\n", "symmetric: changes nothing: of IQ3_S there is one kind of levels"),
        ("default: q4_k\nscale: 1.0\n", "scale: changes nothing: scales of Q4_K are stored as they are found"),
        ("default: q4_0\nsymmetric: true\n", "symmetric"),
        ("default: iq3_s\nscale: auto\n", "auto"),
    ],
)
def test_plan_shows_them_and_where_they_change_nothing(tmp_path: Path, more: str, text: str) -> None:
    assert text in plan_text(plan_of(tmp_path, more), chunking=Chunking())


def test_a_factor_beside_feedback(tmp_path: Path) -> None:
    """IQ3_S takes one, but not with feedback: the note must not say that it never does."""
    plan = plan_of(tmp_path, "default: iq3_s\nscale: auto\nfeedback: true\n", moments=True)
    assert [p.text for p in plan.problems if p.id == "scale-unused"] == [
        "changes nothing: with feedback the scales of IQ3_S are found without a factor; take out one of the two"
    ]


def test_symmetric_asks_for_no_importance(tmp_path: Path) -> None:
    tensor = plan_of(tmp_path, "default: q4_0\nsymmetric: true\nsearch: exhaustive\n").tensors[0]
    assert (tensor.symmetric, tensor.importance, tensor.counts_alike) == (True, None, False)
