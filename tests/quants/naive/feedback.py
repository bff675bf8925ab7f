"""Error feedback, slow and plain: one row, one column after the other, every value a ``numpy.float32``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.quants.naive.scalar import F, half, make_qx, nint, sigma2

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Encode = Callable[[list[np.float32], list[np.float32]], tuple[np.float32, Callable[[np.float32], np.float32]]]


def factor(moments: NDArray[np.float64], damp: float) -> NDArray[np.float32]:
    """``A[j, k]``, what the error of column j does to column k: by the inverse's Cholesky factor, as in GPTQ."""
    damped = moments + damp * np.diagonal(moments).mean() * np.identity(len(moments))
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T  # inverse = upper^T upper
    unit = upper / np.diagonal(upper)[:, None]
    # x_k -= e U[j, k] / U[j, j], with e counted against the weight as it stands, is x_k += (given - level) A[j, k].
    return np.triu(np.linalg.inv(unit), 1).astype(np.float32)


def decoded_row(
    row: Sequence[np.float32], importance: Sequence[np.float32], factors: NDArray[np.float32], encode: Encode
) -> list[np.float32]:
    """What a decoder makes of a row of blocks of 32 weights."""
    done: list[np.float32] = []
    for first in range(0, len(row), 32):
        span = 256 * (first // 256)
        table = factors[first // 256]
        now = list(row[first : first + 32])
        errors = [F(x - y) for x, y in zip(row[span:first], done[span:first], strict=True)]
        for k in range(32):
            for j, e in enumerate(errors):
                now[k] = F(now[k] + F(e * table[j, first - span + k]))
        given = list(row[first : first + 32])
        decode = encode(now, weights(row, given, importance[first : first + 32]))[1]
        for j in range(32):
            value = decode(now[j])
            done.append(value)
            e = F(given[j] - value)
            for k in range(j + 1, 32):
                now[k] = F(now[k] + F(e * table[first - span + j, first - span + k]))
    return done


def weights(
    row: Sequence[np.float32], given: Sequence[np.float32], importance: Sequence[np.float32]
) -> list[np.float32]:
    """``importance * sqrt(variance of the row + x * x)`` of the weights as given."""
    variance = sigma2(row)
    return [F(w * F(np.sqrt(F(variance + F(x * x))))) for x, w in zip(given, importance, strict=True)]


def linear(nmax: int) -> Encode:
    """Levels ``-nmax .. nmax - 1`` times a half."""

    def encode(xs: list[np.float32], ws: list[np.float32]) -> tuple[np.float32, Callable[[np.float32], np.float32]]:
        step = F(np.frombuffer(half(make_qx(xs, ws, nmax)[0]), "<f2")[0])
        inverse = F(F(1) / step) if step else F(0)
        return step, lambda x: F(step * F(max(-nmax, min(nmax - 1, nint(F(inverse * x))))))

    return encode
