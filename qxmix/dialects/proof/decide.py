"""What a source makes of a model: the matching rules of each dialect, step by step as its engine does them.

Written apart from the translation to a recipe, so that the two can be held against each other.  Sources: llama.cpp's
``llama_tensor_get_type`` (August 2026) and the main loop of ik_llama.cpp's ``llama-quantize.cpp`` (8337e4cd).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import regex

from qxmix.container.imatrix import Imatrix
from qxmix.container.model import ModelHeader, TensorInfo
from qxmix.dialects.proof.mixes import default_type
from qxmix.errors import Place, RecipeError
from qxmix.plan import make_plan
from qxmix.planning.facts import model_facts
from qxmix.planning.fallback import Types, effective_type
from qxmix.planning.gate import never_quantized
from qxmix.quants import get
from qxmix.recipe import load_recipe
from qxmix.recipe.conditions import FactValue
from qxmix.recipe.model import Fallback, Recipe
from qxmix.recipe.patterns import search

if TYPE_CHECKING:
    from qxmix.dialects.proof.arguments import Reading

    Facts = Mapping[str, FactValue]

EMPTY_IMATRIX = Imatrix(Path("imatrix"), "", {}, (), 0)
"""There is an importance matrix, whatever is in it: all that a mix asks."""

_EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")
_FLOATS = frozenset({"F32", "F16", "BF16"})
_BRANCHES = (
    ("--attn-v-type", "attn_v.weight"), ("--attn-k-type", "attn_k"), ("--attn-q-type", "attn_q"),
    ("--ffn-down-type", "ffn_down"), ("--attn-output-type", "attn_output.weight"), ("--ffn-gate-type", "ffn_gate"),
    ("--ffn-up-type", "ffn_up"),
)  # fmt: skip
"""Flags that ik_llama.cpp asks inside of its mixes, and the parts of names whose branch asks them, in its order."""
_ATTN_OUTPUT_ALONE = frozenset({
    "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ2_KS", "IQ2_XXS_R4", "IQ2_XS_R4", "IQ2_M_R4",
})  # fmt: skip
"""Mixes of ik_llama.cpp whose rules ask --attn-output-type and no other."""
_FFN_DOWN_ALONE = frozenset({"IQ1_S_R4", "IQ1_M_R4", "IQ2_KT"})
_EXPERTS_APART = 8
"""From as many experts on, the last of them take the first layer's feed-forward part out."""


def source_types(reading: Reading, header: ModelHeader) -> dict[str, str]:
    """Upper-case type of every tensor as the source's engine decides it.

    Raises:
        RecipeError: no recipe for the source's mix is shipped.

    """
    facts = model_facts(header, has_imatrix=reading.has_imatrix)
    taken = {t.name: rule for t in header.tensors if (rule := _rule_of(reading, t.name)) is not None}
    base = _base_types(reading, header, taken)
    decide = _ik if reading.engine == "ik_llama.cpp" else _ml
    types = {}
    for tensor in header.tensors:
        name = tensor.name
        left = name == "output.weight" and "--leave-output-tensor" in reading.switches
        kept = left or never_quantized(tensor, (reading.engine,), header.architecture) is not None
        if kept and "ffn_gate_inp.weight" in name and "--ffn-gate-inp-type" in reading.flags and len(tensor.shape) > 1:
            types[name] = reading.flags["--ffn-gate-inp-type"]
        elif kept or reading.base == "COPY":
            types[name] = tensor.type
        elif reading.base is None:
            types[name] = _fallen(reading, tensor, rule) if (rule := taken.get(name)) else tensor.type
        else:
            types[name] = decide(reading, tensor, taken.get(name), base.get(name, tensor.type), facts)
    return types


def _rule_of(reading: Reading, name: str) -> str | None:
    """The type of the first rule whose pattern is found in the name."""
    return next((kind for pattern, kind in reading.rules if search(pattern, name, reading.origin)), None)


