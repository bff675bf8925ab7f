"""What else the planner decides: sources that are quantized, importance, limits, the file type."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qxmix.plan import make_plan
from qxmix.recipe import load_recipe
from tests.planning.deciding import planned, problems
from tests.planning.models import Model, Shape, header


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
