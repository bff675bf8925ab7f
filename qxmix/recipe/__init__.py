"""The recipe language: loading, rules and selectors, dialects."""

from qxmix.recipe.load import load_recipe, shipped_names, shipped_path
from qxmix.recipe.model import Recipe, Rule

__all__ = ["Recipe", "Rule", "load_recipe", "shipped_names", "shipped_path"]
