"""What the engines do with the types of the result, whether they were encoded or were there already.

ik_llama.cpp loads rows that it cannot multiply, and ``llama-quantize`` writes them: its kernels ask for more than whole
blocks.  Found by running them: the engine aborts (a batch of tokens through gate and up, IQ1_BN and IQ2_BN always), or
leaves the result of the product unset.  The conditions stand in ``iqk_set_kernels_kquants``, ``iqk_set_kernels_1bit``
and ``quantize_row_q8_K64_ref`` of ik_llama.cpp.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from qxmix import shells
from qxmix.errors import Place, Problem
from qxmix.planning.draft import Draft, names_of
from qxmix.planning.fallback import misfit
from qxmix.planning.silence import unsilenced
from qxmix.quants import QuantType
from qxmix.quants.table import UNREADABLE
from qxmix.recipe.model import Recipe

_I2_S = 36


def loading_problems(recipe: Recipe, model: Path, drafts: list[Draft]) -> Iterator[Problem]:
    """Tensors that an engine of the target refuses, and those that it loads and cannot multiply.

    Args:
        recipe: The recipe; types that it chooses were compared with its target when it was loaded.
        model: The model's path, for advice.
        drafts: What was decided about each tensor.

    """
    yield from unloadable(recipe, model, drafts)
    yield from _unrunnable(recipe, drafts)


def unloadable(recipe: Recipe, model: Path, drafts: list[Draft]) -> Iterator[Problem]:
    """Tensors that an engine of the target refuses to load."""
    groups: dict[tuple[int, str], list[Draft]] = defaultdict(list)
    for draft in drafts:
        known = draft.quant_type
        missing = next((e for e in recipe.engines if known is None or e not in known.engines), None)
        if missing is not None and not draft.encodes:
            groups[draft.tensor.type_id, missing].append(draft)
    for (_, engine), members in groups.items():
        yield Problem(members[0].tensor.name, _refusal(engine, model, members), id="engine-type")


def _refusal(engine: str, model: Path, members: list[Draft]) -> str:
    whole = "start from the F16 or BF16 model"
    if (known := members[0].quant_type) is not None:
        return (
            f"{known.name} is not a type of {engine}, which could not load the output with {names_of(members)} as they "
            f"are; give them a type instead of keeping them, with 'allow_requantize: true', or {whole}"
        )
    type_id = members[0].tensor.type_id
    name = UNREADABLE.get(type_id)
    if type_id == _I2_S and engine == "ik_llama.cpp":
        convert = f"llama-quantize --allow-requantize {shells.quoted(model.name)} OUT.gguf IQ2_BN"
        whole = f"convert them to IQ2_BN first, as only its own program can: {convert}"
    return (
        f"the type id {type_id}{f' ({name})' if name else ''} can be neither read by qxmix nor run by {engine}, and "
        f"{names_of(members)} would keep it; {whole}"
    )


def _unrunnable(recipe: Recipe, drafts: list[Draft]) -> Iterator[Problem]:
    groups: dict[tuple[int | None, str, str], list[Draft]] = defaultdict(list)
    for draft in unsilenced(recipe, drafts, "engine-rows"):
        if "ik_llama.cpp" in recipe.engines and not draft.error and (why := _why_not_run(draft)):
            groups[draft.rule, draft.type, why].append(draft)
    for (rule, type_name, why), members in groups.items():
        text = f"ik_llama.cpp loads {names_of(members)} as {type_name} and aborts or computes nonsense with it: {why}"
        encodes = any(d.encodes for d in members)
        yield Problem(where(recipe, rule) if encodes else members[0].tensor.name, text, "warning", "engine-rows")


def why_not_run(quant_type: QuantType, n_cols: int) -> str:
    """Why ik_llama.cpp cannot use a tensor of this type with rows of ``n_cols`` weights; empty where it can."""
    if n_cols % quant_type.row_multiple:
        return f"rows of {n_cols} weights are not whole multiples of {quant_type.row_multiple}"
    if n_cols < quant_type.least_row:
        return f"rows of {n_cols} weights are shorter than {quant_type.least_row}"
    return ""


def _why_not_run(draft: Draft) -> str:
    known = draft.quant_type
    if known is None or len(draft.tensor.shape) == 1:
        return ""
    return why_not_run(known, draft.tensor.n_cols) or ("" if draft.encodes else misfit(draft.tensor, known))


def where(recipe: Recipe, rule: int | None) -> Place:
    """The place of the rule that decides, or of the default."""
    return recipe.rules[rule].where if rule is not None else recipe.places["default"]
