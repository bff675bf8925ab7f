"""Tied tensors: those of one layer that a rule decides end with one type."""

from __future__ import annotations

from dataclasses import replace

from qxmix.planning.draft import Draft
from qxmix.planning.fallback import Step, misfit
from qxmix.quants import QuantType
from qxmix.recipe.categories import name_parts
from qxmix.recipe.model import Recipe


def tie(recipe: Recipe, drafts: list[Draft]) -> list[Draft]:
    """Give tied tensors whose types differ the largest of these types that can hold all of them."""
    groups: dict[tuple[int, str, int], list[int]] = {}
    for i, found in enumerate(drafts):
        parts = name_parts(found.tensor.name)
        if found.rule is not None and recipe.rules[found.rule].tie and not found.kept and parts.layer is not None:
            groups.setdefault((found.rule, parts.stack, parts.layer), []).append(i)
    result = list(drafts)
    for members in groups.values():
        types = dict.fromkeys(drafts[i].quant_type for i in members)
        fitting = [t for t in types if t is not None and not any(misfit(drafts[i].tensor, t) for i in members)]
        if len(types) == 1 or not fitting:
            continue
        common = max(fitting, key=lambda t: t.bpw)
        for i in members:
            result[i] = _changed(drafts[i], common)
    return result


def _changed(found: Draft, common: QuantType) -> Draft:
    if found.quant_type == common:
        return found
    step = Step(found.type, common.name, "tied to the other tensors of its layer")
    return replace(found, quant_type=common, steps=(*found.steps, step), error="", reason=f"{found.reason}; {step}")
