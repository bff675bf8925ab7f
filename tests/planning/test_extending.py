"""What shipped recipes expect holds when they are extended: what the child's rules take from theirs counts."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest

from qxmix.plan import Plan, make_plan
from qxmix.recipe import load_recipe, shipped_names, shipped_path
from tests.planning.models import header
from tests.planning.test_published import deepseek_v3, glm_4_6, qwen3_14b

if TYPE_CHECKING:
    from pathlib import Path

    from qxmix.container.model import ModelHeader

EXPECTING = [name for name in shipped_names() if "expect:" in shipped_path(name).read_text()]
CHILDREN = {
    "one rule": "rules: [{category: [token_embd, output], type: q6_k}]",
    "all tensors": "rules: [{match: ., type: q8_0}]",
    "keep": "keep: ['^token_embd', '^output', attn_, ffn_]",
}


@cache
def model_for(name: str) -> ModelHeader:
    if name.startswith("deepseek/") or "kimi" in name:
        return header(deepseek_v3())
    return header(glm_4_6() if "glm" in name else qwen3_14b())


def broken(plan: Plan) -> list[str]:
    return [str(p) for p in plan.problems if p.id == "expect"]


@pytest.mark.parametrize("name", EXPECTING)
def test_a_child_may_take_the_tensors(name: str, tmp_path: Path) -> None:
    assert not broken(make_plan(load_recipe(name), model_for(name)))
    for what, body in CHILDREN.items():
        path = tmp_path / "child.yaml"
        path.write_text(f"{{qxmix: 1, extends: [{name}], {body}}}")
        assert not broken(make_plan(load_recipe(path), model_for(name))), what


def test_all_of_them_are_looked_at() -> None:
    assert len(EXPECTING) == 81


def test_another_model_still_breaks_it(tmp_path: Path) -> None:
    path = tmp_path / "child.yaml"
    path.write_text("{qxmix: 1, extends: [ubergarm/glm-4.6-iq3_ks], rules: [{category: attn_q, type: q6_k}]}")
    assert len(broken(make_plan(load_recipe(path), header(qwen3_14b())))) == 2


def test_what_rules_of_the_same_file_take_does_not_count(tmp_path: Path) -> None:
    base, child = tmp_path / "base.yaml", tmp_path / "child.yaml"
    rules = "[{category: output, type: q6_k}, {category: output, type: q8_0, expect: 1}]"
    base.write_text(f"{{qxmix: 1, target: llama.cpp, default: q4_k, rules: {rules}}}")
    child.write_text("{qxmix: 1, extends: [base.yaml], rules: [{category: token_embd, type: q5_k}]}")
    assert "expected 1 tensor and decides 0" in broken(make_plan(load_recipe(child), header(qwen3_14b())))[0]
    child.write_text("{qxmix: 1, extends: [base.yaml], rules: [{category: output, type: q5_k}]}")
    assert not broken(make_plan(load_recipe(child), header(qwen3_14b())))
