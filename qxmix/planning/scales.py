"""Levels that lie evenly around zero and factors of scales: which tensors get them, and where they change nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from qxmix.errors import Problem
from qxmix.planning.draft import Draft
from qxmix.planning.model import Plan, PlannedTensor
from qxmix.planning.silence import unsilenced
from qxmix.quants import QuantType
from qxmix.recipe.encoding import Factor, factor_of
from qxmix.recipe.model import Recipe


def is_symmetric(recipe: Recipe, rule: int | None, quant_type: QuantType | None) -> bool:
    """Whether a tensor of this type gets levels that lie evenly around zero."""
    own = recipe.rules[rule].symmetric if rule is not None else None
    return (recipe.symmetric if own is None else own) and quant_type is not None and quant_type.has_symmetric


def wanted_factor(recipe: Recipe, rule: int | None, quant_type: QuantType) -> Factor | None:
    """What the rule says of the scales of a type, or else the recipe."""
    own = factor_of(recipe.rules[rule].scale, quant_type.name, quant_type.base) if rule is not None else None
    return factor_of(recipe.scale, quant_type.name, quant_type.base) if own is None else own


def to_find(plan: Plan) -> tuple[PlannedTensor, ...]:
    """The tensors whose factor is to be found from their weights."""
    return tuple(t for t in plan.tensors if t.scale == "auto")


def with_factors(plan: Plan, factors: Mapping[str, float]) -> Plan:
    """The plan with the factors that were found, by tensor."""
    tensors = tuple(replace(t, scale=factors[t.name]) if t.scale == "auto" else t for t in plan.tensors)
    return replace(plan, tensors=tensors)


def scale_problems(plan: Plan, drafts: Sequence[Draft]) -> Iterator[Problem]:
    """Keys that change nothing for any tensor that they are said of."""
    encoded = [d for d in drafts if d.encodes and not d.error and d.quant_type is not None]
    yield from _without_symmetric(plan.recipe, encoded)
    yield from _without_factor(plan, encoded)


def _without_symmetric(recipe: Recipe, drafts: Sequence[Draft]) -> Iterator[Problem]:
    for rule, members in _by_origin(recipe, unsilenced(recipe, drafts, "symmetric-unused"), "symmetric").items():
        where = recipe.rules[rule].where.inner(".symmetric") if rule is not None else recipe.places.get("symmetric")
        wanted = recipe.rules[rule].symmetric if rule is not None else recipe.symmetric
        if where is not None and wanted and not any(d.quant_type and d.quant_type.has_symmetric for d in members):
            text = f"changes nothing: of {_types(members)} there is one kind of levels; Q4_0 alone has two"
            yield Problem(where, text, "note", "symmetric-unused")


def _without_factor(plan: Plan, drafts: Sequence[Draft]) -> Iterator[Problem]:
    recipe = plan.recipe
    scaled = {t.name for t in plan.tensors if t.scale is not None}
    for rule, members in _by_origin(recipe, unsilenced(recipe, drafts, "scale-unused"), "scale").items():
        where = recipe.rules[rule].where.inner(".scale") if rule is not None else recipe.places.get("scale")
        if where is None or any(d.tensor.name in scaled for d in members):
            continue
        able = [d for d in members if d.quant_type is not None and d.quant_type.takes_factor]
        if able:
            text = f"changes nothing: with feedback the scales of {_types(able)} are found without a factor"
            advice = "take out one of the two"
        else:
            text = f"changes nothing: scales of {_types(members)} are stored as they are found"
            advice = "'qxmix types' tells which take a factor"
        yield Problem(where, f"{text}; {advice}", "note", "scale-unused")


def _by_origin(recipe: Recipe, drafts: Sequence[Draft], key: str) -> dict[int | None, list[Draft]]:
    """Drafts by the rule that has the key, or None for the recipe's."""
    groups: dict[int | None, list[Draft]] = defaultdict(list)
    for draft in drafts:
        own = draft.rule is not None and getattr(recipe.rules[draft.rule], key) is not None
        groups[draft.rule if own else None].append(draft)
    return groups


def _types(drafts: Sequence[Draft]) -> str:
    return ", ".join(dict.fromkeys(d.type for d in drafts))
