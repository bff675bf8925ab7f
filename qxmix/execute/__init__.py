"""Carrying out a plan: tasks, workers, journal, files."""

from qxmix.execute.apply import apply
from qxmix.execute.result import OnProgress, Progress, Result, TensorResult

__all__ = ["OnProgress", "Progress", "Result", "TensorResult", "apply"]
