"""Whole recipes whose losses tell what sums over single tensors miss.

Each is what minimizes sensitivity times error plus a price per byte; the price is found by bisection so that the size
comes to a given share of the way from the smallest types to the largest.
"""

from __future__ import annotations

from collections.abc import Sequence

from qxmix.measurement.model import MeasuredTensor, Trial

SHARES = (0.15, 0.35, 0.6)
"""Where between the smallest and the largest size."""
_STEPS = 60


def choices(tensors: Sequence[MeasuredTensor], share: float) -> tuple[Trial | None, ...]:
    """A trial for each tensor, or None where it has none.

    Args:
        tensors: with sensitivities.
        share: 0 for the smallest size, 1 for the largest.

    """
    sizes = [[trial.nbytes for trial in t.trials] for t in tensors if t.trials]
    smallest, largest = sum(map(min, sizes)), sum(map(max, sizes))
    wanted = smallest + share * (largest - smallest)
    low, high = 1e-30, 1e3  # nats per byte
    for _ in range(_STEPS):
        price = (low * high) ** 0.5
        if sum(trial.nbytes for trial in _at(tensors, price) if trial) > wanted:
            low = price
        else:
            high = price
    return _at(tensors, high)


def _at(tensors: Sequence[MeasuredTensor], price: float) -> tuple[Trial | None, ...]:
    return tuple(min(t.trials, key=lambda trial: _cost(t, trial, price), default=None) for t in tensors)


def _cost(tensor: MeasuredTensor, trial: Trial, price: float) -> tuple[float, int]:
    assert tensor.sensitivity is not None, "sensitivities come first"
    return tensor.sensitivity.value * trial.error + price * trial.nbytes, trial.nbytes
