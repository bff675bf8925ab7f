"""``when: {has_importance: ...}``: the tensors that the matrix has something for, and those it lacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qxmix.container.imatrix import Imatrix
from qxmix.errors import RecipeError
from qxmix.plan import Plan, make_plan
from qxmix.recipe import load_recipe
from tests.planning.models import Model, facts, header

SHAPES = {
    "token_embd.weight": (256, 512),
    "blk.0.attn_q.weight": (256, 256),
    "blk.0.ffn_up_exps.weight": (256, 256, 4),
    "blk.1.attn_q.weight": (256, 256),
    "blk.1.ffn_up_exps.weight": (256, 256, 4),
    "blk.1.nextn.eh_proj.weight": (512, 256),
}
RULES = """
rules:
  - {category: token_embd, type: q8_0}
  - {when: {has_importance: false}, type: q6_k}
"""


def planned(tmp_path: Path, imatrix: Imatrix | None, body: str = RULES, default: str = "iq2_xxs") -> Plan:
    path = tmp_path / "r.yaml"
    path.write_text(f"qxmix: 1\nname: r\ntarget: ik_llama.cpp\ndefault: {default}\n{body}")
    return make_plan(load_recipe(path), header(Model("llama", facts(2, 256, 8, 2), SHAPES)), imatrix)


def of_layer_0() -> Imatrix:
    entries = {"blk.0.attn_q.weight": np.ones(256, np.float32), "blk.0.ffn_up_exps.weight": np.ones(1024, np.float32)}
    counts = {n: np.full(v.size // 256, 9, np.float32) for n, v in entries.items()}
    return Imatrix(Path("i.gguf"), "0" * 64, entries, (), 1, counts, "tokens", 9)


def types(plan: Plan) -> dict[str, str]:
    return {t.name.removesuffix(".weight"): t.type for t in plan.tensors}


def test_one_rule_saves_what_the_matrix_lacks(tmp_path: Path) -> None:
    plan = planned(tmp_path, of_layer_0())
    assert types(plan) == {
        "token_embd": "Q8_0", "blk.0.attn_q": "IQ2_XXS", "blk.0.ffn_up_exps": "IQ2_XXS", "blk.1.attn_q": "Q6_K",
        "blk.1.ffn_up_exps": "Q6_K", "blk.1.nextn.eh_proj": "Q6_K",
    }  # fmt: skip
    assert not [p for p in plan.problems if p.id == "imatrix-missing"]
    strict = planned(tmp_path, of_layer_0(), RULES + "imatrix: {missing: error}\n")
    assert not [p for p in strict.problems if p.severity == "error"]


def test_a_type_that_needs_one_is_an_error_all_the_same(tmp_path: Path) -> None:
    plan = planned(tmp_path, of_layer_0(), RULES.replace("q6_k", "iq2_xs"), "q8_0")
    assert [p.id for p in plan.problems if p.severity == "error"] == ["imatrix-missing"]


def test_without_a_matrix_no_tensor_has_importance(tmp_path: Path) -> None:
    assert set(types(planned(tmp_path, None)).values()) == {"Q8_0", "Q6_K"}


def test_an_entry_that_saw_nothing_is_none(tmp_path: Path) -> None:
    imatrix = of_layer_0()
    counts = {**imatrix.counts, "blk.0.ffn_up_exps.weight": np.zeros(4, np.float32)}
    assert types(planned(tmp_path, replace(imatrix, counts=counts)))["blk.0.ffn_up_exps"] == "Q6_K"
    one = {**imatrix.counts, "blk.0.ffn_up_exps.weight": np.array([0, 0, 1, 0], np.float32)}
    assert types(planned(tmp_path, replace(imatrix, counts=one)))["blk.0.ffn_up_exps"] == "IQ2_XXS"


def test_in_adjust_and_as_true(tmp_path: Path) -> None:
    body = "rules: [{match: attn_q, type: q4_0, adjust: [{when: {has_importance: true}, type: q3_k}]}]\n"
    found = types(planned(tmp_path, of_layer_0(), body, "q8_0"))
    assert (found["blk.0.attn_q"], found["blk.1.attn_q"]) == ("Q3_K", "Q4_0")


def test_it_is_true_or_false(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="has_importance"):
        planned(tmp_path, None, "rules: [{when: {has_importance: some}, type: q8_0}]\n")


@pytest.mark.parametrize("prior", ["-1", "0.5", "many"])
def test_a_prior_is_a_number_of_tokens(tmp_path: Path, prior: str) -> None:
    with pytest.raises(RecipeError, match="prior"):
        planned(tmp_path, None, f"imatrix: {{prior: {prior}}}\n")


@pytest.mark.parametrize("more", ["", "imatrix: {missing: error}\n"])
def test_a_rule_may_want_none(tmp_path: Path, more: str) -> None:
    rules = "rules: [{match: attn_q, type: q6_k, imatrix: false}]\n"
    plan = planned(tmp_path, of_layer_0(), rules + more, "q5_k" if not more else "q8_0")
    found = {t.name: t.importance for t in plan.tensors}
    assert found["blk.0.attn_q.weight"] is None
    assert more or found["blk.0.ffn_up_exps.weight"]
    named = [p.text for p in plan.problems if p.id.startswith("imatrix") and "attn_q" in p.text]
    assert not named


def test_a_rule_that_wants_none_for_a_type_that_needs_one(tmp_path: Path) -> None:
    plan = planned(tmp_path, of_layer_0(), "rules: [{match: attn_q, type: iq2_xs, imatrix: false}]\n", "q8_0")
    (problem,) = [p for p in plan.problems if p.severity == "error"]
    assert problem.text.endswith("IQ2_XS cannot be encoded without, and its rule says 'imatrix: false'")
