"""Slow error feedback for the grid types: eight columns at a time, beside scales that are given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf.quants
import numpy as np

from tests.quants.naive.scalar import F

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tests.quants.naive.feedback import Floats

PARITY = {"IQ2_XXS": True, "IQ2_XS": True, "IQ2_S": False, "IQ3_XXS": True, "IQ3_S": False}
"""The types, and whether the number of negative weights of eight is even."""


def points_of(name: str) -> NDArray[np.float32]:
    kind = getattr(gguf.quants, name)
    kind.init_grid()
    return np.asarray(kind.grid, np.float32).reshape(-1, kind.grid.shape[-1])


def steps_of(name: str, packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n_cols,) what a grid point of 1 is worth: the row decoded by the gguf package with nothing but ones as grid."""
    kind = getattr(gguf.quants, name)
    points_of(name)
    kept = kind.grid
    try:
        kind.grid = np.ones_like(kept)
        steps: NDArray[np.float32] = np.abs(kind.dequantize_rows(packed[None])[0])
    finally:
        kind.grid = kept
    return steps


def signs_of(now: Floats, importance: Floats, *, even: bool) -> list[np.float32]:
    """Those of eight weights; where one must be wrong, of that which counts least."""
    signs = [F(-1) if x < 0 else F(1) for x in now]
    if even and sum(s < 0 for s in signs) % 2:
        losses = [F(F(w * abs(x)) * abs(x)) for x, w in zip(now, importance, strict=True)]
        at = losses.index(min(losses))
        signs[at] = -signs[at]
    return signs


def nearest(u: Floats, importance: Floats, step: np.float32, points: NDArray[np.float32]) -> NDArray[np.float32]:
    norm, total = np.zeros(len(points), np.float32), np.zeros(len(points), np.float32)
    for e in range(points.shape[1]):
        norm = norm + importance[e] * (points[:, e] * points[:, e])
        total = total + u[e] * points[:, e]
    found: NDArray[np.float32] = points[np.argmin(step * norm - (total + total))]
    return found


def decoded(
    row: Floats, importance: Floats, factors: NDArray[np.float32], name: str, steps: Floats
) -> list[np.float32]:
    """What a decoder makes of a row."""
    points = points_of(name)
    n = points.shape[1]
    done: list[np.float32] = []
    for at in range(0, len(row), 8):
        span = 256 * (at // 256)
        now = list(row[at : at + 8])
        for k in range(8):
            for j in range(span, at):
                now[k] = F(now[k] + F(F(row[j] - done[j]) * factors[span // 256][j - span, at - span + k]))
        signs = signs_of(now, importance[at : at + 8], even=PARITY[name])
        for part in range(0, 8, n):
            ws = importance[at + part : at + part + n]
            u = [F(F(w * x) * s) for w, x, s in zip(ws, now[part : part + n], signs[part : part + n], strict=True)]
            found = nearest(u, ws, steps[at + part], points)
            done += [F(F(steps[at + part] * q) * s) for q, s in zip(found, signs[part : part + n], strict=True)]
    return done
