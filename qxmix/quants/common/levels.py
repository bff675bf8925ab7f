"""Nearest level of a table, exactly as the engines choose it, without a table look-up.

The reference takes of two neighbouring levels the lower one if ``fl(x - low) < fl(high - x)``.  That test is monotone
in x, so for each pair there is one float at which the choice flips; it is found once, by bisection over the floats.
The nearest level then follows from comparisons with those thresholds, which SIMD does for many x at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qxmix.quants.common.simd import splat, where
from qxmix.quants.jit import inlined

Levels = NDArray[np.float32]
"""(n_levels,) ascending levels of a table; integers, so that sums of gaps are exact in float32."""

IQ4_LEVELS: Levels = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=np.float32
)
"""Levels of IQ4_NL and IQ4_XS (``kvalues_iq4nl`` in ggml), and of the 4-bit types of ik_llama.cpp."""
IQ3_LEVELS: Levels = np.array([-63, -40, -23, -10, 1, 13, 28, 47], dtype=np.float32)
"""Levels of the 3-bit types of ik_llama.cpp (``iq3nl_values``)."""
IQ5_LEVELS: Levels = np.array(
    [-126, -114, -103, -92, -83, -74, -65, -57, -50, -43, -36, -30, -24, -18, -12, -6,
     -1, 5, 11, 17, 23, 29, 36, 43, 51, 59, 68, 77, 87, 97, 109, 121],
    dtype=np.float32,
)  # fmt: skip
"""Levels of the 5-bit types of ik_llama.cpp (``iq5nl_values``)."""
IQ6_LEVELS: Levels = np.array(
    [-127, -121, -115, -109, -104, -98, -93, -88, -84, -79, -74, -70, -66, -62, -58, -54,
     -51, -47, -44, -40, -37, -34, -31, -28, -25, -22, -19, -16, -13, -11, -8, -5,
     -2, 0, 3, 6, 9, 12, 14, 17, 20, 23, 27, 30, 33, 36, 40, 44,
     47, 51, 55, 59, 63, 68, 72, 77, 82, 87, 92, 98, 103, 109, 115, 121],
    dtype=np.float32,
)  # fmt: skip
"""Levels of IQ6_K (``iq6nl_values`` of ik_llama.cpp)."""


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


def vectors_chosen_by(flips: Levels, values: Levels) -> Callable[..., object]:
    """``chosen_by`` for each lane of a vector."""
    n = len(flips)

    @inlined
    def chosen(y):
        value = splat(values[0])
        for i in range(n):
            value = where(y >= flips[i], splat(values[i + 1]), value)
        return value

    return chosen
