"""Slow error feedback for the grid types: of some scales of a block the best, then eight columns at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import gguf.quants
import numpy as np

from tests.quants.naive.scalar import F

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tests.quants.naive.feedback import Floats

AROUND = (0, -1, -2, 1, -3)


class Kind(NamedTuple):
    even: bool
    """Whether the number of negative weights of eight is even."""
    block: int
    """Weights that share a scale."""
    unit: float
    """What d is multiplied with, beside the odd number that a code stands for."""
    n_tried: int
    """Codes that are tried for each block."""


KINDS = {
    "IQ2_XXS": Kind(even=True, block=32, unit=0.125, n_tried=5),
    "IQ2_XS": Kind(even=True, block=16, unit=0.125, n_tried=5),
    "IQ2_S": Kind(even=False, block=16, unit=0.125, n_tried=3),
    "IQ3_XXS": Kind(even=True, block=32, unit=0.25, n_tried=5),
    "IQ3_S": Kind(even=False, block=32, unit=1.0, n_tried=3),
}


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


def nearest(u: Floats, ws: Floats, step: np.float32, points: NDArray[np.float32]) -> tuple[int, np.float32]:
    """Of sorted points that with the least price, and this: what its halves cost together."""
    price, n = np.zeros(len(points), np.float32), points.shape[1]
    for half in (slice(0, n // 2), slice(n // 2, n)):
        norm, total = np.zeros(len(points), np.float32), np.zeros(len(points), np.float32)
        for w, each, point in zip(ws[half], u[half], points.T[half], strict=True):
            norm = norm + w * (point * point)
            total = total + each * point
        price = price + (step * norm - (total + total))
    at = int(np.argmin(price))
    return at, price[at]


def of_eight(
    now: Floats, ws: Floats, step: np.float32, kind: Kind, points: NDArray[np.float32]
) -> tuple[list[np.float32], list[np.float32]]:
    """What eight weights are decoded to, and the prices of their points."""
    signs, n = signs_of(now, ws, even=kind.even), points.shape[1]
    done, prices = [], []
    for part in (slice(i, i + n) for i in range(0, 8, n)):
        u = [F(F(w * x) * s) for w, x, s in zip(ws[part], now[part], signs[part], strict=True)]
        at, price = nearest(u, ws[part], step, points)
        prices.append(price)
        done += [F(F(step * q) * s) for q, s in zip(points[at], signs[part], strict=True)]
    return done, prices


def best_step(
    now: Floats, ws: Floats, base: np.float32, code: int, kind: Kind, points: NDArray[np.float32]
) -> np.float32:
    found, least = F(0), F(np.inf)
    for around in AROUND[: kind.n_tried]:
        step, total = F(base * F(2 * min(max(code + around, 0), 15) + 1)), F(0)
        for at in range(0, kind.block, 8):
            for price in of_eight(now[at : at + 8], ws[at : at + 8], step, kind, points)[1]:
                total = F(total + F(step * price))
        if total < least:
            found, least = step, total
    return found


def reach(now: Floats, errors: Floats, by: NDArray[np.float32]) -> list[np.float32]:
    """Weights with what errors do to them, ``by`` (n_errors, n_weights), one error after the other."""
    reached = list(now)
    for error, row in zip(errors, by, strict=True):
        reached = [F(x + F(error * each)) for x, each in zip(reached, row, strict=True)]
    return reached


def decoded(row: Floats, factors: NDArray[np.float32], name: str, packed: NDArray[np.uint8]) -> list[np.float32]:
    """What a decoder makes of a row; ``packed`` is what the row is without feedback."""
    kind, found = KINDS[name], points_of(name)
    points = found[np.lexsort(found.T[::-1])]
    steps, n_super = steps_of(name, packed), len(row) // 256
    bases = packed.reshape(n_super, -1)[:, :2].copy().view(np.float16).astype(np.float32)[:, 0] * F(kind.unit)
    done: list[np.float32] = []
    for span, (factor, base) in enumerate(zip(factors, bases, strict=True)):
        errors: list[np.float32] = []
        for lo in range(0, 256, kind.block):
            end, at = lo + kind.block, 256 * span + lo
            now = reach(row[at : at + kind.block], errors, factor[:lo, lo:end])
            ws = [F(factor[k, k] * factor[k, k]) for k in range(lo, end)]
            step = best_step(now, ws, base, round((float(steps[at] / base) - 1) / 2), kind, points)
            for i in range(0, kind.block, 8):
                done += of_eight(now[:8], ws[i : i + 8], step, kind, points)[0]
                lost = [F(row[at + i + e] - done[at + i + e]) for e in range(8)]
                now = reach(now[8:], lost, factor[lo + i : lo + i + 8, lo + i + 8 : end])
                errors += lost
    return done
