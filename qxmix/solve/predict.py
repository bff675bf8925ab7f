"""What a choice of types loses: from a measurement, or where there is none from what is usual."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import exp, log
from typing import TYPE_CHECKING, Literal, NamedTuple

from qxmix.container.model import ModelHeader, TensorInfo
from qxmix.errors import ModelFileError
from qxmix.planning.facts import model_facts
from qxmix.quants import ENGINES, Engine
from qxmix.quants.inputs import INPUT_BLOCKS, input_block
from qxmix.recipe.categories import layer_of, part_of
from qxmix.solve.calibrate import GUESSED, UNCALIBRATED, Calibration, calibrate
from qxmix.solve.outside import Outside
from qxmix.solve.outside import sensitivities as sensitivities_of
from qxmix.solve.prior import Prior, load_prior

if TYPE_CHECKING:
    from qxmix.measurement.model import MeasuredTensor, Measurement, Sensitivity

_LEAST = 1e-9
_DRAFTS = 0.1
"""Of layers that draft tokens for the others to check: they change no token, and only how often a draft is right."""
_GUESS_WITHIN = 2.0
"""Factor that holds the error of a type that was not measured 19 times of 20: each of 24 types guessed from the others,
on three models, 1.7 to 2.0."""

Basis = Literal["measured", "errors", "outside", "guess"]
"""Errors and sensitivities are measured, only errors, another tool's figures stand in, or nothing was measured."""
UNITS = {"kld": "nats per token", "cosine": "1 - cosine"}


