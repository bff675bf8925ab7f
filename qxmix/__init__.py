"""Quantize GGUF models by recipes: plan to the byte, then apply."""

from qxmix.container.header import read_header
from qxmix.container.imatrix import Imatrix, load_imatrix
from qxmix.container.model import ModelHeader, TensorInfo
from qxmix.errors import ModelFileError, PlanError, Problem, QxmixError, RecipeError, RunError
from qxmix.quants.api import dequantize, quantize

__all__ = [
    "Imatrix",
    "ModelFileError",
    "ModelHeader",
    "PlanError",
    "Problem",
    "QxmixError",
    "RecipeError",
    "RunError",
    "TensorInfo",
    "dequantize",
    "load_imatrix",
    "quantize",
    "read_header",
]
