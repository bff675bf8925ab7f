"""Carrying out a plan: tasks, workers, journal, files."""

from qxmix.execute.options import Options
from qxmix.execute.result import OnProgress, Progress, Result, TensorResult
from qxmix.execute.run import apply, apply_all

__all__ = ["OnProgress", "Options", "Progress", "Result", "TensorResult", "apply", "apply_all"]
