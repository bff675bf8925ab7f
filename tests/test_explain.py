"""The way of one tensor: each rule as it was tried, in agreement with what the plan decided."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qxmix import PlanError, load_recipe, make_plan
from qxmix.explain import explain
from qxmix.report.explain import explanation_text
from tests.planning.models import header
from tests.planning.zoo import MODELS

if TYPE_CHECKING:
    from qxmix.plan import Plan

ROOT = Path(__file__).parents[1]
RECIPE = """qxmix: 1
name: r
target: ik_llama.cpp
default: q4_k
rules:
  - {category: attn_v, type: q8_0}
  - {match: ffn_down, layers: first(2), type: q6_k}
  - {match: ffn_down, when: {n_expert: ">1"}, type: q5_k}
  - {match: ffn_down, when: {n_cols: "<100"}, type: q5_0}
  - {match: ffn_down, layers: "0", type: q3_k}
  - {match: norm, type: f16}
  - {match: norm, type: f16, force: true, layers: 1}
keep: ['^output\\.weight$']
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "r.yaml").write_text(RECIPE)
    return make_plan(load_recipe(tmp_path / "r.yaml"), header(MODELS["llama1-7b"]), None)


def verdicts(plan: Plan, name: str) -> list[str]:
    return ["decides" if t.decides else t.why_not or "too" for t in explain(plan, name).tried]


def test_each_rule_says_why_not(plan: Plan) -> None:
    assert verdicts(plan, "blk.0.ffn_down") == [
        "category: it is ffn_down",
        "decides",
        "when: the model's n_expert is 0, not >1",
        "when: n_cols is 512, not <100",
        "too",
        "match: not in its name",
        "match: not in its name",
    ]
    assert verdicts(plan, "blk.5.ffn_down.weight")[1] == "layers: it is in layer 5, not in 0-1"
    assert "decides" not in verdicts(plan, "blk.5.ffn_down.weight")


def test_what_the_engines_keep_needs_force(plan: Plan) -> None:
    found = explain(plan, "blk.1.attn_norm.weight")
    assert found.gate
    assert verdicts(plan, "blk.1.attn_norm.weight")[5:] == [
        "force: without it the engines' choice to keep it stands",
        "decides",
    ]
    assert explain(plan, "output").tried == ()
    assert str(explain(plan, "output").gate) == "the recipe keeps /^output\\.weight$/"


@pytest.mark.parametrize("recipe", ["llama.cpp/q4_k_m", "ik_llama.cpp/q3_k_m", "llama.cpp/iq2_s", "pure/iq4_xs"])
@pytest.mark.parametrize("model", ["smollm-576", "mixtral-8x7b", "deepseek-v2-lite-like"])
def test_it_agrees_with_the_plan(recipe: str, model: str) -> None:
    plan = make_plan(load_recipe(recipe), header(MODELS[model]), None)
    for tensor in plan.tensors[::7]:
        tried = explain(plan, tensor.name).tried
        first = next((i for i, t in enumerate(tried) if not t.why_not), None)
        assert first == tensor.rule
        assert [i for i, t in enumerate(tried) if t.decides] == ([] if tensor.rule is None else [tensor.rule])


def test_each_step_of_adjust_says_why_not(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("""qxmix: 1
name: r
target: ik_llama.cpp
default: q4_k
rules:
  - match: ffn_down
    type: q3_k
    adjust:
      - {type: q3_k}
      - {type: q5_k, when: {n_expert: ">1"}}
      - {type: q4_k, layers: first(2)}
      - {type: q6_k, when: {type: [q3_k]}}
      - {type: default, layers: first(2)}
      - {type: q8_0, layers: {pick: first(1), by: ordinal}}
""")
    plan = make_plan(load_recipe(tmp_path / "r.yaml"), header(MODELS["llama1-7b"]), None)

    def steps(name: str) -> list[tuple[str, str]]:
        return [(s.type, s.why_not) for s in explain(plan, name).steps]

    assert steps("blk.1.ffn_down") == [
        ("Q3_K", "type: it has that already"),
        ("Q5_K", "when: n_expert is 0, not >1"),
        ("Q4_K", ""),
        ("Q6_K", "when: type is q4_k, not q3_k"),
        ("Q4_K", "type: it has that already"),
        ("Q8_0", "layers: its place among those of its kind is 1"),
    ]
    assert [why for _, why in steps("blk.5.ffn_down")][2:5] == [
        "layers: it is in layer 5, not in 0-1", "", "layers: it is in layer 5, not in 0-1"
    ]  # fmt: skip
    assert steps("blk.5.attn_v") == []
    text = " ".join(explanation_text(plan, explain(plan, "blk.1.ffn_down"), terminal=False).split())
    assert "adjust[1]: does not make it Q5_K; when: n_expert is 0, not >1" in text
    assert "adjust[2]: makes it Q4_K instead of Q3_K" in text


@pytest.mark.parametrize("recipe", ["llama.cpp/q4_k_m", "ik_llama.cpp/q3_k_m", "llama.cpp/iq2_s", "ik_llama.cpp/iq2_k"])
def test_steps_end_at_the_type_of_the_plan(recipe: str) -> None:
    plan = make_plan(load_recipe(recipe), header(MODELS["mixtral-8x7b"]), None)
    for tensor in plan.tensors[::5]:
        steps = explain(plan, tensor.name).steps
        changed = [f"adjust[{i}] {s.so_far} -> {s.type}" for i, s in enumerate(steps) if not s.why_not]
        assert all(text in tensor.reason for text in changed)
        assert tensor.reason.count("adjust[") == len(changed)


def test_the_text_tells_fallback_importance_and_bytes(plan: Plan) -> None:
    tensor = next(t for t in plan.tensors if t.name == "blk.0.ffn_down.weight")
    text = explanation_text(plan, explain(plan, tensor.name), terminal=False)
    assert text.startswith("blk.0.ffn_down.weight: ")
    assert "selects and decides it" in text
    assert "would select it, too" in text
    assert "Importance: none, for no matrix is given" in text
    assert f"Size: Q6_K, {tensor.nbytes:,} bytes" in text


def test_a_name_that_is_not_there(plan: Plan) -> None:
    with pytest.raises(PlanError, match=r"has no tensor 'blk.0.ffn_dwn'; did you mean 'blk.0.ffn_down.weight'\?"):
        explain(plan, "blk.0.ffn_dwn")


def test_the_command(demo_model: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qxmix", "plan", "llama.cpp/q4_k_m", str(demo_model), "--explain", "blk.0.attn_v"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "so it gets the default Q4_K" in done.stdout
