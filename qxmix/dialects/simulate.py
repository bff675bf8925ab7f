"""What a source makes of a model: the matching rules of each dialect, step by step as its engine does them.

Written apart from the translation to a recipe, so that the two can be held against each other.  Sources: llama.cpp's
``llama_tensor_get_type`` (August 2026) and the main loop of ik_llama.cpp's ``llama-quantize.cpp`` (8337e4cd).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import regex

from qxmix.container.imatrix import Imatrix
from qxmix.dialects.mixes import FLOATS, default_type, shipped_recipe
from qxmix.dialects.model import MIX_FLAGS
from qxmix.errors import Problem, RecipeError
from qxmix.plan import make_plan
from qxmix.planning.facts import model_facts
from qxmix.planning.fallback import effective_type
from qxmix.planning.gate import never_quantized
from qxmix.quants import get
from qxmix.recipe import load_recipe
from qxmix.recipe.model import Fallback
from qxmix.recipe.patterns import search

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from qxmix.container.model import ModelHeader, TensorInfo
    from qxmix.dialects.model import SourceMix
    from qxmix.recipe.conditions import FactValue

    Facts = Mapping[str, FactValue]

EMPTY_IMATRIX = Imatrix(Path("imatrix"), "", {}, (), 0)
"""There is an importance matrix, whatever is in it: all that a mix asks."""

_EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")
_NO_FLAGS = frozenset({
    "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ2_KS", "IQ2_XXS_R4", "IQ2_XS_R4", "IQ2_M_R4",
})  # fmt: skip
"""Mixes of ik_llama.cpp that ask --attn-output-type alone."""
MANY_EXPERTS = 8
"""From as many on, mixes below 3 bits treat the first layer's feed-forward part apart."""
_DOWN_ONLY = frozenset({"IQ1_S_R4", "IQ1_M_R4", "IQ2_KT"})
"""Mixes of ik_llama.cpp that ask --ffn-down-type alone."""


def mix_flags(base: str) -> tuple[str, ...]:
    """The flags that a mix of ik_llama.cpp asks."""
    if base in _DOWN_ONLY:
        return ("ffn_down",)
    return ("attn_output",) if base in _NO_FLAGS else MIX_FLAGS


def source_types(mix: SourceMix, header: ModelHeader) -> dict[str, str]:
    """Upper-case type of every tensor as the source's engine decides it.

    Raises:
        RecipeError: no recipe for the source's mix is shipped.

    """
    facts = model_facts(header, has_imatrix=mix.has_imatrix)
    taken = {t.name: rule for t in header.tensors if (rule := _rule_of(mix, t.name)) is not None}
    base = _base_types(mix, header, taken)
    decide = _ik if mix.engine == "ik_llama.cpp" else _ml
    types = {}
    for tensor in header.tensors:
        name = tensor.name
        kept = never_quantized(tensor, (mix.engine,), header.architecture)
        if name == "output.weight" and mix.leave_output:
            kept = "left"
        if kept and "ffn_gate_inp.weight" in name and "ffn_gate_inp" in mix.flags and len(tensor.shape) > 1:
            types[name] = mix.flags["ffn_gate_inp"]
        elif kept or mix.base == "COPY":
            types[name] = tensor.type
        else:
            types[name] = decide(mix, tensor, taken.get(name), base.get(name, tensor.type), facts)
    return types


def _rule_of(mix: SourceMix, name: str) -> str | None:
    """The type of the first rule whose pattern is found in the name."""
    return next((r.type for r in mix.rules if search(r.pattern, name, r.where)), None)


def _base_types(mix: SourceMix, header: ModelHeader, taken: Collection[str]) -> dict[str, str]:
    """What the mix asks for each tensor, before any fallback; llama.cpp does not count tensors that a rule takes."""
    if mix.base is None or mix.base == "COPY":
        return {}
    plain = default_type(mix.base)
    if mix.pure or plain in FLOATS:
        return dict.fromkeys((t.name for t in header.tensors), plain)
    name = shipped_recipe(mix.base, mix.engine)
    if name is None:
        text = f"the mix {mix.base} of {mix.engine} is none of the recipes that come with qxmix"
        raise RecipeError(Problem(mix.origin, text))
    recipe = load_recipe(name)
    if mix.engine == "llama.cpp" and taken:
        recipe = replace(recipe, keep=(f"^(?:{'|'.join(map(regex.escape, taken))})$",))
    plan = make_plan(recipe, header, EMPTY_IMATRIX if mix.has_imatrix else None)
    return {t.name: t.requested for t in plan.tensors}


def _ml(mix: SourceMix, tensor: TensorInfo, ruled: str | None, base: str, facts: Facts) -> str:
    name, flags = tensor.name, mix.flags
    per_layer_ruled = name == _EMBEDDINGS[1] and ruled is not None
    if "token_embd" in flags and name in _EMBEDDINGS and not per_layer_ruled:
        return flags["token_embd"]
    if "output" in flags and name == "output.weight":
        return flags["output"]
    if default_type(mix.base or "F16") in FLOATS:
        return base
    if ruled is None and not mix.pure and facts["tied"] and name in _EMBEDDINGS and "output" in flags:
        base = flags["output"]
    return _fallen(mix, tensor, ruled or base)


def _ik(mix: SourceMix, tensor: TensorInfo, ruled: str | None, base: str, facts: Facts) -> str:
    name, flags = tensor.name, mix.flags
    if mix.base is None:
        # Thireus' suite: what no rule names is carried over.
        return _fallen(mix, tensor, ruled) if ruled else tensor.type
    chosen = base
    if default_type(mix.base) not in FLOATS:
        if not mix.pure:
            if facts["tied"] and name == _EMBEDDINGS[0] and "output" in flags:
                chosen = flags["output"]
            chosen = ruled or _flagged(mix, name, facts["n_expert"]) or chosen
        chosen = _fallen(mix, tensor, chosen)
    after = {_EMBEDDINGS[0]: "token_embd", _EMBEDDINGS[1]: "per_layer_token_embd", "output.weight": "output"}
    if (flag := after.get(name)) in flags:
        chosen = flags[flag]  # type: ignore[index]
        # No fallback here; only interleaving is taken back.
        if get(chosen).base and (name in _EMBEDDINGS or tensor.n_rows % get(chosen).row_group):
            chosen = get(chosen).base
    return chosen


def _flagged(mix: SourceMix, name: str, n_expert: FactValue) -> str | None:
    """The type that a flag inside of the mix gives, the first branch that the name takes."""
    if name in (*_EMBEDDINGS, "output.weight"):
        return None
    base = mix.base or ""
    many = isinstance(n_expert, int) and n_expert >= MANY_EXPERTS
    if base in _DOWN_ONLY and ("_shexp.weight" in name or (many and "blk.0.ffn_down" in name)):
        return None
    for flag, part in (
        ("attn_v", "attn_v.weight"), ("attn_k", "attn_k"), ("attn_q", "attn_q"), ("ffn_down", "ffn_down"),
        ("attn_output", "attn_output.weight"), ("ffn_gate", "ffn_gate"), ("ffn_up", "ffn_up"),
    ):  # fmt: skip
        if part in name:
            return mix.flags.get(flag) if flag in mix_flags(base) else None  # type: ignore[call-overload]
    return None


def _fallen(mix: SourceMix, tensor: TensorInfo, chosen: str) -> str:
    return effective_type(tensor, chosen, (Fallback(),), mix.engine, (mix.engine,)).type
