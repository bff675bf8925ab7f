"""What the planner decides about single tensors: gate, rules, fallback, importance, ties, ordinals, policies."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from qxmix.container.imatrix import Imatrix
from qxmix.plan import Plan, PlannedTensor, Split, make_plan
from qxmix.recipe import load_recipe
from tests.planning.models import Model, Shape, facts, header

if TYPE_CHECKING:
    from collections.abc import Mapping

LAYERS: dict[str, Shape] = {
    f"blk.{i}.{part}.weight": shape
    for i in range(8)
    for part, shape in {
        "attn_v": (256, 64),
        "ffn_up": (256, 512),
        "ffn_gate": (256, 512),
        "ffn_down": (512, 256),
    }.items()
}


def planned(
    tmp_path: Path, body: str, shapes: Mapping[str, Shape] = LAYERS, *, target: str = "ik_llama.cpp",
    default: str = "q4_k", entries: Mapping[str, int] | None = None, arch: str = "llama",
    types: Mapping[str, str] | None = None, n_expert: int = 0,
) -> Plan:  # fmt: skip
    path = tmp_path / "r.yaml"
    path.write_text(f"qxmix: 1\ntarget: {target}\ndefault: {default}\n{body}")
    known = facts(8, 256, 8, 2) | ({"expert_count": n_expert} if n_expert else {})
    model = Model(arch, known, shapes, types=types or {})
    imatrix = None
    if entries is not None:
        values = {name: np.ones(n, np.float32) for name, n in entries.items()}
        imatrix = Imatrix(Path("i.dat"), "0" * 64, values, (), 0)
    return make_plan(load_recipe(path), header(model), imatrix)


def one(plan: Plan, name: str) -> PlannedTensor:
    return next(t for t in plan.tensors if t.name == name)


def types(plan: Plan, part: str) -> list[str]:
    return [t.type for t in plan.tensors if part in t.name]


def problems(plan: Plan, severity: str = "error") -> list[str]:
    return [str(p) for p in plan.problems if p.severity == severity]


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


def test_a_tensor_of_the_wanted_type_is_copied(tmp_path: Path) -> None:
    plan = planned(tmp_path, "", {"a.weight": (256, 8)}, default="f16")
    assert plan.tensors[0].action == "copy"
    assert plan.tensors[0].reason == "default; it is F16 already"
    assert plan.quantized_bpw == 0


def test_quantized_sources_need_leave(tmp_path: Path) -> None:
    shapes: dict[str, Shape] = {"a.weight": (256, 8), "b.weight": (256, 8), "c.weight": (256, 8)}
    sources = {"a.weight": "Q8_0", "b.weight": "Q4_K", "c.weight": "Q5_0"}
    plan = planned(tmp_path, "", shapes, types=sources)
    assert [p.id for p in plan.problems if p.severity == "error"] == ["requantize"]
    assert problems(plan)[0] == (
        "a.weight: already quantized to Q8_0, Q5_0; quantizing again adds to the loss of 2 tensors (a.weight, "
        f"c.weight); start from the F16 or BF16 model, or add the line 'allow_requantize: true' to {plan.recipe.path}"
    )
    assert not problems(planned(tmp_path, "allow_requantize: true\n", shapes, types=sources))


@pytest.mark.parametrize("name", ["pure/q6_k", "llama.cpp/q4_k_m"])
def test_leave_to_requantize_with_a_shipped_recipe_works_as_it_is_told(tmp_path: Path, name: str) -> None:
    model = header(Model("llama", {}, {"a.weight": (256, 8)}, types={"a.weight": "Q8_0"}))
    (text,) = [p.text for p in make_plan(load_recipe(name), model).problems if p.id == "requantize"]
    lines = re.findall("'([^']+)'", text.partition("three lines: ")[2])
    assert len(lines) == 3
    own = tmp_path / "own.yaml"
    own.write_text("\n".join(lines))
    plan = make_plan(load_recipe(own), model)
    assert "requantize" not in {p.id for p in plan.problems}
    assert plan.recipe.default == load_recipe(name).default


def test_an_output_larger_than_the_model_is_a_note(tmp_path: Path) -> None:
    shapes: dict[str, Shape] = {"a.weight": (256, 8192), "b.weight": (256, 8192), "output.weight": (256, 8192)}
    quantized = {"a.weight": "Q4_0", "b.weight": "Q4_0", "output.weight": "Q6_K"}
    body = "allow_requantize: true\n"
    plan = planned(tmp_path, body, shapes, default="q8_0", types=quantized)
    (text,) = [p for p in problems(plan, "note") if "larger than the model" in p]
    assert text.startswith("the output is larger than the model: 6.375 MiB of tensors instead of 3.891 MiB ")
    assert "Q4_0 become Q8_0, Q6_K become Q8_0" in text
    smaller = planned(tmp_path, body, shapes, default="q2_k", types=quantized)
    assert "larger-than-model" not in {p.id for p in smaller.problems}
    same = planned(tmp_path, body, shapes, default="keep", types=quantized)
    assert "larger-than-model" not in {p.id for p in same.problems}


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


V = "blk.0.attn_v.weight"


@pytest.mark.parametrize(
    ("target", "default", "body", "entries", "severity"),
    [
        ("ik_llama.cpp", "iq2_xxs", "", None, "error"),
        ("ik_llama.cpp", "iq2_kt", "", {}, "error"),
        ("ik_llama.cpp", "iq2_kt", "imatrix: {missing: warn}\n", {}, "warning"),
        ("ik_llama.cpp", "iq2_xxs", "imatrix: {missing: warn}\n", {}, "error"),
        ("ik_llama.cpp", "iq3_xxs", "", {}, "warning"),
        ("llama.cpp", "iq3_xxs", "", {}, "error"),
        ("ik_llama.cpp", "q4_k", "", {}, "warning"),
        ("ik_llama.cpp", "q4_k", "imatrix: {missing: error}\n", {}, "error"),
        ("ik_llama.cpp", "q4_k", "imatrix: {missing: error}\n", None, "error"),
        ("ik_llama.cpp", "q8_0", "imatrix: {missing: error}\n", {}, None),
        ("ik_llama.cpp", "q2_k", "imatrix: {require: [q2_k]}\n", {}, "error"),
        ("ik_llama.cpp", "q4_k", "", {V: 255}, "warning"),
        ("ik_llama.cpp", "q4_k", "", {V: 256}, None),
    ],
)
def test_importance_that_is_missing(
    tmp_path: Path, target: str, default: str, body: str, entries: dict[str, int] | None, severity: str | None
) -> None:
    plan = planned(tmp_path, body, {V: (256, 8)}, target=target, default=default, entries=entries)
    found = {p.severity for p in plan.problems if p.id in ("imatrix-missing", "imatrix-size")}
    assert found == ({severity} if severity else set())
    assert (plan.tensors[0].importance == V) == (entries == {V: 256})


def test_entries_for_tensors_that_are_not_there(tmp_path: Path) -> None:
    entries = {V: 256, "blk.7.attn_v.weight": 256, "output.weight": 256}
    plan = planned(tmp_path, "", {V: (256, 8)}, entries=entries)
    (text,) = problems(plan, "warning")
    assert text == (
        "i.dat: the importance matrix has 1 of its 3 entries for tensors that this model does not have, like "
        "'blk.7.attn_v.weight'; was it made from this model?"
    )
    assert not problems(planned(tmp_path, "", {V: (256, 8)}, entries={V: 256, "output.weight": 256}), "warning")


def test_embeddings_and_output_need_no_importance(tmp_path: Path) -> None:
    shapes: dict[str, Shape] = {"token_embd.weight": (256, 8), "output.weight": (256, 8)}
    plan = planned(tmp_path, "imatrix: {missing: error}\n", shapes, default="iq2_kt", entries={})
    assert not plan.problems
    # But an encoder that cannot work without must have one all the same, or the apply would fail late.
    assert len(problems(planned(tmp_path, "", shapes, default="iq2_xxs", entries={}))) == 1


def test_no_matrix_at_all_is_one_note(tmp_path: Path) -> None:
    plan = planned(tmp_path, "")
    assert [(p.severity, p.id) for p in plan.problems] == [("note", "imatrix-none")]
    assert not planned(tmp_path, "silence: {imatrix-none: none yet}\n").problems


def test_limits(tmp_path: Path) -> None:
    plan = planned(tmp_path, "limits: {max_bpw: 4.5, max_size: 1GiB}\n")
    assert not problems(plan)
    plan = planned(tmp_path, "limits: {max_bpw: 4.4, max_size: 1000}\n")
    assert [p.id for p in plan.problems if p.severity == "error"] == ["limit-bpw", "limit-size"]
    assert f"the output has {plan.file_nbytes:,} bytes" in problems(plan)[1]
    assert "which leaves 0.000 bits per weight where the plan has 4.500" in problems(plan)[1]
    assert problems(plan)[0].endswith("; the largest part is ffn_up, 0.562 MiB of Q4_K")
    enough = problems(planned(tmp_path, f"limits: {{max_size: {plan.file_nbytes - plan.data_nbytes // 9}}}\n"))[0]
    assert "which leaves 4.000 bits per weight where the plan has 4.500" in enough


def test_limits_on_memory(tmp_path: Path) -> None:
    use = "ctx: 4096, kv_type: q8_0"
    assert not problems(planned(tmp_path, f"limits: {{max_vram: 1GiB, max_ram: 1GiB, {use}}}\n"))
    assert not problems(planned(tmp_path, f"limits: {{max_vram: [1GiB, 1GiB], {use}}}\n"))
    plan = planned(tmp_path, f"limits: {{max_vram: 1MiB, {use}, parallel: 4}}\n")
    (found,) = (p for p in plan.problems if p.severity == "error")
    assert found.id == "limit-vram"
    assert "limits.max_vram: running it in ik_llama.cpp with a context of 4,096, cache Q8_0, 4 sequences, lacks" in str(
        found
    )
    assert "on GPUs, where all of it is to be, since no max_ram is given; GPU 0 takes" in str(found)
    (found,) = (p for p in planned(tmp_path, f"limits: {{max_ram: 1MiB, {use}}}\n").problems if p.severity == "error")
    assert found.id == "limit-ram"
    assert "of memory; CPU takes" in str(found)


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


@pytest.mark.parametrize(
    ("target", "default", "body", "file_type"),
    [
        ("ik_llama.cpp", "iq4_k", "", 140),
        ("ik_llama.cpp", "iq4_k", "file_type: 15\n", 15),
        ("ik_llama.cpp", "q1_0", "", 41),
        ("llama.cpp", "q1_0", "", 40),
        ("any", "q1_0", "fallback: error\n", None),
        ("any", "q4_0", "fallback: error\n", 2),
    ],
)
def test_file_type(tmp_path: Path, target: str, default: str, body: str, file_type: int | None) -> None:
    plan = planned(tmp_path, body, target=target, default=default)
    assert plan.file_type == file_type
    assert (b"general.file_type" in plan.files[0].header) == (file_type is not None)


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


def test_llama_cpp_counts_in_file_order_where_the_split_is_kept(tmp_path: Path) -> None:
    shapes: dict[str, Shape] = {f"blk.{i}.attn_v.weight": (256, 8) for i in (10, 2, 0, 1)}
    rule = "rules:\n- {category: attn_v, layers: {pick: first(2), by: ordinal}, type: q8_0}\n"
    plan = planned(tmp_path, rule, shapes, target="llama.cpp")
    assert [t.type for t in plan.tensors] == ["Q4_K", "Q4_K", "Q8_0", "Q8_0"]
    kept = make_plan(plan.recipe, plan.header, split=Split(keep=True))
    assert [t.type for t in kept.tensors] == ["Q8_0", "Q8_0", "Q4_K", "Q4_K"]
