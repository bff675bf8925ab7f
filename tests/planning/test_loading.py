"""Types that the target does not load or cannot multiply, in tensors that are not encoded; plans without effect."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from qxmix.container.fields import make_field
from qxmix.container.gguf_format import ValueType
from qxmix.plan import Plan, make_plan
from qxmix.recipe import load_recipe
from tests.gguf_bytes import gguf, tensor, text_field, u32_field
from tests.planning.models import Model, Shape, facts, header

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from qxmix.container.model import ModelHeader, Scalar
    from qxmix.errors import Problem

SHAPES: dict[str, Shape] = {"token_embd.weight": (256, 64), "blk.0.attn_q.weight": (256, 64)}


def plan_of(tmp_path: Path, recipe: str, model: ModelHeader) -> Plan:
    path = tmp_path / "r.yaml"
    path.write_text("{qxmix: 1, name: r, " + recipe + "}")
    return make_plan(load_recipe(path), model)


def model(types: Mapping[str, str], shapes: Mapping[str, Shape] = SHAPES) -> ModelHeader:
    return header(Model("llama", facts(1, 256, 8, 2), shapes, types=types))


def with_id(type_id: int) -> ModelHeader:
    """A model whose attn_q has an id that is in no table."""
    made = model({})
    tensors = tuple(replace(t, type_id=type_id) if "attn_q" in t.name else t for t in made.tensors)
    return replace(made, tensors=tensors)


def only(plan: Plan, id_: str) -> Problem:
    (problem,) = (p for p in plan.problems if p.id == id_)
    return problem


KEEPING = {
    "keep": "default: q8_0, keep: [attn_]",
    "a rule": "default: q8_0, rules: [{match: attn_, type: keep}]",
    "the default": "default: keep, rules: [{category: token_embd, type: q8_0}]",
}


@pytest.mark.parametrize("keeping", KEEPING.values(), ids=KEEPING)
@pytest.mark.parametrize(
    ("target", "source", "engine"),
    [
        ("llama.cpp", "IQ4_K", "llama.cpp"),
        ("llama.cpp", "Q4_K_R4", "llama.cpp"),
        ("any", "IQ4_K", "llama.cpp"),
        ("any", "TQ2_0", "ik_llama.cpp"),
        ("ik_llama.cpp", "TQ1_0", "ik_llama.cpp"),
        ("ik_llama.cpp", "IQ4_K", None),
        ("llama.cpp", "TQ1_0", None),
        ("any", "Q4_K", None),
    ],
)
def test_a_tensor_kept_in_a_type_that_the_target_lacks(
    tmp_path: Path, keeping: str, target: str, source: str, engine: str | None
) -> None:
    recipe = f"target: {target}, fallback: error, {keeping}"
    plan = plan_of(tmp_path, recipe, model({"blk.0.attn_q.weight": source}))
    if engine is None:
        assert not [p for p in plan.problems if p.severity == "error"]
        return
    problem = only(plan, "engine-type")
    assert problem.severity == "error"
    assert str(problem).startswith(f"blk.0.attn_q.weight: {source} is not a type of {engine}")
    # What it says to do: a type for them, or a model that was not quantized yet.
    encoded = f"target: {target}, fallback: error, default: q8_0, allow_requantize: true"
    for advised in (
        plan_of(tmp_path, encoded, model({"blk.0.attn_q.weight": source})),
        plan_of(tmp_path, recipe, model({})),
    ):
        assert not [p for p in advised.problems if p.severity == "error"]


def test_what_is_never_quantized_must_load_too(tmp_path: Path) -> None:
    made = model({"blk.0.attn_norm.weight": "IQ4_K"}, {**SHAPES, "blk.0.attn_norm.weight": (256, 2)})
    problem = only(plan_of(tmp_path, "target: llama.cpp, default: q8_0", made), "engine-type")
    assert problem.where == "blk.0.attn_norm.weight"


@pytest.mark.parametrize(("type_id", "name"), [(31, " (Q4_0_4_4)"), (36, " (I2_S)"), (142, " (IQ2_TN)"), (5000, "")])
@pytest.mark.parametrize("target", ["llama.cpp", "ik_llama.cpp", "any"])
def test_an_id_that_no_engine_of_today_has(tmp_path: Path, target: str, type_id: int, name: str) -> None:
    plan = plan_of(tmp_path, f"target: {target}, fallback: error, default: q8_0", with_id(type_id))
    problem = only(plan, "engine-type")
    assert f"the type id {type_id}{name} can be neither read by qxmix nor run by" in problem.text
    convert = "llama-quantize --allow-requantize model.gguf OUT.gguf IQ2_BN"
    assert (convert in problem.text) == (type_id == 36 and target == "ik_llama.cpp")


@pytest.mark.parametrize(
    ("source", "shape", "name"),
    [
        ("IQ2_BN", (256, 64), "blk.0.attn_q.weight"),
        ("Q8_KV", (288, 64), "blk.0.attn_q.weight"),
        ("IQ1_S_R4", (288, 64), "blk.0.attn_q.weight"),
        ("Q4_K_R4", (256, 64), "token_embd.weight"),
        ("Q4_K_R4", (256, 63), "blk.0.attn_q.weight"),
    ],
)
def test_kept_rows_that_the_engine_cannot_multiply(tmp_path: Path, source: str, shape: Shape, name: str) -> None:
    made = model({name: source}, {**SHAPES, name: shape})
    problem = only(plan_of(tmp_path, f"target: ik_llama.cpp, default: q8_0, keep: ['^{name}']", made), "engine-rows")
    assert problem.where == name


def stated(made: ModelHeader, file_type: int) -> ModelHeader:
    field = make_field("general.file_type", file_type, ValueType.UINT32)
    return replace(made, metadata=(*made.metadata, field))


def test_a_plan_that_encodes_nothing(tmp_path: Path) -> None:
    recipe = "target: llama.cpp, extends: [llama.cpp/q4_k_m]"
    vectors = model({}, {"blk.0.attn_q.weight.lora_a": (256, 8)})
    plan = plan_of(tmp_path, recipe, stated(vectors, 1))
    assert "most because of this: its name does not end" in only(plan, "no-effect").text
    assert plan.file_type == 1
    adapter = replace(vectors, metadata=(*vectors.metadata, make_field("general.type", "adapter", ValueType.STRING)))
    assert "it is an adapter" in only(plan_of(tmp_path, recipe, adapter), "no-effect").text
    empty = plan_of(tmp_path, recipe, model({}, {}))
    assert "only metadata" in only(empty, "no-effect").text
    assert empty.file_type is None
    done = plan_of(tmp_path, "target: llama.cpp, default: q8_0", model(dict.fromkeys(SHAPES, "Q8_0")))
    assert "have the types asked for already" in only(done, "no-effect").text
    fallen = plan_of(tmp_path, "target: llama.cpp, default: q4_k", model({}, {"blk.0.attn_q.weight": (36, 8)}))
    assert "have the types that they fall back to already" in only(fallen, "no-effect").text
    some = plan_of(tmp_path, recipe, stated(model({}), 1))
    assert some.file_type == 15
    assert not [p for p in some.problems if p.id == "no-effect"]


@pytest.mark.parametrize(
    ("value", "kind", "kept"),
    [
        ((1 << 32) - 1, ValueType.UINT64, (1 << 32) - 1), (1 << 32, ValueType.UINT64, None),
        ((1 << 64) - 1, ValueType.UINT64, None), (-1, ValueType.INT32, None), (1.0, ValueType.FLOAT32, None),
        (True, ValueType.BOOL, None), ("Q4_K", ValueType.STRING, None),
    ],
)  # fmt: skip
def test_a_file_type_that_is_no_id_is_not_carried_over(
    tmp_path: Path, value: Scalar, kind: ValueType, kept: int | None
) -> None:
    made = model({}, {"blk.0.attn_q.weight.lora_a": (256, 8)})
    made = replace(made, metadata=(*made.metadata, make_field("general.file_type", value, kind)))
    assert plan_of(tmp_path, "target: llama.cpp, default: q8_0", made).file_type == kept


def test_plan_lint_and_apply_refuse_alike(tmp_path: Path) -> None:
    data = gguf(
        [text_field("general.architecture", "bitnet-b1.58"), u32_field("bitnet-b1.58.block_count", 1)],
        [tensor("token_embd.weight", (256, 8), 1, 0), tensor("blk.0.attn_q.weight", (256, 8), 36, 4096)],
        bytes(4096 + 512 + 32),
    )
    (tmp_path / "m.gguf").write_bytes(data)
    for command in ("plan", "lint", "apply"):
        done = subprocess.run(
            [sys.executable, "-m", "qxmix", command, "ik_llama.cpp/iq2_bn", "m.gguf"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 3, command
        assert "blk.0.attn_q.weight: the type id 36 (I2_S)" in done.stdout + done.stderr, command
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]
