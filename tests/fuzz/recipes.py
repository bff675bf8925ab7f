"""Right recipes made at random from every key of the language, mutations of them, and what must hold for them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from qxmix.container.fields import make_field
from qxmix.container.gguf_format import ValueType
from qxmix.container.model import ModelHeader, TensorInfo
from qxmix.errors import QxmixError
from qxmix.plan import make_plan
from qxmix.quants import get
from qxmix.recipe.load import load_recipe
from tests.fuzz.checks import check_error
from tests.fuzz.mutate import mutate_bytes, mutate_text

if TYPE_CHECKING:
    from random import Random

_TYPES = ["q4_0", "Q4_K", "q6_k", "q8_0", "f16", "iq4_nl", "IQ2_XXS", "iq4_k", "q4_k_r4", "iq3_s", "q5_0"]
_CATEGORIES = ["output", "token_embd", "attn_v", "attn_k", "ffn_down", "ffn_up", "other", "attn_qkv"]
_LAYERS = ["{pick: first(2), by: layer, of: layers}", "{pick: '0-1', of: [ffn_down]}", "{pick: more_bits, by: ordinal}"]
_LAYERS += [
    "0",
    "'0-3, 7'",
    "first(3)",
    "'first(1/8), last(1)'",
    "every(3, 1)",
    "more_bits",
    "'!first(1/8)'",
    "[0, last(2)]",
]
_LAYERS += [
    "edge",
    "{pick: more_bits, by: ordinal}",
    "{pick: first(2), by: layer, of: layers}",
    "{pick: '0-1', of: [ffn_down]}",
]
_WHEN = ["{n_expert: '>1'}", "moe", "{n_gqa: [1, '>=4, <64'], tied: true}", "[{arch: llama}, {n_cols: '%256'}]"]
_WHEN += ["{arch: ['!falcon', qwen2], has_imatrix: false}", "{type: [q3_k, q4_k]}", "{source_type: f16}", "{n_dims: 2}"]
_FALLBACK = ["error", "llama.cpp", "ik_llama.cpp", "[q5_0, f16]", "{policy: error, q4_k: [q5_0, q8_0]}", "{q6_k: q8_0}"]
_PATTERNS = [r"'attn_[kv]\.weight$'", r"'^output\.weight$'", "ffn_down", r"'blk\.(\d+)\.'", "'_exps'", "'(?i)FFN'"]
_SEARCHES = ["gradient", "heuristic", "exhaustive"]
_TOP = {
    "name": ["x", "'a name'"], "description": ["text", "|\n  two\n  lines"],
    "target": ["llama.cpp", "ik_llama.cpp", "any"],
    "default": [*_TYPES, "keep"], "pure": ["true", "false"], "extends": ["pure/q4_0", "[pure/q8_0]", "pure/nothing"],
    "layers": ["{edge: 'first(3), last(1)'}", "{edge: [0, 1]}"], "conditions": ["{moe: {n_expert: '>1'}}"],
    "fallback": _FALLBACK, "imatrix": ["{missing: error}", "{missing: warn, require: [q2_k]}"],
    "keep": [r"['^v\.']", "[attn_k]"], "allow_requantize": ["true"], "search": _SEARCHES,
    "ordinals": ["{order: file, overridden: count}", "{order: name, overridden: skip}"], "file_type": ["15", "null"],
    "limits": ["{max_bpw: 4.6, max_size: 350GiB}", "{max_size: 1000}"], "silence": ["{rule-unmatched: why}"],
}  # fmt: skip
_RULE = {
    "match": _PATTERNS, "category": [*_CATEGORIES, "[output, token_embd]"], "layers": _LAYERS, "when": _WHEN,
    "adjust": ["[{type: q8_0, layers: more_bits}]", "[{type: default, when: moe}, {type: q6_k}]"],
    "fallback": _FALLBACK,
    "search": _SEARCHES, "force": ["true"], "tie": ["true"], "expect": ["3", "{min: 1}", "{min: 0, max: 9}"],
    "comment": ["why", "'#'"],
}  # fmt: skip


_WRONG_TEXT = r"""
{} ; [] ; [[[]]] ; '' ; {a: {b: {c: 1}}} ; '(' ; '(a+)+$' ; '(?:(?:a|a)*)*b' ; '[[:alpha:]' ; '(?<=a+)b' ;
'first(1/0)' ; 'every(0)' ; 'every(3, 99)' ; 'range(9/8, 1/8)' ; '9-1' ; '!' ; 'first(-1)' ; '0-999999999' ;
'%0' ; '!%0' ; '>=99999999999999999999' ; '<' ; '%%' ; -1 ; 0 ; 1.5 ; 1e400 ; .inf ; 18446744073709551616 ;
'0B' ; '999999999999999TiB' ; 'x' ; UNKNOWN_5 ; i8 ; q8_k_r16 ; f64 ; [keep] ; [q4_0, q4_0] ; .. ; / ;
recipe.yaml ; 'first(3),' ; {policy: error} ; {q4_k: [q4_k]} ; {min: 5, max: 2} ; moe ; 2020-01-01 ; 0o17
"""
_WRONG = [value.strip() for value in _WRONG_TEXT.split(";")]


def mutated_recipe(rng: Random) -> bytes:
    """Half of them with wrong values in the right places, half with wrong text."""
    text = recipe_text(rng, wrong=0.1 if rng.random() < 0.5 else 0)
    if rng.random() < 0.5:
        text = mutate_text(text, rng)
    data = text.encode("utf-8", "replace")
    return mutate_bytes(data, rng) if rng.random() < 0.05 else data


def recipe_text(rng: Random, wrong: float) -> str:
    """A recipe, right by itself and often with all keys that the others need; a part ``wrong`` of its values is not."""

    def pick(values: list[str]) -> str:
        return rng.choice(_WRONG if rng.random() < wrong else values)

    lines = ["qxmix: 1"]
    for key, values in _TOP.items():
        if rng.random() < (0.9 if key in {"target", "default", "layers", "conditions", "name"} else 0.2):
            lines.append(f"{key}: {pick(values)}")
    rules = []
    for _ in range(rng.randrange(4)):
        parts = {k: pick(v) for k, v in _RULE.items() if rng.random() < 0.25}
        parts["type"] = pick([*_TYPES, "default", "keep"])
        if rng.random() < 0.5:
            rules.append("  - {" + ", ".join(f"{k}: {v}" for k, v in parts.items()) + "}")
        else:
            rules += [f"  {'-' if i == 0 else ' '} {k}: {v}" for i, (k, v) in enumerate(parts.items())]
    return "\n".join([*lines, *(["rules:", *rules] if rules else [])]) + "\n"


def fuzz_recipe(data: bytes, folder: Path) -> str:
    """As a recipe, and if it is one, plan two models with it."""
    path = folder / "recipe.yaml"
    path.write_bytes(data)
    try:
        recipe = load_recipe(path)
        for header in model_headers():
            plan = make_plan(recipe, header)
            assert len(plan.tensors) == len(header.tensors)
            assert sum(f.nbytes for f in plan.files) == plan.file_nbytes
            for tensor, after in zip(plan.tensors, plan.tensors[1:], strict=False):
                assert tensor.offset + tensor.nbytes <= after.offset
            if any(p.severity == "error" for p in plan.problems):
                continue
            for planned in plan.tensors:
                assert planned.nbytes == get(planned.type).nbytes(planned.source.shape)
    except QxmixError as error:
        return check_error(error)
    return ""


@cache
def model_headers() -> tuple[ModelHeader, ...]:
    """A dense and a mixture-of-experts model of three layers, rows of 256 and of 288 weights."""
    return model_header(0), model_header(4)


def model_header(n_expert: int) -> ModelHeader:
    shapes = {"token_embd.weight": (256, 512), "output_norm.weight": (256,)}
    experts = (n_expert,) if n_expert else ()
    suffix = "_exps" if n_expert else ""
    for i in range(3):
        shapes |= {f"blk.{i}.attn_{c}.weight": (256, 256) for c in ("q", "k", "v", "output")}
        shapes |= {f"blk.{i}.attn_norm.weight": (256,), f"blk.{i}.ffn_gate_inp.weight": (256, 8)}
        shapes |= {f"blk.{i}.ffn_{c}{suffix}.weight": (256, 288, *experts) for c in ("gate", "up")}
        shapes[f"blk.{i}.ffn_down{suffix}.weight"] = (288, 256, *experts)
    tensors, offset = [], 0
    for name, shape in shapes.items():
        quant_type = get("F32" if len(shape) == 1 else "F16")
        nbytes = quant_type.nbytes(shape)
        tensors.append(TensorInfo(name, shape, quant_type.id, 0, offset, nbytes))
        offset += nbytes
    facts = {"block_count": 3, "attention.head_count": 8, "attention.head_count_kv": 2, "expert_count": n_expert}
    metadata = [make_field("general.architecture", "llama", ValueType.STRING)]
    metadata += [make_field(f"llama.{k}", v, ValueType.UINT32) for k, v in facts.items()]
    return ModelHeader((Path("m.gguf"),), (offset,), 32, tuple(metadata), tuple(tensors))
