"""The plan: what every tensor becomes, why, and where its bytes go.  Made from a recipe and a header alone."""

from qxmix.planning.make import make_plan
from qxmix.planning.memory import peak_nbytes
from qxmix.planning.model import Plan, PlannedTensor, Split

__all__ = ["Plan", "PlannedTensor", "Split", "make_plan", "peak_nbytes"]
