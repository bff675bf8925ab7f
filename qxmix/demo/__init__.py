"""A model to try things on: seeded weights, a working tokenizer, an importance matrix, a recipe."""

from qxmix.demo.imatrix import make_demo_imatrix
from qxmix.demo.model import DEMO_SEED, make_demo_model

__all__ = ["DEMO_SEED", "make_demo_imatrix", "make_demo_model"]
