"""What types do to the tensors of a model, measured: the value that ``qxmix measure`` makes, and its file."""

from qxmix.measurement.file import check_belongs, load_measurement, save_measurement
from qxmix.measurement.model import (
    JointPoint,
    MeasuredModel,
    MeasuredTensor,
    Measurement,
    Metric,
    Origin,
    Point,
    Run,
    Sensitivity,
    Trial,
)

__all__ = [
    "JointPoint",
    "MeasuredModel",
    "MeasuredTensor",
    "Measurement",
    "Metric",
    "Origin",
    "Point",
    "Run",
    "Sensitivity",
    "Trial",
    "check_belongs",
    "load_measurement",
    "save_measurement",
]
