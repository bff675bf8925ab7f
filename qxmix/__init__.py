"""Quantize GGUF models by recipes: plan to the byte, then apply."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qxmix.container.header import read_header
    from qxmix.container.imatrix import Imatrix
    from qxmix.container.imatrix_load import load_imatrix
    from qxmix.container.model import ModelHeader, TensorInfo
    from qxmix.errors import ModelFileError, PlanError, Problem, QxmixError, RecipeError, RunError
    from qxmix.execute import Options, Progress, Result, apply, apply_all
    from qxmix.plan import Plan, PlannedTensor, Split, make_plan
    from qxmix.quants.api import dequantize, quantize
    from qxmix.recipe import Recipe, load_recipe

__version__ = "0.1.0"
__all__ = [
    "Imatrix",
    "ModelFileError",
    "ModelHeader",
    "Options",
    "Plan",
    "PlanError",
    "PlannedTensor",
    "Problem",
    "Progress",
    "QxmixError",
    "Recipe",
    "RecipeError",
    "Result",
    "RunError",
    "Split",
    "TensorInfo",
    "apply",
    "apply_all",
    "dequantize",
    "load_imatrix",
    "load_recipe",
    "make_plan",
    "quantize",
    "read_header",
]

_HOMES = {
    "container.header": ("read_header",),
    "container.imatrix": ("Imatrix",),
    "container.imatrix_load": ("load_imatrix",),
    "container.model": ("ModelHeader", "TensorInfo"),
    "errors": ("ModelFileError", "PlanError", "Problem", "QxmixError", "RecipeError", "RunError"),
    "execute": ("Options", "Progress", "Result", "apply", "apply_all"),
    "plan": ("Plan", "PlannedTensor", "Split", "make_plan"),
    "quants.api": ("dequantize", "quantize"),
    "recipe": ("Recipe", "load_recipe"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name when it is asked for: ``qxmix plan`` must not pay for NumPy, which ``quantize`` needs."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'qxmix' has no attribute '{name}'")
    return getattr(import_module(f"qxmix.{home}"), name)


def __dir__() -> list[str]:
    return __all__
