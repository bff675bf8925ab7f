"""No key of the language does nothing: each, set, changes what comes of a recipe."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qxmix.container.imatrix import Imatrix
from qxmix.errors import RecipeError
from qxmix.lint import examined
from qxmix.plan import Plan, make_plan
from qxmix.planning.metadata import changes
from qxmix.recipe import load_recipe
from qxmix.recipe.schema import recipe_schema
from qxmix.report.plan_markdown import plan_markdown
from tests.planning.models import Model, Shape, facts, header

SHAPES: dict[str, Shape] = {
    "token_embd.weight": (256, 64),
    **{
        f"blk.{i}.{part}.weight": shape
        for i in range(6)
        for part, shape in {
            "attn_q": (256, 64), "attn_norm": (256,), "ffn_up": (256, 64), "ffn_gate": (288, 64),
            "ffn_down_exps": (288, 32, 3), "ffn_gate_inp": (256, 4),
        }.items()
    },
}  # fmt: skip
MODEL = Model("llama", facts(6, 256, 8, 2, expert_count=3), SHAPES, types={"blk.5.attn_q.weight": "Q8_0"})
NAMES = ["blk.0.attn_q.weight", "blk.0.ffn_up.weight"]
IMATRIX = Imatrix(Path("i.dat"), "0" * 64, {n: np.ones(256, np.float32) for n in NAMES}, (), 0)
HEAD = "qxmix: 1\nname: r\n"
BASE = HEAD + "target: llama.cpp\ndefault: q4_0\nallow_requantize: true\n"


def rule(more: str, match: str = "attn_q", type_: str = "q6_k") -> str:
    return f"{BASE}rules: [{{match: {match}, type: {type_}, {more}}}]\n"


def limits(text: str) -> str:
    return f"limits: {{{text}}}\n"


PLAIN = f"{BASE}rules: [{{match: attn_q, type: q6_k}}]\n"
# The key, a recipe with it, and the same without it or with another value.
PAIRS: dict[str, tuple[str, str]] = {
    "qxmix": (BASE, BASE.replace("qxmix: 1\n", "")),
    "name": (BASE, BASE.replace("name: r", "name: other")),
    "description": (BASE + "description: For small machines.\n", BASE),
    "target": (BASE, BASE.replace("llama.cpp", "ik_llama.cpp").replace("q4_0", "iq4_k")),
    "extends": (BASE + "extends: [llama.cpp/q4_k_m]\n", BASE),
    "default": (BASE, BASE.replace("q4_0", "q5_0")),
    "pure": (BASE + "extends: [llama.cpp/q4_k_m]\npure: true\n", BASE + "extends: [llama.cpp/q4_k_m]\n"),
    "layers": (BASE + "layers: {edge: 0}\nrules: [{match: q, layers: edge, type: q6_k}]\n",
               BASE + "layers: {edge: 1}\nrules: [{match: q, layers: edge, type: q6_k}]\n"),
    "conditions": (BASE + "conditions: {c: {n_layer: 6}}\nrules: [{match: q, when: c, type: q6_k}]\n",
                   BASE + "conditions: {c: {n_layer: 7}}\nrules: [{match: q, when: c, type: q6_k}]\n"),
    "rules": (PLAIN, BASE),
    "fallback": (BASE.replace("q4_0", "q4_k") + "fallback: [q8_0]\n", BASE.replace("q4_0", "q4_k")),
    "imatrix.missing": (BASE + "imatrix: {missing: error}\n", BASE),
    "imatrix.require": (BASE + "imatrix: {require: [q4_0]}\n", BASE),
    "keep": (BASE + "keep: [attn_q]\n", BASE),
    "allow_requantize": (BASE, BASE.replace("true", "false")),
    "search": (BASE + "search: exhaustive\n", BASE),
    "symmetric": (BASE + "symmetric: true\n", BASE),
    "scale": (BASE.replace("q4_0", "iq3_s") + "scale: {iq3_s: 1.0}\n", BASE.replace("q4_0", "iq3_s")),
    "ordinals.order": (
        BASE + "ordinals: {order: file}\nrules: [{match: '_q|up', layers: {pick: 1, by: ordinal}, type: q6_k}]\n",
        BASE + "rules: [{match: '_q|up', layers: {pick: 11, by: ordinal}, type: q6_k}]\n"),
    "ordinals.overridden": (
        BASE + "extends: [p.yaml]\nordinals: {overridden: count}\nrules: [{match: 'blk.0.attn_q', type: q8_0}]\n",
        BASE + "extends: [p.yaml]\nrules: [{match: 'blk.0.attn_q', type: q8_0}]\n"),
    "file_type": (BASE + "file_type: 15\n", BASE),
    "limits.max_bpw": (BASE + "limits: {max_bpw: 2}\n", BASE),
    "limits.max_size": (BASE + "limits: {max_size: 1k}\n", BASE),
    "limits.max_vram": (BASE + limits("max_vram: 1MiB, ctx: 512"), BASE + limits("max_vram: 1GiB, ctx: 512")),
    "limits.max_ram": (BASE + limits("max_ram: 1MiB, ctx: 512"), BASE + limits("max_ram: 1GiB, ctx: 512")),
    "limits.ctx": (BASE + limits("max_ram: 32MiB, ctx: 100000"), BASE + limits("max_ram: 32MiB, ctx: 512")),
    "limits.kv_type": (BASE + limits("max_ram: 200MiB, ctx: 100000, kv_type: q4_0"),
                       BASE + limits("max_ram: 200MiB, ctx: 100000")),
    "limits.parallel": (BASE + limits("max_ram: 32MiB, ctx: 512, parallel: 200"),
                        BASE + limits("max_ram: 32MiB, ctx: 512")),
    "metadata.set": (BASE + "metadata: {set: {general.license: mit}}\n", BASE),
    "metadata.rename": (BASE + "metadata: {rename: {llama.rope.freq_base: x}}\n", BASE),
    "metadata.remove": (BASE + "metadata: {remove: [general.url]}\n", BASE),
    "silence": (BASE.replace("q4_0", "q4_k") + "silence: {fallback: it is meant}\n", BASE.replace("q4_0", "q4_k")),
    "rule.match": (PLAIN, BASE + "rules: [{match: ffn_up, type: q6_k}]\n"),
    "rule.category": (BASE + "rules: [{category: attn_q, type: q6_k}]\n", BASE + "rules: [{type: q6_k}]\n"),
    "rule.layers": (rule("layers: 2"), PLAIN),
    "rule.when": (rule("when: {n_layer: 7}"), PLAIN),
    "rule.type": (PLAIN, rule("comment: x", type_="q5_k")),
    "rule.adjust": (rule("adjust: [{type: q8_0}]"), PLAIN),
    "rule.fallback": (rule("fallback: [q8_0]", "ffn_gate", "q4_k"), rule("comment: x", "ffn_gate", "q4_k")),
    "rule.search": (rule("search: exhaustive"), PLAIN),
    "rule.symmetric": (rule("symmetric: true", type_="q4_0"), rule("comment: x", type_="q4_0")),
    "rule.imatrix": (rule("imatrix: false", type_="q4_0"), rule("comment: x", type_="q4_0")),
    "rule.scale": (rule("scale: auto", type_="iq3_s"), rule("comment: x", type_="iq3_s")),
    "rule.force": (rule("force: true", "ffn_gate_inp"), rule("comment: x", "ffn_gate_inp")),
    "rule.tie": (rule("tie: true", "'ffn_(up|gate)'", "q4_k"), rule("comment: x", "'ffn_(up|gate)'", "q4_k")),
    "rule.expect": (rule("expect: 5"), PLAIN),
    "rule.silence": (rule("silence: {rule-unmatched: for others}", "nothing"), rule("comment: x", "nothing")),
    "adjust.layers": (rule("adjust: [{layers: 1, type: q8_0}]"), rule("adjust: [{type: q8_0}]")),
    "adjust.when": (rule("adjust: [{when: {n_cols: 7}, type: q8_0}]"), rule("adjust: [{type: q8_0}]")),
    "adjust.type": (rule("adjust: [{type: q8_0}]"), rule("adjust: [{type: q5_k}]")),
    **{f"facts.{fact}": (rule(f"when: {{{fact}: {no}}}"), PLAIN) for fact, no in {
        "n_layer": 7, "n_head": 9, "n_head_kv": 3, "n_gqa": 5, "n_expert": 9, "n_vocab": 9, "n_embd": 9, "n_cols": 9,
        "n_rows": 9, "n_matrices": 9, "n_dims": 9, "n_weights": 9, "tied": "false", "has_imatrix": "false",
        "has_importance": "false", "arch": "falcon", "type": "q8_0", "source_type": "f32",
    }.items()},
}  # fmt: skip
WORDS = {"rule.comment", "adjust.comment"}
"""For people."""
ELSEWHERE = {"imatrix.prior", "feedback", "rule.feedback"}
"""These need experts that are counted, and moments: they are tested with what gives them."""


def keys() -> set[str]:
    schema: dict[str, Any] = recipe_schema()
    found: set[str] = set()
    for key, value in schema["properties"].items():
        inner = value.get("properties")
        found |= {f"{key}.{name}" for name in inner} if inner else {key}
    for part in ("rule", "adjust", "facts"):
        found |= {f"{part}.{name}" for name in schema["$defs"][part]["properties"]}
    return found


def test_no_key_is_left_out() -> None:
    assert {*PAIRS, *WORDS, *ELSEWHERE} == keys()


def outcome(text: str, tmp_path: Path) -> object:
    """Everything that a recipe decides and says, but for where it stands in its file."""
    parent = "rules: [{match: '_q', layers: {pick: 1, by: ordinal}, type: q5_k}]\n"
    (tmp_path / "p.yaml").write_text(BASE.replace("name: r\n", "") + parent)
    path = tmp_path / "r.yaml"
    path.write_text(text)
    try:
        plan: Plan = examined(make_plan(load_recipe(path), header(MODEL), IMATRIX))
    except RecipeError as error:
        return str(error)
    decided = [
        (t.name, t.type, t.requested, t.action, t.importance, t.search, t.symmetric, t.scale) for t in plan.tensors
    ]
    shown = plan_markdown(plan).replace(plan.recipe.sha256, "")
    problems = sorted((p.severity, p.id) for p in plan.problems)
    metadata = changes(plan.recipe, plan.header)
    return decided, problems, plan.file_type, metadata, hashlib.sha256(shown.encode()).hexdigest()


@pytest.mark.parametrize("key", PAIRS)
def test_a_key_changes_something(key: str, tmp_path: Path) -> None:
    with_it, without = PAIRS[key]
    assert outcome(with_it, tmp_path) == outcome(with_it, tmp_path)
    assert outcome(with_it, tmp_path) != outcome(without, tmp_path)
