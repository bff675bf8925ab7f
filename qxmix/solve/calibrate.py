"""From the sum over tensors to the loss of the whole model.

Losses of tensors quantized alone do not add up: on published tables their sum is 0.47 to 16.7 times the loss of all
together.  Where whole recipes were measured too, the logarithm of the loss is fitted as a line of that of the sum; it
rises, so the best choice stays the best.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, sqrt
from typing import NamedTuple

_FLATTEST, _STEEPEST = 0.6, 1.6
"""Bounds of the slope: beyond them it is noise of few points."""
_ENOUGH = 3
"""Points from which a slope is fitted."""
_LEAST_SPREAD = 0.05


class Calibration(NamedTuple):
    """``loss = gain * sum ** slope``, and how far that was off."""

    gain: float
    slope: float
    spread: float
    """Standard deviation of the logarithm of measured over predicted."""
    n_points: int
    """Whole recipes that it was fitted on."""

    def of(self, total: float) -> tuple[float, float, float]:
        """Loss for a sum of losses, and the ends of the interval that holds it 19 times of 20."""
        value = self.gain * max(0.0, total) ** self.slope
        factor = exp(2 * self.spread)
        return value, value / factor, value * factor


UNCALIBRATED = Calibration(1.4, 1.0, 0.35, 0)
"""Without whole recipes: on the models measured, losses were 1.3 to 1.6 times the sum of those of single tensors."""
GUESSED = Calibration(1.4, 1.0, 1.2, 0)
"""Without any measurement of the model: a guess within a factor of ten."""


def calibrate(sums: Sequence[float], losses: Sequence[float]) -> Calibration:
    """Fit to whole recipes.

    Args:
        sums: For each the sum of the losses of its tensors.
        losses: For each what was measured.

    """
    points = [(log(s), log(m)) for s, m in zip(sums, losses, strict=True) if s > 0 and m > 0]
    if not points:
        return UNCALIBRATED
    n = len(points)
    x0, y0 = (sum(p[k] for p in points) / n for k in (0, 1))
    square = sum((x - x0) ** 2 for x, _ in points)
    slope = sum((x - x0) * (y - y0) for x, y in points) / square if n >= _ENOUGH and square > 0 else 1.0
    slope = min(_STEEPEST, max(_FLATTEST, slope))
    rest = sqrt(sum((y - y0 - slope * (x - x0)) ** 2 for x, y in points) / max(1, n - 2))
    # A couple of points tell little of how far the next may be off.
    spread = max(_LEAST_SPREAD, rest) if n >= _ENOUGH else UNCALIBRATED.spread / 2
    return Calibration(exp(y0 - slope * x0), slope, spread, n)
