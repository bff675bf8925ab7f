"""What a choice of types loses: from a measurement, or where there is none from what is usual."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, log
from typing import TYPE_CHECKING, Literal

from qxmix.planning.facts import model_facts
from qxmix.solve.calibrate import GUESSED, UNCALIBRATED, Calibration, calibrate
from qxmix.solve.prior import load_prior

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qxmix.container.model import ModelHeader, TensorInfo
    from qxmix.measurement import MeasuredTensor, Measurement, Metric, Sensitivity
    from qxmix.solve.prior import Prior

_LEAST = 1e-9

Basis = Literal["measured", "errors", "guess"]
"""Errors and sensitivities are measured, only errors, or neither."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The loss of a whole model, in the unit of the metric, and what it is likely within."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Predictor:
    """Knows what each type costs each tensor of one model."""

    basis: Basis
    metric: Metric
    calibration: Calibration
    sensitivities: Mapping[str, float]
    """Tensor to loss per error."""
    errors: Mapping[str, Mapping[str, float]]
    """Tensor to type to relative weighted error, as measured."""
    usual: Mapping[str, float]
    """Tensor to how its errors compare to the prior's: for types that were not measured."""
    prior: Prior

    def losses(self, tensor: TensorInfo, types: Sequence[str]) -> dict[str, float]:
        """What each type costs the tensor; types of which nothing is known are left out."""
        found = {}
        for name in types:
            loss = self.loss(tensor.name, name)
            if loss is not None:
                found[name] = loss
        return found

    def loss(self, name: str, type_name: str) -> float | None:
        """What the type costs the tensor, before calibration; None where nothing is known."""
        error = self.errors.get(name, {}).get(type_name)
        if error is None:
            error = self.prior.error(type_name)
            if error is None:
                return None
            error *= self.usual.get(name, 1.0)
        return self.sensitivities[name] * error

    def total(self, loss: float) -> Prediction:
        """The divergence of a model the losses of whose tensors have this sum."""
        return Prediction(*self.calibration.of(loss))


def predictor_of(header: ModelHeader, measurement: Measurement | None) -> Predictor:
    """The best that can be said of a model.

    Args:
        header: The model.
        measurement: Of this model, or None.

    """
    prior = load_prior()
    facts = model_facts(header, has_imatrix=False)
    n_layer, tied = facts["n_layer"], bool(facts["tied"])
    assert isinstance(n_layer, int)
    sensitivities = {t.name: prior.sensitivity(t.name, n_layer, tied=tied) for t in header.tensors}
    if measurement is None:
        return Predictor("guess", "kld", GUESSED, sensitivities, {}, {}, prior)
    errors = {t.name: {trial.type: trial.error for trial in t.trials} for t in measurement.tensors}
    usual = {t.name: _ratio(t, prior) for t in measurement.tensors}
    basis: Basis = "errors"
    if any(t.sensitivity is not None for t in measurement.tensors):
        basis = "measured"
        sensitivities |= {t.name: _positive(t.sensitivity) for t in measurement.tensors if t.sensitivity is not None}
    calibration = UNCALIBRATED if basis == "measured" else GUESSED
    found = Predictor(basis, measurement.metric, calibration, sensitivities, errors, usual, prior)
    return replace(found, calibration=_calibrated(found, measurement)) if measurement.joint else found


def _ratio(tensor: MeasuredTensor, prior: Prior) -> float:
    """Geometric mean of measured over usual errors."""
    logs = [
        log(trial.error / usual) for trial in tensor.trials if trial.error > 0 and (usual := prior.error(trial.type))
    ]
    return exp(sum(logs) / len(logs)) if logs else 1.0


def _positive(sensitivity: Sensitivity) -> float:
    """A sensitivity that noise made zero or less is no reason to give a tensor no bits at all."""
    return max(sensitivity.value, sensitivity.error / 2, _LEAST)


def _calibrated(predictor: Predictor, measurement: Measurement) -> Calibration:
    names = [t.name for t in measurement.tensors]
    sums = [
        sum(predictor.loss(name, kind) or 0.0 for name, kind in zip(names, point.types, strict=True) if kind)
        for point in measurement.joint
    ]
    return calibrate(sums, [point.loss for point in measurement.joint])
