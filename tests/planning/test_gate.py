"""Which tensors the planner quantizes, and what rows get that their type does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.planning.deciding import one, planned, problems
from tests.planning.models import Shape

# name, shape, kept by llama.cpp, kept by ik_llama.cpp
GATE: list[tuple[str, Shape, bool, bool]] = [
    ("blk.0.attn_q.weight", (256, 256), False, False),
    ("blk.0.attn_q.bias", (256, 256), True, True),
    ("blk.0.attn_qweight", (256, 256), False, False),
    ("blk.0.attn_norm.weight", (256, 4), True, True),
    ("blk.0.attn_sinks.weight", (256,), True, True),
    ("blk.0.ffn_gate_inp.weight", (256, 8), True, True),
    ("blk.0.ffn_gate_inp_shexp.weight", (256, 8), False, False),
    ("position_embd.weight", (256, 8), True, True),
    ("token_types.weight", (256, 2), True, True),
    ("a.position_embd.weight", (256, 8), True, False),
    ("blk.0.attn_rel_b.weight", (256, 8), True, True),
    ("blk.0.ssm_conv1d.weight", (256, 8), True, True),
    ("blk.0.ssm_x.weight", (256, 8), False, True),
    ("blk.0.ssm_dt.weight", (256, 8), False, True),
    ("blk.0.shortconv.conv.weight", (256, 8), True, False),
    ("blk.0.altup_proj.weight", (256, 8), True, False),
    ("blk.0.laurel_l.weight", (256, 8), True, False),
    ("per_layer_model_proj.weight", (256, 8), True, False),
    ("blk.0.time_mix_w1.weight", (256, 8), True, False),
    ("blk.0.time_mix_key.weight", (256, 8), False, False),
    ("blk.0.indexer.k_proj.weight", (256, 8), True, False),
    ("v.patch_embd.weight", (256, 8), True, False),
    ("v.blk.0.attn_q.weight", (256, 256), False, False),
]


@pytest.mark.parametrize(("name", "shape", "llama", "ik"), GATE, ids=[g[0] for g in GATE])
def test_gate_of_each_engine_and_of_both(tmp_path: Path, name: str, shape: Shape, *, llama: bool, ik: bool) -> None:
    for target, kept in (("llama.cpp", llama), ("ik_llama.cpp", ik), ("any", llama or ik)):
        body = "fallback: error\n" if target == "any" else ""
        tensor = planned(tmp_path, body, {name: shape}, target=target, default="q8_0").tensors[0]
        assert (tensor.action == "copy") == kept, target
        assert tensor.reason.startswith("kept: ") == kept


def test_force_quantizes_what_is_never_quantized_and_keep_beats_it(tmp_path: Path) -> None:
    shapes: dict[str, Shape] = {"blk.0.ffn_gate_inp.weight": (256, 8), "blk.0.attn_norm.weight": (256,)}
    rule = "rules:\n- {match: 'inp|norm', type: q8_0, force: true}\n"
    plan = planned(tmp_path, rule, shapes)
    assert [t.type for t in plan.tensors] == ["Q8_0", "Q8_0"]
    plan = planned(tmp_path, rule + "keep: [norm]\n", shapes)
    assert [t.type for t in plan.tensors] == ["Q8_0", "F32"]
    assert one(plan, "blk.0.attn_norm.weight").reason == "kept: the recipe keeps /norm/"


def test_integers_and_unknown_types_are_kept_whatever_the_rule(tmp_path: Path) -> None:
    body = "rules:\n- {match: ., type: q8_0, force: true}\n"
    plan = planned(tmp_path, body, {"a.weight": (256, 8)}, types={"a.weight": "I32"})
    assert plan.tensors[0].action == "copy"
    assert plan.tensors[0].reason == "kept: it holds I32 integers"


@pytest.mark.parametrize(
    ("target", "n_cols", "asked", "steps"),
    [
        ("llama.cpp", 288, "q4_k", ["Q4_K -> Q5_0"]),
        ("llama.cpp", 288, "q2_k", ["Q2_K -> Q4_0"]),
        ("llama.cpp", 288, "iq3_s", ["IQ3_S -> IQ4_NL"]),
        ("llama.cpp", 288, "q5_k", ["Q5_K -> Q5_1"]),
        ("llama.cpp", 288, "q6_k", ["Q6_K -> Q8_0"]),
        ("llama.cpp", 100, "q6_k", ["Q6_K -> F16"]),
        ("llama.cpp", 100, "q4_0", ["Q4_0 -> F16"]),
        ("llama.cpp", 288, "q2_0", ["Q2_0 -> Q4_0"]),
        ("ik_llama.cpp", 288, "q4_k", ["Q4_K -> Q5_0"]),
        ("ik_llama.cpp", 288, "q2_k", ["Q2_K -> IQ4_NL"]),
        ("ik_llama.cpp", 288, "q5_k", ["Q5_K -> Q6_0"]),
        ("ik_llama.cpp", 288, "iq5_ks", ["IQ5_KS -> Q5_0"]),
        ("ik_llama.cpp", 288, "iq6_k", ["IQ6_K -> Q8_0"]),
        ("ik_llama.cpp", 288, "iq4_k_r4", ["IQ4_K_R4 -> Q5_0"]),
        ("ik_llama.cpp", 288, "iq4_kt", ["IQ4_KT -> IQ4_NL"]),
    ],
)
def test_fallback_of_each_engine(tmp_path: Path, target: str, n_cols: int, asked: str, steps: list[str]) -> None:
    plan = planned(tmp_path, "", {"a.weight": (n_cols, 8)}, target=target, default=asked)
    tensor = plan.tensors[0]
    found = [part.partition(":")[0] for part in tensor.reason.split("; ")[1:] if "->" in part]
    assert found == steps
    # An F16 tensor that falls back to F16 is not touched.
    assert tensor.action == ("copy" if tensor.type == "F16" else "encode")
    assert tensor.requested == asked.upper()
    told = ["fallback"] if tensor.action == "encode" else ["fallback", "no-effect"]
    assert [p.id for p in plan.problems if p.severity == "warning"] == told


@pytest.mark.parametrize(
    ("target", "n_cols", "asked"),
    [("ik_llama.cpp", 100, "q4_k"), ("ik_llama.cpp", 100, "q8_0"), ("llama.cpp", 96, "nvfp4")],
)
def test_where_the_engine_would_abort_the_plan_has_an_error(
    tmp_path: Path, target: str, n_cols: int, asked: str
) -> None:
    plan = planned(tmp_path, "", {"a.weight": (n_cols, 8)}, target=target, default=asked)
    assert f"{target} has no substitute for {asked.upper()} that fits" in problems(plan)[0]


def test_chains_come_before_the_policy_and_a_rule_before_the_recipe(tmp_path: Path) -> None:
    shapes: dict[str, Shape] = {"a.weight": (288, 8), "b.weight": (288, 8), "c.weight": (100, 8)}
    body = (
        "fallback: {policy: error, q4_k: [q5_k, q8_0]}\n"
        "rules:\n- {match: b, type: q4_k, fallback: {q4_k: [q6_0]}}\n- {match: c, type: q4_k, fallback: llama.cpp}\n"
    )
    plan = planned(tmp_path, body, shapes)
    # The chain's q5_k does not fit either; the policy of c's rule applies after the recipe's chain has nothing for it.
    assert [t.type for t in plan.tensors] == ["Q8_0", "Q6_0", "F16"]
    assert not problems(plan)


def test_policy_error_names_tensor_cause_and_remedy(tmp_path: Path) -> None:
    plan = planned(tmp_path, "fallback: error\n", {"a.weight": (288, 8), "b.weight": (288, 8), "c.weight": (256, 8)})
    assert len(problems(plan)) == 1
    text = problems(plan)[0]
    assert text.startswith(f"{tmp_path / 'r.yaml'}:3: default: Q4_K cannot hold 2 tensors (a.weight, b.weight)")
    assert "rows of 288 weights are not whole blocks of 256" in text
    assert text.endswith("; choose another type, or write types to try instead: 'fallback: [q5_0]'")
    odd = problems(planned(tmp_path, "fallback: error\n", {"a.weight": (290, 8)}))[0]
    assert odd.endswith("'fallback: [f16]'")


def test_a_policy_whose_substitute_the_target_lacks(tmp_path: Path) -> None:
    body = "fallback: ik_llama.cpp\n"
    plan = planned(tmp_path, body, {"a.weight": (288, 8)}, target="llama.cpp", default="q5_k")
    assert "the fallback Q6_0 is unknown to llama.cpp" in problems(plan)[0]


def test_interleaved_rows(tmp_path: Path) -> None:
    shapes: dict[str, Shape] = {
        "token_embd.weight": (256, 64),
        "per_layer_token_embd.weight": (256, 64),
        "blk.0.attn_q.weight": (256, 62),
        "blk.0.attn_k.weight": (256, 64),
        "blk.0.ffn_up_exps.weight": (256, 62, 4),
    }
    plan = planned(tmp_path, "", shapes, default="iq4_k_r4")
    assert [t.type for t in plan.tensors] == ["IQ4_K", "IQ4_K", "IQ4_K", "IQ4_K_R4", "IQ4_K"]
    strict = planned(tmp_path, "fallback: error\n", shapes, default="iq4_k_r4")
    assert [p.partition(" cannot hold ")[2][:9] for p in problems(strict)] == ["2 tensors", "2 tensors"]


@pytest.mark.parametrize(
    ("default", "n_cols", "why"),
    [
        ("q8_kv", 576, "rows of 576 weights are not whole multiples of 256"),
        ("q8_kv_r8", 512, ""),
        ("iq1_m_r4", 192, "rows of 192 weights are not whole multiples of 128"),
        ("iq1_bn", 256, "rows of 256 weights are shorter than 512"),
        ("iq2_bn_r4", 256, ""),
    ],
)
def test_rows_that_the_engine_cannot_multiply_are_told(tmp_path: Path, default: str, n_cols: int, why: str) -> None:
    shapes: dict[str, Shape] = {f"blk.{i}.attn_q.weight": (n_cols, 64) for i in range(3)}
    texts = [p for p in problems(planned(tmp_path, "", shapes, default=default), "warning") if "nonsense" in p]
    assert len(texts) == bool(why)
    assert all(
        f"loads 3 tensors (blk.0.attn_q.weight, blk.1.attn_q.weight, ...) as {default.upper()}" in t for t in texts
    )
    assert all(t.endswith(why) for t in texts)


def test_a_fallback_is_told_with_its_cost_and_each_cause_apart(tmp_path: Path) -> None:
    shapes: dict[str, Shape] = {"a.weight": (288, 8), "b.weight": (288, 8), "c.weight": (544, 8)}
    plan = planned(tmp_path, "", shapes, default="iq4_ks")
    texts = [p.text for p in plan.problems if p.id == "fallback"]
    # 16 rows of 288 weights: IQ4_NL has 18 bytes for 32 of them, IQ4_KS 136 for 256 and 4 for the row.
    cost = 16 * (288 // 32 * 18 - 288 * 136 / 256 - 4)
    cause = "rows of 288 weights are not whole blocks of 256"
    assert texts[0] == f"IQ4_KS -> IQ4_NL for 2 tensors (a.weight, b.weight) ({cost:+,.0f} bytes): {cause}"
    assert texts[1].endswith("rows of 544 weights are not whole blocks of 256")
    assert len(texts) == 2
