"""Which importance weights a tensor, and whether one is required."""

from __future__ import annotations

from collections.abc import Collection

from qxmix.container.imatrix import Imatrix, find_importance
from qxmix.container.model import TensorInfo
from qxmix.container.source import show
from qxmix.errors import Problem, Severity
from qxmix.importance.coverage import all_unseen
from qxmix.planning.model import Plan
from qxmix.quants import Engine, QuantType
from qxmix.recipe.model import Recipe

_EXEMPT = frozenset({"token_embd.weight", "per_layer_token_embd.weight", "output.weight"})
"""They see tokens, or are not collected; no engine asks for theirs."""


def find_entry(
    tensor: TensorInfo, imatrix: Imatrix | None, engines: tuple[Engine, ...]
) -> tuple[str | None, Problem | None]:
    """The imatrix entry that weights a tensor, or None, and what is remarkable about it.

    ik_llama.cpp lets another tensor of the same input stand in, llama.cpp does not.
    """
    if imatrix is None:
        return None, None
    found = find_importance(imatrix, tensor, alternates="ik_llama.cpp" in engines)
    return found.entry, found.problem


def has_importance(tensor: TensorInfo, imatrix: Imatrix | None, engines: tuple[Engine, ...]) -> bool:
    """Whether the importance matrix has something for the tensor: an entry, and at least one of its matrices saw text.

    False where no matrix is given.
    """
    entry, _ = find_entry(tensor, imatrix, engines)
    return imatrix is not None and entry is not None and not all_unseen(imatrix, entry)


def is_exempt(tensor: TensorInfo) -> bool:
    """Whether a tensor is never asked for an importance."""
    return tensor.name in _EXEMPT


def missing_is(tensor: TensorInfo, quant_type: QuantType, recipe: Recipe) -> tuple[Severity | None, str]:
    """How bad it is that a tensor of this type has no importance, and who says so; None where it needs none."""
    name = quant_type.name
    if quant_type.importance == "required":
        return "error", f"{name} cannot be encoded without"
    if is_exempt(tensor) or quant_type.importance == "ignored":
        return None, ""
    if recipe.imatrix.missing == "error":
        return "error", "the recipe says 'imatrix: {missing: error}'"
    if recipe.imatrix.missing is None:
        if name in recipe.imatrix.require:
            return "error", f"the recipe requires it for {name}"
        refusing = next((e for e in recipe.engines if e in quant_type.demanded_by), None)
        if refusing:
            return "error", f"{refusing} refuses {name} without; 'imatrix: {{missing: warn}}' allows it"
    return "warning", ""


def of_no_tensor(plan: Plan, entries: Collection[str]) -> str:
    """How many entries of an importance matrix, or of moments, no tensor of the model has use for; empty: none."""
    names = {t.name for t in plan.tensors}
    # A tied model has no output of its own, and what was measured with it has an entry.
    alien = [name for name in entries if name not in names and name != "output.weight"]
    if not alien:
        return ""
    of = f"{len(alien):,} of its {len(entries):,} entries"
    return f"has {of} for tensors that this model does not have, like {show(alien[0])}"
