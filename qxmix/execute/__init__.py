"""Carrying out a plan: tasks, workers, journal, files."""

from qxmix.execute.result import OnProgress, Progress, Result, TensorResult
from qxmix.execute.run import apply

__all__ = ["OnProgress", "Progress", "Result", "TensorResult", "apply"]