def _base_types(reading: Reading, header: ModelHeader, taken: Collection[str]) -> dict[str, str]:
    """What the mix asks for each tensor, before any fallback; llama.cpp does not count tensors that a rule takes."""
    mix = reading.base
    if mix is None or mix == "COPY":
        return {}
    plain = default_type(mix)
    if "--pure" in reading.switches or plain in _FLOATS:
        return dict.fromkeys((t.name for t in header.tensors), plain)
    try:
        recipe = _shipped(f"{reading.engine}/{mix.lower()}")
    except RecipeError:
        text = f"the mix {mix} of {reading.engine} is none of the recipes that come with qxmix"
        raise RecipeError.at(reading.origin, text) from None
    if reading.engine == "llama.cpp" and taken:
        places = {**recipe.places, "keep": Place(reading.origin)}
        recipe = replace(recipe, keep=(f"^(?:{'|'.join(map(regex.escape, taken))})$",), places=places)
    plan = make_plan(recipe, header, EMPTY_IMATRIX if reading.has_imatrix else None)
    return {t.name: t.requested for t in plan.tensors}


@cache
def _shipped(name: str) -> Recipe:
    return load_recipe(name)


def _ml(reading: Reading, tensor: TensorInfo, ruled: str | None, base: str, facts: Facts) -> str:
    name, flags = tensor.name, reading.flags
    per_layer_ruled = name == _EMBEDDINGS[1] and ruled is not None
    if "--token-embedding-type" in flags and name in _EMBEDDINGS and not per_layer_ruled:
        return flags["--token-embedding-type"]
    output = flags.get("--output-tensor-type")
    if output and name == "output.weight":
        return output
    if default_type(reading.base or "F16") in _FLOATS:
        return base
    if ruled is None and "--pure" not in reading.switches and facts["tied"] and name in _EMBEDDINGS and output:
        base = output
    return _fallen(reading, tensor, ruled or base)


def _ik(reading: Reading, tensor: TensorInfo, ruled: str | None, base: str, facts: Facts) -> str:
    name, chosen, flags = tensor.name, base, reading.flags
    if default_type(reading.base or "F16") not in _FLOATS:
        if "--pure" not in reading.switches:
            if facts["tied"] and name == _EMBEDDINGS[0] and "--output-tensor-type" in flags:
                chosen = flags["--output-tensor-type"]
            chosen = ruled or _flagged(reading, name, facts["n_expert"]) or chosen
        chosen = _fallen(reading, tensor, chosen)
    after = {
        _EMBEDDINGS[0]: "--token-embedding-type", _EMBEDDINGS[1]: "--per-layer-token-embedding-type",
        "output.weight": "--output-tensor-type",
    }  # fmt: skip
    if (flag := after.get(name, "")) in flags:
        chosen = flags[flag]
        # No fallback here; only interleaving is taken back.
        if get(chosen).base and (name in _EMBEDDINGS or tensor.n_rows % get(chosen).row_group):
            chosen = get(chosen).base
    return chosen


def _flagged(reading: Reading, name: str, n_expert: FactValue) -> str | None:
    """The type that a flag inside of the mix gives, the first branch that the name takes."""
    if name in (*_EMBEDDINGS, "output.weight"):
        return None
    base = reading.base or ""
    many = isinstance(n_expert, int) and n_expert >= _EXPERTS_APART
    if base in _FFN_DOWN_ALONE and ("_shexp.weight" in name or (many and "blk.0.ffn_down" in name)):
        return None
    flag = next((flag for flag, part in _BRANCHES if part in name), "")
    if base in _FFN_DOWN_ALONE and flag != "--ffn-down-type":
        return None
    if base in _ATTN_OUTPUT_ALONE and flag != "--attn-output-type":
        return None
    return reading.flags.get(flag)


def _fallen(reading: Reading, tensor: TensorInfo, chosen: str) -> str:
    return effective_type(
        tensor, get(chosen), (Fallback(),), reading.engine, (reading.engine,), Types()
    ).quant_type.name
