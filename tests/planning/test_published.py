"""Community recipes come out at the sizes their authors published, from the shapes of the real models."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from qxmix.plan import make_plan
from qxmix.recipe import load_recipe
from tests.planning.models import Model, Shape, facts, header
from tests.planning.zoo import dense

if TYPE_CHECKING:
    from qxmix.plan import Plan

GIB = 1 << 30


def layered(arch: str, n_vocab: int, n_embd: int, parts: dict[str, tuple[range, Shape]]) -> Model:
    """A model whose parts stand in ranges of layers."""
    shapes: dict[str, Shape] = {
        "token_embd.weight": (n_embd, n_vocab),
        "output.weight": (n_embd, n_vocab),
        "output_norm.weight": (n_embd,),
    }
    for part, (layers, shape) in parts.items():
        shapes |= {f"blk.{i}.{part}": shape for i in layers}
    n_layer = 1 + max(layers[-1] for layers, _ in parts.values())
    types = {name: "F32" for name in shapes if "ffn_gate_inp" in name}
    return Model(arch, facts(n_layer, n_embd, 96, 8, expert_count=160), shapes, 8, types)


def glm_4_6() -> Model:
    every, first, rest = range(93), range(3), range(3, 93)
    parts: dict[str, tuple[range, Shape]] = {
        f"{name}.{end}": (every, shape)
        for name, weight, bias in (("attn_q", 12288, 12288), ("attn_k", 1024, 1024), ("attn_v", 1024, 1024))
        for end, shape in (("weight", (5120, weight)), ("bias", (bias,)))
    }
    parts |= {f"{name}.weight": (every, (128,)) for name in ("attn_q_norm", "attn_k_norm")}
    parts |= {f"{name}.weight": (every, (5120,)) for name in ("attn_norm", "post_attention_norm")}
    parts["attn_output.weight"] = (every, (12288, 5120))
    parts |= {f"ffn_{name}.weight": (first, (5120, 12288)) for name in ("gate", "up")}
    parts["ffn_down.weight"] = (first, (12288, 5120))
    parts["exp_probs_b.bias"] = (rest, (160,))
    parts["ffn_gate_inp.weight"] = (rest, (5120, 160))
    for kind, stack in (("exps", (160,)), ("shexp", ())):
        parts |= {f"ffn_{name}_{kind}.weight": (rest, (5120, 1536, *stack)) for name in ("gate", "up")}
        parts[f"ffn_down_{kind}.weight"] = (rest, (1536, 5120, *stack))
    last = range(92, 93)
    parts["nextn.eh_proj.weight"] = (last, (10240, 5120))
    parts |= {f"nextn.{name}.weight": (last, (5120,)) for name in ("enorm", "hnorm", "shared_head_norm")}
    return layered("glm4moe", 151552, 5120, parts)


def deepseek_v3() -> Model:
    every, first, rest = range(61), range(3), range(3, 61)
    parts: dict[str, tuple[range, Shape]] = {
        "attn_k_b.weight": (every, (128, 512, 128)),
        "attn_kv_a_mqa.weight": (every, (7168, 576)),
        "attn_kv_a_norm.weight": (every, (512,)),
        "attn_norm.weight": (every, (7168,)),
        "attn_output.weight": (every, (16384, 7168)),
        "attn_q_a.weight": (every, (7168, 1536)),
        "attn_q_a_norm.weight": (every, (1536,)),
        "attn_q_b.weight": (every, (1536, 24576)),
        "attn_v_b.weight": (every, (512, 128, 128)),
        "ffn_norm.weight": (every, (7168,)),
        "ffn_down.weight": (first, (18432, 7168)),
        "ffn_gate.weight": (first, (7168, 18432)),
        "ffn_up.weight": (first, (7168, 18432)),
        "exp_probs_b.bias": (rest, (256,)),
        "ffn_gate_inp.weight": (rest, (7168, 256)),
    }
    for kind, stack in (("exps", (256,)), ("shexp", ())):
        parts |= {f"ffn_{name}_{kind}.weight": (rest, (7168, 2048, *stack)) for name in ("gate", "up")}
        parts[f"ffn_down_{kind}.weight"] = (rest, (2048, 7168, *stack))
    return layered("deepseek2", 129280, 7168, parts)


def qwen3_14b() -> Model:
    model = dense("qwen3", 40, 5120, 17408, 40, 8, head=128, qk_norm=True, n_vocab=151936)
    return replace(model, n_vocab=8)


def plan_of(recipe: str, model: Model) -> Plan:
    return make_plan(load_recipe(recipe), header(model))


@pytest.mark.parametrize(
    ("recipe", "model", "gib", "bpw"),
    [
        ("ubergarm/glm-4.6-iq3_ks", glm_4_6(), 148.390, 3.573),
        ("ubergarm/qwen3-14b-iq4_ks", qwen3_14b(), 8.454, 4.917),
        ("deepseek/bands-q5_q4_q3_r4", deepseek_v3(), 352.822, 4.517),
    ],
    ids=["glm-4.6", "qwen3-14b", "deepseek-v3"],
)
def test_published_sizes(recipe: str, model: Model, gib: float, bpw: float) -> None:
    plan = plan_of(recipe, model)
    assert round(plan.data_nbytes / GIB, 3) == gib
    assert round(plan.bpw, 3) == bpw
    assert not [p for p in plan.problems if p.severity != "note"]


def test_deepseek_at_four_and_a_half_bits() -> None:
    plan = plan_of("deepseek/iq4_k_r4", deepseek_v3())
    assert {t.type for t in plan.tensors if "attn_k_b" in t.name} == {"Q5_0"}
    assert {t.type for t in plan.tensors if "attn_output" in t.name} == {"Q5_K"}
    assert {t.type for t in plan.tensors if t.name in ("token_embd.weight", "output.weight")} == {"IQ4_K", "Q6_K"}
    assert not [p for p in plan.problems if p.severity != "note"]


@pytest.mark.parametrize(
    ("name", "base"),
    [("q2_k_l", "q2_k"), ("q3_k_xl", "q3_k_l"), ("q4_k_l", "q4_k_m"), ("q5_k_l", "q5_k_m"), ("q6_k_l", "q6_k")],
)
def test_large_variants_change_embeddings_and_output_only(name: str, base: str) -> None:
    large, plain = plan_of(f"bartowski/{name}", qwen3_14b()), plan_of(f"llama.cpp/{base}", qwen3_14b())
    changed = {a.name: a.type for a, b in zip(large.tensors, plain.tensors, strict=True) if a.type != b.type}
    assert changed == {"token_embd.weight": "Q8_0", "output.weight": "Q8_0"}
    assert not [p for p in large.problems if p.severity != "note"]
