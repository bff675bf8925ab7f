"""A prior for thin experts: by hand, and through plan, apply and verify."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from qxmix import apply, load_recipe, make_plan, read_header
from qxmix.container.imatrix import Imatrix
from qxmix.container.imatrix_load import load_imatrix
from qxmix.container.imatrix_write import write_imatrix
from qxmix.execute.reuse import tensor_key
from qxmix.execute.verify import verify
from qxmix.importance.prior import with_prior

if TYPE_CHECKING:
    from qxmix.plan import Plan

NAME = "blk.0.ffn_up_exps.weight"


def three(counts: list[float], rows: list[list[float]]) -> Imatrix:
    values = np.array(rows, np.float32).reshape(-1)
    return Imatrix(Path("m.gguf"), "", {"e": values, "d": values[:2]}, (), 0,
                   {"e": np.array(counts, np.float32), "d": np.ones(1, np.float32)}, "tokens", 1)  # fmt: skip


def test_by_hand() -> None:
    """Expert 1 has 10 tokens; the others, with 30 and 60, average (30 * 2 + 60 * 5) / 90 = 4."""
    blended = with_prior(three([30, 10, 60], [[2, 0], [8, 0], [5, 0]]), 30)
    found = blended.entries["e"].reshape(3, 2)[:, 0]
    others = [(10 * 8 + 60 * 5) / 70, 4, (30 * 2 + 10 * 8) / 40]
    own = zip([30, 10, 60], [2, 8, 5], others, strict=True)
    np.testing.assert_allclose(found, [(n * v + 30 * a) / (n + 30) for n, v, a in own], rtol=1e-7)
    assert blended.entries["d"].tolist() == [2, 0]
    assert not blended.entries["e"].flags.writeable


def test_one_that_saw_nothing_takes_the_average() -> None:
    assert with_prior(three([1, 0, 3], [[8, 4], [1, 1], [4, 0]]), 7).entries["e"][2:4].tolist() == [5, 1]


def test_where_no_other_saw_anything_nothing_changes() -> None:
    alone = three([0, 5, 0], [[1, 1], [8, 3], [1, 1]])
    assert with_prior(alone, 7).entries["e"].tolist() == [8, 3, 8, 3, 8, 3]
    nobody = three([0, 0, 0], [[1, 1], [1, 1], [1, 1]])
    assert with_prior(nobody, 7).entries["e"].tolist() == [1] * 6


def test_legacy_matrices_stay_as_they_are(demo_moe_imatrix: Path) -> None:
    imatrix = load_imatrix(demo_moe_imatrix)
    assert with_prior(imatrix, 64) is imatrix


@pytest.fixture
def thin(demo_moe_imatrix: Path, tmp_path: Path) -> Imatrix:
    """Of four experts one saw nothing, one little."""
    legacy = load_imatrix(demo_moe_imatrix)
    counts = {n: np.array([400, 3, 0, 300] if "_exps" in n else [512], np.float32) for n in legacy.entries}
    write_imatrix(replace(legacy, counts=counts, counts_in="tokens", chunk_size=64), tmp_path / "thin.gguf")
    return load_imatrix(tmp_path / "thin.gguf")


def planned(tmp_path: Path, model: Path, imatrix: Imatrix, body: str) -> Plan:
    path = tmp_path / "r.yaml"
    path.write_text(f"qxmix: 1\nname: r\ntarget: ik_llama.cpp\ndefault: keep\n{body}")
    return make_plan(load_recipe(path), read_header(model), imatrix)


def notes(plan: Plan, problem: str) -> list[str]:
    return [p.text for p in plan.problems if p.id == problem]


def test_plan_names_unseen_and_thin_experts(tmp_path: Path, demo_moe_model: Path, thin: Imatrix) -> None:
    rule = "rules: [{match: ffn_up_exps, type: q4_0}]\n"
    plan = planned(tmp_path, demo_moe_model, thin, rule)
    tensors = f"{NAME}: {{}}; blk.1.ffn_up_exps.weight: {{}}"
    assert notes(plan, "imatrix-unseen")[0].startswith(
        "its text reached none of these experts, they are encoded as if w"
    )
    assert notes(plan, "imatrix-unseen")[0].endswith(tensors.format(2, 2))
    assert notes(plan, "imatrix-thin")[0].endswith(tensors.format(1, 1))
    assert all(p.severity == "note" for p in plan.problems if p.id.startswith("imatrix-"))
    blended = planned(tmp_path, demo_moe_model, thin, rule + "imatrix: {prior: 64}\n")
    assert "take the average of the tensor's other experts (prior: 64)" in notes(blended, "imatrix-unseen")[0]


def test_a_prior_that_changes_nothing_is_a_warning(
    tmp_path: Path, demo_moe_model: Path, demo_moe_imatrix: Path
) -> None:
    rule = "rules: [{match: ffn_up_exps, type: q4_0}]\nimatrix: {prior: 9}\n"
    plan = planned(tmp_path, demo_moe_model, load_imatrix(demo_moe_imatrix), rule)
    assert "'prior: 9' changes nothing" in notes(plan, "imatrix-prior")[0]


def test_other_bytes_other_keys_and_verify_knows(tmp_path: Path, demo_moe_model: Path, thin: Imatrix) -> None:
    rule = f"rules: [{{match: '^{NAME}', type: q4_0}}]\n"
    without = planned(tmp_path, demo_moe_model, thin, rule)
    apply(without, tmp_path / "without.gguf", executor="serial")
    blended = planned(tmp_path, demo_moe_model, thin, rule + "imatrix: {prior: 64}\n")
    apply(blended, tmp_path / "blended.gguf", executor="serial", reuse_output=tmp_path / "without.gguf")
    (index,) = (i for i, t in enumerate(blended.tensors) if t.name == NAME)
    assert tensor_key(without, without.tensors[index], "s") != tensor_key(blended, blended.tensors[index], "s")
    made = []
    for name, plan in (("without", without), ("blended", blended)):
        tensor = plan.tensors[index]
        data = (tmp_path / f"{name}.gguf").read_bytes()[tensor.offset : tensor.offset + tensor.nbytes]
        made.append(np.frombuffer(data, np.uint8).reshape(4, -1))
    assert [bool((a != b).any()) for a, b in zip(*made, strict=True)] == [True, True, True, True]
    again = verify(read_header(tmp_path / "blended.gguf"), read_header(demo_moe_model), thin.path, every=True)
    assert (again.problems, again.n_leaves) == ((), again.n_all_leaves)
