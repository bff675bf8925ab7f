"""Parts and layers of tensor names: one notion for what rules select and for what is shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import gguf
import pytest

from qxmix.plan import make_plan
from qxmix.recipe import load_recipe
from qxmix.recipe.categories import NameParts, name_parts
from qxmix.report.groups import group
from tests.planning.models import Model, Shape, facts, header

if TYPE_CHECKING:
    from pathlib import Path

GGUF_NAMES = sorted({name for name in gguf.TENSOR_NAMES.values() if "{bid}" in name})


@pytest.mark.parametrize("name", GGUF_NAMES)
def test_every_numbered_name_of_gguf_has_a_layer(name: str) -> None:
    for end in (".weight", ".bias"):
        parts = name_parts(name.format(bid=7, xid=3) + end)
        assert parts.layer == 7
        assert parts.stack == name.partition(".{bid}")[0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("blk.3.ffn_up.weight", NameParts("ffn_up", "blk", 3)),
        ("blk.3.ffn_gate.5.weight", NameParts("ffn_gate.5", "blk", 3)),
        ("v.blk.12.attn_q.bias", NameParts("v.attn_q.bias", "v.blk", 12)),
        ("dec.blk.0.cross_attn_k.weight", NameParts("dec.cross_attn_k", "dec.blk", 0)),
        ("mm.2.weight", NameParts("mm", "mm", 2)),
        ("mm.2.bias", NameParts("mm.bias", "mm", 2)),
        ("double_blocks.18.img_mlp.0.weight", NameParts("double_blocks.img_mlp.0", "double_blocks", 18)),
        ("single_blocks.37.linear1.weight", NameParts("single_blocks.linear1", "single_blocks", 37)),
        ("joint_blocks.5.context_block.attn.qkv.weight",
         NameParts("joint_blocks.context_block.attn.qkv", "joint_blocks", 5)),
        ("transformer_blocks.9.attn.to_q.weight", NameParts("transformer_blocks.attn.to_q", "transformer_blocks", 9)),
        ("model.diffusion_model.layers.4.attention.qkv.weight",
         NameParts("model.diffusion_model.layers.attention.qkv", "model.diffusion_model.layers", 4)),
        ("noise_refiner.1.w1.weight", NameParts("noise_refiner.w1", "noise_refiner", 1)),
        ("txt_in.individual_token_refiner.blocks.0.mlp.fc1.weight",
         NameParts("txt_in.individual_token_refiner.blocks.mlp.fc1", "txt_in.individual_token_refiner.blocks", 0)),
        ("input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight",
         NameParts("input_blocks.1.transformer_blocks.0.attn1.to_q", "input_blocks", 4)),
        ("output.weight", NameParts("output")),
        ("token_embd.weight", NameParts("token_embd")),
        ("final_layer.adaLN_modulation.1.weight", NameParts("final_layer.adaLN_modulation.1")),
        ("time_embedding.0.weight", NameParts("time_embedding.0")),
        ("blk.1234567.x.weight", NameParts("blk.1234567.x")),
        ("blk.weight", NameParts("blk")),
    ],
)  # fmt: skip
def test_names(name: str, expected: NameParts) -> None:
    assert name_parts(name) == expected


STACKS = ["blk", "enc.blk", "dec.blk", "v.blk", "a.blk", "double_blocks", "transformer_blocks", "layers"]


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("stated", [True, False])
def test_a_rule_takes_the_layers_that_the_plan_shows(tmp_path: Path, stack: str, *, stated: bool) -> None:
    shapes: dict[str, Shape] = {f"{stack}.{i}.ffn_down.weight": (256, 256) for i in range(8)}
    known = facts(8, 256, 8, 2)
    model = Model("llama", known if stated else {k: v for k, v in known.items() if k != "block_count"}, shapes)
    path = tmp_path / "r.yaml"
    rule = '{category: ffn_down, layers: "first(2), last(1)", type: q6_k}'
    path.write_text(f"{{qxmix: 1, target: llama.cpp, default: q4_k, rules: [{rule}]}}")
    plan = make_plan(load_recipe(path), header(model))
    assert [(g.layers, g.first.type) for g in group(plan)] == [("0-1, 7", "Q6_K"), ("2-6", "Q4_K")]
    path.write_text(path.read_text().replace("first(2), last(1)", "0-1, 7"))
    assert make_plan(load_recipe(path), header(model)).tensors[7].type == "Q6_K"


def test_the_last_layer_is_that_of_each_stack(tmp_path: Path) -> None:
    ends = {"blk": 4, "v.blk": 6, "mm": 2}
    shapes: dict[str, Shape] = {f"{s}.{i}.ffn_up.weight": (256, 256) for s, n in ends.items() for i in range(n)}
    path = tmp_path / "r.yaml"
    path.write_text('{qxmix: 1, target: llama.cpp, default: q4_k, rules: [{match: ., layers: "last(1)", type: q6_k}]}')
    # The model states one layer more than it has, as those with a layer for speculation left out do.
    plan = make_plan(load_recipe(path), header(Model("llama", facts(5, 256, 8, 2), shapes)))
    assert [t.name for t in plan.tensors if t.type == "Q6_K"] == ["v.blk.5.ffn_up.weight", "mm.1.ffn_up.weight"]


def test_tied_tensors_are_those_of_one_stack(tmp_path: Path) -> None:
    shapes: dict[str, Shape] = {"enc.blk.0.ffn_up.weight": (288, 256), "dec.blk.0.ffn_up.weight": (256, 256)}
    path = tmp_path / "r.yaml"
    path.write_text("{qxmix: 1, target: llama.cpp, default: q4_k, rules: [{match: ffn_up, type: q4_k, tie: true}]}")
    plan = make_plan(load_recipe(path), header(Model("t5", facts(1, 256, 8, 2), shapes)))
    assert [t.type for t in plan.tensors] == ["Q5_0", "Q4_K"]


def test_gguf_has_no_stack_that_was_forgotten() -> None:
    assert len(GGUF_NAMES) > 100
    assert not [name for name in gguf.TENSOR_NAMES.values() if re.search(r"\{(?!bid|xid)", name)]
