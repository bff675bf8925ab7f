"""Error feedback, slow and plain: one row, one column after the other, every value a ``numpy.float32``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.quants.naive.scalar import F, make_qx, nint, sigma2

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Floats = Sequence[np.float32]
    Rounding = Callable[[np.float32], tuple[np.float32, np.float32]]
    """Of a weight the value that its error is counted against, and the one that a decoder reads."""


def factor(moments: NDArray[np.float64], damp: float) -> NDArray[np.float32]:
    """``A[j, k]``, what the error of column j does to column k: by the inverse's Cholesky factor, as in GPTQ."""
    damped = moments + damp * np.diagonal(moments).mean() * np.identity(len(moments))
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T  # inverse = upper^T upper
    unit = upper / np.diagonal(upper)[:, None]
    # x_k -= e U[j, k] / U[j, j], with e counted against the weight as it stands, is x_k += (given - level) A[j, k].
    return np.triu(np.linalg.inv(unit), 1).astype(np.float32)


def fed_back(
    given: Floats, factors: NDArray[np.float32], block: int, find: Callable[[int, Floats], Rounding]
) -> list[np.float32]:
    """What a decoder makes of a span; ``find(j, now)`` gives the rounding of block j as it now stands."""
    done: list[np.float32] = []
    errors: list[np.float32] = []
    for first in range(0, len(given), block):
        now = list(given[first : first + block])
        for k in range(block):
            for j, e in enumerate(errors):
                now[k] = F(now[k] + F(e * factors[j, first + k]))
        rounding = find(first // block, now)
        for j in range(block):
            counted, decoded = rounding(now[j])
            done.append(decoded)
            errors.append(F(given[first + j] - counted))
            for k in range(j + 1, block):
                now[k] = F(now[k] + F(errors[-1] * factors[first + j, first + k]))
    return done


def decoded_row(row: Floats, importance: Floats, factors: NDArray[np.float32], nmax: int) -> list[np.float32]:
    """What a decoder makes of a row of blocks of 32 weights with levels ``-nmax .. nmax - 1`` times a half."""
    done: list[np.float32] = []
    for span, table in enumerate(factors):
        given, columns = row[256 * span : 256 * span + 256], importance[256 * span : 256 * span + 256]
        ws = weights(row, given, columns)

        def find(j: int, now: Floats, ws: Floats = ws) -> Rounding:
            step = F(np.float16(make_qx(now, ws[32 * j : 32 * j + 32], nmax)[0]))
            return linear(step, -nmax, nmax - 1)

        done += fed_back(given, table, 32, find)
    return done


def weights(row: Floats, given: Floats, importance: Floats, variance: float = 1.0) -> list[np.float32]:
    """``importance * sqrt(variance * mean square of the row + x * x)`` of the weights as given."""
    mean = F(F(variance) * sigma2(row))
    return [F(w * F(np.sqrt(F(mean + F(x * x))))) for x, w in zip(given, importance, strict=True)]


def linear(step: np.float32, low: int, high: int) -> Rounding:
    """Whole levels times a step."""
    inverse = F(F(1) / step) if step else F(0)

    def rounding(x: np.float32) -> tuple[np.float32, np.float32]:
        value = F(step * F(max(low, min(high, nint(F(inverse * x))))))
        return value, value

    return rounding
