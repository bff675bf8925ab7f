"""Which rule decides about a tensor: the first, adjustments, ties, ordinals; and rules that do nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from qxmix.plan import Split, make_plan
from qxmix.recipe import load_recipe
from tests.planning.deciding import LAYERS, one, planned, types
from tests.planning.models import Model, Shape, facts, header


def test_first_match_wins_and_default_takes_the_rest(tmp_path: Path) -> None:
    body = "rules:\n- {match: ffn_up, layers: 0-1, type: q8_0}\n- {category: ffn_up, type: q6_k}\n"
    plan = planned(tmp_path, body)
    assert types(plan, "ffn_up") == ["Q8_0"] * 2 + ["Q6_K"] * 6
    assert set(types(plan, "attn_v")) == {"Q4_K"}
    assert one(plan, "blk.0.ffn_up.weight").reason == f"rules[0] ({tmp_path / 'r.yaml'}:5)"
    assert one(plan, "blk.7.ffn_up.weight").rule == 1


def test_adjust_sees_the_type_so_far(tmp_path: Path) -> None:
    steps = (
        "adjust: [{layers: last(2), type: q5_k}, {when: {type: q5_k}, type: q6_k}, {when: {type: q4_k}, type: keep}]"
    )
    plan = planned(tmp_path, f"rules:\n- {{category: ffn_up, type: default, {steps}}}\n")
    assert types(plan, "ffn_up") == ["F16"] * 6 + ["Q6_K"] * 2
    reason = one(plan, "blk.7.ffn_up.weight").reason
    assert reason.endswith("; adjust[0] Q4_K -> Q5_K; adjust[1] Q5_K -> Q6_K")


def test_tied_tensors_of_a_layer_end_with_one_type(tmp_path: Path) -> None:
    shapes: dict[str, Shape] = {
        "blk.0.ffn_gate.weight": (256, 8), "blk.0.ffn_up.weight": (288, 8),
        "blk.1.ffn_gate.weight": (256, 8), "blk.1.ffn_up.weight": (256, 8),
    }  # fmt: skip
    body = "rules:\n- {match: 'ffn_(gate|up)', type: q4_k, tie: true}\n"
    assert [t.type for t in planned(tmp_path, body, shapes).tensors] == ["Q5_0", "Q5_0", "Q4_K", "Q4_K"]
    loose = body.replace(", tie: true", "")
    assert [t.type for t in planned(tmp_path, loose, shapes).tensors] == ["Q4_K", "Q5_0", "Q4_K", "Q4_K"]


def test_ordinals_count_what_is_quantized_in_the_order_asked_for(tmp_path: Path) -> None:
    names = [f"blk.{i}.attn_v.weight" for i in (10, 2, 0, 1)]
    shapes: dict[str, Shape] = dict.fromkeys(names, (256, 8))
    body = (
        "ordinals: {{order: {}}}\nrules:\n- {{category: attn_v, layers: {{pick: first(2), by: ordinal}}, type: q8_0}}\n"
    )
    by_file = planned(tmp_path, body.format("file"), shapes)
    assert [t.type for t in by_file.tensors] == ["Q8_0", "Q8_0", "Q4_K", "Q4_K"]
    by_name = planned(tmp_path, body.format("name"), shapes)
    assert [t.type for t in by_name.tensors] == ["Q4_K", "Q4_K", "Q8_0", "Q8_0"]
    kept = planned(tmp_path, body.format("name") + "keep: ['blk.0']\n", shapes)
    assert [t.type for t in kept.tensors] == ["Q4_K", "Q8_0", "F16", "Q8_0"]


@pytest.mark.parametrize(("target", "setting", "expected"), [
    ("llama.cpp", "", ["Q5_K", "Q8_0", "Q8_0", "Q4_K"]), ("ik_llama.cpp", "", ["Q5_K", "Q8_0", "Q4_K", "Q4_K"]),
    ("llama.cpp", "ordinals: {overridden: count}\n", ["Q5_K", "Q8_0", "Q4_K", "Q4_K"]),
    ("ik_llama.cpp", "ordinals: {overridden: skip}\n", ["Q5_K", "Q8_0", "Q8_0", "Q4_K"]),
])  # fmt: skip
def test_a_tensor_that_an_outer_recipe_takes_counts_as_the_engine_has_it(
    tmp_path: Path, target: str, setting: str, expected: list[str]
) -> None:
    base = "rules:\n- {category: attn_v, layers: {pick: first(2), by: ordinal}, type: q8_0}\n"
    (tmp_path / "base.yaml").write_text(f"qxmix: 1\ntarget: {target}\ndefault: q4_k\n{base}")
    shapes: dict[str, Shape] = {f"blk.{i}.attn_v.weight": (256, 8) for i in range(4)}
    body = f"extends: base.yaml\n{setting}rules:\n- {{match: 'blk.0', type: q5_k}}\n"
    assert [t.type for t in planned(tmp_path, body, shapes, target=target).tensors] == expected


@pytest.mark.parametrize(
    ("rule", "severity", "id_", "text"),
    [
        ("match: nothing, type: q8_0", "warning", "rule-unmatched", "selects no tensor of this model (/nothing/)"),
        (
            "match: self_attn.v_proj, type: q8_0",
            "warning",
            "rule-unmatched",
            "tensors of a GGUF have other names: 'qxmix",
        ),
        ("match: attn_vv, type: q8_0", "warning", "rule-unmatched", "(/attn_vv/); did you mean attn_v?"),
        (
            "match: attn_v, layers: 60-70, type: q8_0",
            "warning",
            "rule-unmatched",
            "(/attn_v/ layers 60-70); without 'layers' it selects 8, of layers 0-7",
        ),
        ("match: nothing, type: q8_0, expect: {min: 1}", "error", "expect", "expected at least 1 and decides 0"),
        ("match: attn_v, type: q8_0, expect: 7", "error", "expect", "expected 7 tensors and decides 8"),
        ("match: attn_v, type: q8_0, expect: {min: 1, max: 3}", "error", "expect", "expected 1 to 3 and decides 8"),
        ("match: _norm, type: q8_0", "warning", "rule-never-quantized", "like blk.0.attn_norm.weight: it has one dim"),
        (
            "match: attn_v, type: q8_0}\n- {category: attn_v, type: q6_k",
            "warning",
            "rule-shadowed",
            "rules[0] before it",
        ),
    ],
)
def test_rules_that_do_nothing(tmp_path: Path, rule: str, severity: str, id_: str, text: str) -> None:
    shapes: dict[str, Shape] = {**LAYERS, "blk.0.attn_norm.weight": (256,)}
    plan = planned(tmp_path, f"rules:\n- {{{rule}}}\n", shapes)
    found = [p for p in plan.problems if p.severity != "note"]
    assert [(p.severity, p.id) for p in found] == [(severity, id_)]
    assert text in found[0].text


def test_rules_for_other_models_are_not_complained_about(tmp_path: Path) -> None:
    moe = "- {category: attn_v, when: {n_expert: '>1'}, type: q8_0}\n"
    assert not [p for p in planned(tmp_path, f"rules:\n{moe}").problems if p.severity != "note"]
    plan = planned(tmp_path, f"rules:\n{moe}- {{category: attn_v, type: q6_k}}\n", n_expert=4)
    assert not [p for p in plan.problems if p.severity != "note"]
    assert set(types(plan, "attn_v")) == {"Q8_0"}


def test_a_silenced_rule_and_a_silenced_recipe(tmp_path: Path) -> None:
    rule = "- {match: nothing, type: q8_0, silence: {rule-unmatched: for other models}}\n"
    assert not [p for p in planned(tmp_path, f"rules:\n{rule}").problems if p.severity != "note"]
    body = "silence: {fallback: known}\n"
    assert not [p for p in planned(tmp_path, body, {"a.weight": (288, 8)}).problems if p.severity != "note"]


def test_first_of_an_array_of_heads_is_what_counts(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "qxmix: 1\ntarget: llama.cpp\ndefault: q4_k\nrules:\n"
        "- {match: ., when: {n_gqa: 4, n_head: 8, n_head_kv: 2, n_layer: 3}, type: q8_0}\n"
    )
    known = facts(3, 256, 8, 2) | {"attention.head_count_kv": [2, 8, 0]}
    plan = make_plan(load_recipe(path), header(Model("llama", known, {"a.weight": (256, 8)})))
    assert plan.tensors[0].type == "Q8_0"


def test_llama_cpp_counts_in_file_order_where_the_split_is_kept(tmp_path: Path) -> None:
    shapes: dict[str, Shape] = {f"blk.{i}.attn_v.weight": (256, 8) for i in (10, 2, 0, 1)}
    rule = "rules:\n- {category: attn_v, layers: {pick: first(2), by: ordinal}, type: q8_0}\n"
    plan = planned(tmp_path, rule, shapes, target="llama.cpp")
    assert [t.type for t in plan.tensors] == ["Q4_K", "Q4_K", "Q8_0", "Q8_0"]
    kept = make_plan(plan.recipe, plan.header, split=Split(keep=True))
    assert [t.type for t in kept.tensors] == ["Q8_0", "Q8_0", "Q4_K", "Q4_K"]
