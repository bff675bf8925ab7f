"""Nearest level of a table, exactly as the engines choose it, without a table look-up.

The reference takes of two neighbouring levels the lower one if ``fl(x - low) < fl(high - x)``.  That test is monotone
in x, so for each pair there is one float at which the choice flips; it is found once, by bisection over the floats.
The nearest level then follows from comparisons with those thresholds, which SIMD does for many x at a time.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qxmix.quants.jit import inlined

if TYPE_CHECKING:
    from collections.abc import Callable

Levels = NDArray[np.float32]
"""(n_levels,) ascending levels of a table; integers, so that sums of gaps are exact in float32."""

IQ4_LEVELS: Levels = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=np.float32
)
"""Levels of IQ4_NL and IQ4_XS (``kvalues_iq4nl`` in ggml)."""


def _flip(low: np.float32, high: np.float32) -> np.float32:
    """Smallest float32 for which ``high`` is chosen."""
    below, above = float(low), float(high)
    while np.nextafter(np.float32(below), np.float32(above)) < np.float32(above):
        middle = np.float32((below + above) / 2)
        if middle - low < high - middle:
            below = float(middle)
        else:
            above = float(middle)
    return np.float32(above)


def thresholds(levels: Levels) -> Levels:
    """(n_levels - 1,) the smallest float32 at which each upper neighbour is chosen."""
    return np.array([_flip(a, b) for a, b in itertools.pairwise(levels)], dtype=np.float32)


def chosen_by(flips: Levels, values: Levels) -> Callable[[np.float32], np.float32]:
    """Build the inlined function that maps x to the value of its level: ``values[number of flips that x reaches]``."""
    n = len(flips)

    @inlined
    def chosen(x):
        value = values[0]
        for i in range(n):
            value = values[i + 1] if x >= flips[i] else value
        return value

    return chosen


def nearest_level(levels: Levels) -> Callable[[np.float32], np.float32]:
    """Build the inlined function that maps x to its nearest level."""
    return chosen_by(thresholds(levels), levels)


def nearest_code(levels: Levels) -> Callable[[np.float32], np.float32]:
    """Build the inlined function that maps x to the index of its nearest level, as a float32."""
    flips, n = thresholds(levels), len(levels) - 1

    @inlined
    def code_of(x):
        code = np.float32(0.0)
        for i in range(n):
            code += np.float32(1.0) if x >= flips[i] else np.float32(0.0)
        return code

    return code_of
