"""Slow error feedback for IQ1_S and IQ1_M: codes by what three levels would leave, then by the points there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tests.quants.naive.feedback_grid import points_of, reach
from tests.quants.naive.scalar import F

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tests.quants.naive.feedback import Floats

DELTA = F(0.125)


class Kind(NamedTuple):
    block: int
    """Weights that share a scale."""
    shifted: int
    """Weights that share a shift."""
    n_tried: int
    """Codes that are tried with the points, with one shift each where a block has one."""


KINDS = {"IQ1_S": Kind(block=32, shifted=32, n_tried=2), "IQ1_M": Kind(block=16, shifted=8, n_tried=2)}


def base_of(name: str, packed: NDArray[np.uint8]) -> np.float32:
    """The scale of a super-block."""
    if name == "IQ1_S":
        return np.float32(packed[:2].copy().view(np.float16)[0])
    bits = sum(int(word) >> 12 << (4 * i) for i, word in enumerate(packed[48:].copy().view(np.uint16)))
    return np.float32(np.array([bits], np.uint16).view(np.float16)[0])


def rough(now: Floats, ws: Floats, step: np.float32, shift: np.float32) -> np.float32:
    """The error of weights that get any of three levels."""
    total = F(0)
    for x, w in zip(now, ws, strict=True):
        far = abs(F(x - shift))
        left = min(far, abs(F(far - abs(step))))
        total = F(total + F(F(left * left) * w))
    return total


def priced(now: Floats, ws: Floats, step: np.float32, shift: np.float32) -> tuple[list[list[np.float32]], np.float32]:
    """For eight weights what levels -1, 0 and 1 cost more than 0, and what 0 does."""
    each, total = [], F(0)
    for x, w in zip(now, ws, strict=True):
        y, by = F(x - shift), F(step * w)
        each.append([F(by * F(step + F(y + y))), F(0), F(by * F(step - F(y + y)))])
        total = F(total + F(F(y * y) * w))
    return each, total


def nearest(
    now: Floats, ws: Floats, step: np.float32, shift: np.float32, points: NDArray[np.float32]
) -> tuple[int, np.float32]:
    """Of sorted points that with the least error, and this: what its halves, of two pairs each, cost together."""
    each, zero = priced(now, ws, step, shift)
    cost = np.array(each, np.float32)[np.arange(8), points.astype(int) + 1]
    head = (cost[:, 0] + cost[:, 1]) + (cost[:, 2] + cost[:, 3])
    tail = (cost[:, 4] + cost[:, 5]) + (cost[:, 6] + cost[:, 7])
    same_head = np.unique(points[:, :4], axis=0, return_inverse=True)[1].ravel()
    at = int(np.lexsort((tail, same_head, head + tail))[0])
    return at, F(zero + (head + tail)[at])


def shift_of(now: Floats, ws: Floats, step: np.float32) -> np.float32:
    """The shift of eight weights with which three levels leave less."""
    up = F(step * DELTA)
    return F(-up) if rough(now, ws, step, F(-up)) < rough(now, ws, step, up) else up


def best_scale(
    now: Floats, ws: Floats, base: np.float32, kind: Kind, points: NDArray[np.float32]
) -> tuple[np.float32, np.float32]:
    """The step of a block, and its shift, which means nothing where each eight has one."""
    errors, tried = [], []
    for code in range(8):
        step, eights = F(base * F(2 * code + 1)), [slice(i, i + 8) for i in range(0, kind.block, 8)]
        up = F(step * DELTA)
        if kind.shifted == kind.block:
            tried += [(step, up), (step, F(-up))]
            errors += [rough(now, ws, step, up), rough(now, ws, step, F(-up))]
        else:
            total = F(0)
            for part in eights:
                total = F(total + min(rough(now[part], ws[part], step, s) for s in (up, F(-up))))
            tried.append((step, up))
            errors.append(total)
    found, least = tried[0], F(np.inf)
    for at in np.argsort(errors, kind="stable")[: kind.n_tried]:
        (step, shift), total = tried[at], F(0)
        for part in eights:
            own = shift if kind.shifted == kind.block else shift_of(now[part], ws[part], step)
            total = F(total + nearest(now[part], ws[part], step, own, points)[1])
        if total < least:
            found, least = tried[at], total
    return found


def decoded(row: Floats, factors: NDArray[np.float32], name: str, packed: NDArray[np.uint8]) -> list[np.float32]:
    """What a decoder makes of a row; ``packed`` is what the row is without feedback."""
    kind, found = KINDS[name], points_of("IQ1_S")
    points = found[np.lexsort(found.T[::-1])]
    done: list[np.float32] = []
    for span, (factor, block) in enumerate(zip(factors, packed.reshape(len(factors), -1), strict=True)):
        base, errors = base_of(name, block), list[np.float32]()
        for lo in range(0, 256, kind.block):
            end, at = lo + kind.block, 256 * span + lo
            now = reach(row[at : at + kind.block], errors, factor[:lo, lo:end])
            ws = [F(factor[k, k] * factor[k, k]) for k in range(lo, end)]
            step, shift = best_scale(now, ws, base, kind, points)
            for i in range(0, kind.block, 8):
                own = shift if kind.shifted == kind.block else shift_of(now[:8], ws[i : i + 8], step)
                point = points[nearest(now[:8], ws[i : i + 8], step, own, points)[0]]
                down = (own < 0) != (step < 0)
                done += [F(step * F(q + (-DELTA if down else DELTA))) for q in point]
                lost = [F(row[at + i + e] - done[at + i + e]) for e in range(8)]
                now = reach(now[8:], lost, factor[lo + i : lo + i + 8, lo + i + 8 : end])
                errors += lost
    return done
