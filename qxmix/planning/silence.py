"""What rules say is meant: their tensors are left out of such a problem."""

from __future__ import annotations

from collections.abc import Iterable

from qxmix.planning.draft import Draft
from qxmix.recipe.model import Recipe


def is_silenced(recipe: Recipe, rule: int | None, id_: str) -> bool:
    """Whether the rule that decides a tensor gives a reason for such a problem."""
    return rule is not None and id_ in recipe.rules[rule].silence


def unsilenced(recipe: Recipe, drafts: Iterable[Draft], id_: str) -> list[Draft]:
    """Those whose rule does not."""
    return [d for d in drafts if not is_silenced(recipe, d.rule, id_)]
