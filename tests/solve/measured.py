"""Measurements made up from a model's shapes, so that what must come out is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qxmix.container.identity import header_sha256
from qxmix.measurement.model import JointPoint, MeasuredModel, MeasuredTensor, Measurement, Sensitivity, Trial
from qxmix.quants import get
from qxmix.solve.prior import load_prior
from tests.planning.models import header

if TYPE_CHECKING:
    from tests.planning.models import Model

TYPES = ("Q3_K", "IQ4_XS", "IQ4_NL", "Q4_K", "Q5_0", "Q5_K", "Q6_K", "Q8_0")


def measurement_of(
    model: Model, *, seed: int = 1, gain: float = 2.0, slope: float = 1.0, n_joint: int = 6, sensitive: bool = True,
    imatrix_sha256: str | None = None,
) -> Measurement:  # fmt: skip
    """Errors near the usual ones, sensitivities over two orders of magnitude, and recipes that lose by a law."""
    rng = np.random.default_rng(seed)
    head = header(model)
    tensors = tuple(_tensor(n, s, rng, sensitive=sensitive) for n, s in model.shapes.items() if len(s) > 1)
    joint = tuple(_joint(tensors, rng, gain, slope) for _ in range(n_joint if sensitive else 0))
    model_facts = MeasuredModel("made up", model.arch, header_sha256(head), len(head.tensors), 1)
    return Measurement(model_facts, imatrix_sha256, "any", TYPES, "kld", tensors, None, (), joint)


def _tensor(name: str, shape: tuple[int, ...], rng: np.random.Generator, *, sensitive: bool) -> MeasuredTensor:
    prior = load_prior()
    trials = tuple(
        Trial(t, get(t).nbytes(shape), (prior.error(t) or 1.0) * float(rng.uniform(0.8, 1.25)), 0.99)
        for t in TYPES
        if get(t).fits(shape[0])
    )
    value = float(10 ** rng.uniform(-2.5, -0.5))
    return MeasuredTensor(name, shape, 8, trials, Sensitivity(value, value / 20, "measured") if sensitive else None)


def _joint(tensors: tuple[MeasuredTensor, ...], rng: np.random.Generator, gain: float, slope: float) -> JointPoint:
    """A recipe of one width or a little above, at random."""
    width = int(rng.integers(0, len(TYPES) - 1))
    chosen = [t.trials[min(len(t.trials) - 1, width + int(rng.integers(0, 2)))] for t in tensors]
    total = sum(t.sensitivity.value * c.error for t, c in zip(tensors, chosen, strict=True) if t.sensitivity)
    loss = gain * total**slope
    return JointPoint("made up", tuple(c.type for c in chosen), sum(c.nbytes for c in chosen), loss, loss / 50)