class Prediction(NamedTuple):
    """The loss of a whole model, in the unit of the metric, and what it is likely within."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Predictor:
    """Knows what each type costs each tensor of one model."""

    basis: Basis
    unit: str
    """Of what it predicts: ``nats per token``."""
    calibration: Calibration
    sensitivities: Mapping[str, float]
    """Tensor to loss per error."""
    errors: Mapping[str, Mapping[str, float]]
    """Tensor to type to relative weighted error, as measured."""
    usual: Mapping[str, float]
    """Tensor to how its errors compare to the prior's: for types that were not measured."""
    prior: Prior
    inputs: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Tensor to the relative error that rounding its inputs makes, in blocks of each of ``INPUT_BLOCKS``."""
    engines: tuple[Engine, ...] = ()
    """Those that will run the model; of several, the one counts that rounds coarser."""

    def losses(self, tensor: TensorInfo, types: Sequence[str]) -> dict[str, float]:
        """What each type costs the tensor; types of which nothing is known are left out."""
        found = {}
        for name in types:
            loss = self.loss(tensor.name, name)
            if loss is not None:
                found[name] = loss
        return found

    def loss(self, name: str, type_name: str) -> float | None:
        """What the type costs the tensor in an engine, before calibration; None where nothing is known."""
        loss = self.weight_loss(name, type_name)
        return None if loss is None else loss + self.input_loss(name, type_name)

    def input_loss(self, name: str, type_name: str) -> float:
        """What the rounding of its inputs costs, which goes with the type: before calibration."""
        return self.sensitivities[name] * self._input_error(name, type_name)

    def _input_error(self, name: str, type_name: str) -> float:
        if name not in self.inputs:
            return 0.0
        blocks = (input_block(type_name, engine) for engine in self.engines)
        return max((self.inputs[name][INPUT_BLOCKS.index(b)] for b in blocks if b), default=0.0)

    def weight_loss(self, name: str, type_name: str) -> float | None:
        """What the change of the weights costs, as swapped into a base: before calibration, or None."""
        error = self.errors.get(name, {}).get(type_name)
        if error is None:
            error = self.prior.error(type_name)
            if error is None:
                return None
            error *= self.usual.get(name, 1.0)
        return self.sensitivities[name] * error

    def is_guess(self, name: str, type_name: str) -> bool:
        """Whether the errors of the tensor were measured, and not in this type."""
        measured = self.errors.get(name, {})
        return bool(measured) and type_name not in measured

    def total(self, loss: float, guessed: float = 0.0) -> Prediction:
        """The divergence of a model the losses of whose tensors have this sum.

        ``guessed`` is what of it are losses in types that were not measured: the interval is wider for them.
        """
        value, _, _ = self.calibration.of(loss)
        _, low, _ = self.calibration.of(loss - guessed + guessed / _GUESS_WITHIN)
        _, _, high = self.calibration.of(loss - guessed + guessed * _GUESS_WITHIN)
        return Prediction(value, low, high)


def predictor_of(header: ModelHeader, measurement: Measurement | None, engines: tuple[Engine, ...] = ()) -> Predictor:
    """The best that can be said of a model.

    Args:
        header: The model.
        measurement: Of this model, or None.
        engines: Those that will run it; without any those whose types were measured.

    """
    prior = load_prior()
    facts = model_facts(header, has_imatrix=False)
    n_layer, tied = facts["n_layer"], bool(facts["tied"])
    assert isinstance(n_layer, int)
    drafting = {layer_of(t.name) for t in header.tensors if ".nextn." in t.name}
    sensitivities = {
        t.name: prior.sensitivity(t.name, n_layer - len(drafting), tied=tied)
        * (_DRAFTS if layer_of(t.name) in drafting else 1.0)
        for t in header.tensors
    }
    if measurement is None:
        return Predictor("guess", UNITS["kld"], GUESSED, sensitivities, {}, {}, prior)
    errors = {t.name: {trial.type: trial.error for trial in t.trials} for t in measurement.tensors}
    usual = {t.name: _ratio(t, prior) for t in measurement.tensors}
    basis: Basis = "errors"
    if any(t.sensitivity is not None for t in measurement.tensors):
        basis = "measured"
        sensitivities |= _measured(measurement, usual)
    calibration = UNCALIBRATED if basis == "measured" else GUESSED
    found = Predictor(basis, UNITS[measurement.metric], calibration, sensitivities, errors, usual, prior)
    found = replace(
        found,
        inputs={t.name: t.input_errors for t in measurement.tensors if t.input_errors is not None},
        engines=engines or (ENGINES if measurement.target == "any" else (measurement.target,)),
    )
    return replace(found, calibration=_calibrated(found, measurement)) if measurement.joint else found


def predictor_from(header: ModelHeader, outside: Outside) -> Predictor:
    """What another tool's figures say; tensors and types that it does not have take what is usual, in its scale.

    Raises:
        ModelFileError: it is of another model.

    """
    usual = predictor_of(header, None)
    names = {t.name for t in header.tensors}
    known = {n: v for n, v in sensitivities_of(outside.losses, usual.prior).items() if n in names}
    if 2 * len(known) < len(outside.losses):
        text = f"of the {len(outside.losses):,} tensors in it the model has {len(known):,}; is it of another model?"
        raise ModelFileError(text)
    # In the scale of the file: the geometric mean over the tensors that both know.
    scale = exp(sum(log(v / usual.sensitivities[n]) for n, v in known.items()) / len(known))
    sensitivities = {n: known.get(n, scale * v) for n, v in usual.sensitivities.items()}
    unit = UNITS["kld"] if outside.is_loss else "in the unit of the errors that it is from"
    calibration = GUESSED if outside.is_loss else Calibration(1.0, 1.0, GUESSED.spread, 0)
    if outside.is_loss:
        return replace(usual, basis="outside", calibration=calibration, sensitivities=sensitivities)
    # Errors of weights, scaled by the other tool: they are losses as they stand.
    errors = {n: {t: e / sensitivities[n] for t, e in by.items()} for n, by in outside.losses.items() if n in names}
    return replace(
        usual, basis="outside", unit=unit, calibration=calibration, sensitivities=sensitivities, errors=errors
    )


def _ratio(tensor: MeasuredTensor, prior: Prior) -> float:
    """Geometric mean of measured over usual errors."""
    logs = [
        log(trial.error / usual) for trial in tensor.trials if trial.error > 0 and (usual := prior.error(trial.type))
    ]
    return exp(sum(logs) / len(logs)) if logs else 1.0


def _measured(measurement: Measurement, usual: Mapping[str, float]) -> dict[str, float]:
    """Sensitivities as measured; of the others in between, what makes a type lose as much as it does nearby.

    The error of a type is relative to the weights, and a tensor with one huge column has a tenth of the others' errors
    and ten times their sensitivity: it is the product that is alike in neighbouring layers.
    """
    found = {t.name: _positive(t.sensitivity) for t in measurement.tensors if t.sensitivity is not None}
    known: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for tensor in measurement.tensors:
        layer = layer_of(tensor.name)
        if tensor.sensitivity is not None and tensor.sensitivity.origin == "measured" and layer is not None:
            known[part_of(tensor.name)].append((layer, log(found[tensor.name] * usual[tensor.name])))
    for tensor in measurement.tensors:
        layer, near = layer_of(tensor.name), sorted(known[part_of(tensor.name)])
        if tensor.sensitivity is not None and tensor.sensitivity.origin == "filled" and layer is not None and near:
            found[tensor.name] = exp(_between(near, layer)) / usual[tensor.name]
    return found


def _between(known: list[tuple[int, float]], layer: int) -> float:
    """On the line from the nearest layer below to the nearest above."""
    low, a = next((p for p in reversed(known) if p[0] <= layer), known[0])
    high, b = next((p for p in known if p[0] >= layer), known[-1])
    return a + (b - a) * ((layer - low) / (high - low) if high > low else 0.5)


def _positive(sensitivity: Sensitivity) -> float:
    """A sensitivity that noise made zero or less is no reason to give a tensor no bits at all."""
    return max(sensitivity.value, sensitivity.error / 2, _LEAST)


def _calibrated(predictor: Predictor, measurement: Measurement) -> Calibration:
    """By whole recipes, whose weights were swapped into a base: their inputs were not rounded."""
    names = [t.name for t in measurement.tensors]
    sums = [
        sum(predictor.weight_loss(name, kind) or 0.0 for name, kind in zip(names, point.types, strict=True) if kind)
        for point in measurement.joint
    ]
    return calibrate(sums, [point.loss for point in measurement.joint])
