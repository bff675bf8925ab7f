"""The recipe to start from when nobody gives one."""

from __future__ import annotations

from qxmix.recipe.load import load_recipe_text
from qxmix.recipe.model import Recipe, Target


def unruled(target: Target) -> Recipe:
    """A recipe for a target that has no rules, so that every tensor is open."""
    return load_recipe_text(f"qxmix: 1\nname: base\ntarget: {target}\ndefault: q8_0\nfallback: error\n", "base")
