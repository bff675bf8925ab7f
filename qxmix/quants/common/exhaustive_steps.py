"""The roundings between two scales, one by one, in float64: where the exhaustive search decides."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qxmix.quants.jit import inlined, kernel

_MORE = 1.0 + 1e-13
"""What is better by less than the sums are rounded is not better: of equals the first one stays, of signs the plus."""


def _finding(index_of: Callable[..., float]) -> Callable[..., int]:
    @inlined
    def code(y, low, high, last):
        """Index of the nearest level; 0 for NaN, which error feedback can make of weights near the largest float."""
        return np.int64(min(max(0.0, np.float64(index_of(y, low, high))), last))

    @kernel
    def find_steps(block, lane, levels, left, right, at, due):
        """Codes at inverse scale ``left``, and the steps from there to ``right``: how many.

        ``at`` gets the code of each of the n elements, and then the element of each step, ``~e`` where it moves down;
        ``due`` the inverse scales of the steps, in ascending magnitude.
        """
        low, high, n, n_steps = levels[0], levels[-1], len(at) // (len(levels) + 1), 0
        last = np.float64(len(levels) - 1)
        for e in range(n):
            y = block[e, lane]
            j, end = code(left * y, low, high, last), code(right * y, low, high, last)
            at[e] = j
            way = 1 if end > j else -1
            while j != end:
                key = abs((np.float64(levels[j]) + np.float64(levels[j + way])) / np.float64(y))
                i = n_steps
                while i > 0 and due[i - 1] > key:
                    due[i], at[n + i] = due[i - 1], at[n + i - 1]
                    i -= 1
                due[i], at[n + i] = key, e if way > 0 else ~e
                n_steps += 1
                j += way
        return n_steps

    return find_steps


def _trying(find_steps: Callable[..., int]) -> Callable[..., None]:
    @kernel
    def try_steps(x, w, k, block, lane, levels, interval, found):
        """Try all roundings of lane k in an interval of inverse scales; keep the best of all in ``found``.

        ``found`` is (s1, s2, both ends of the interval, one more than the steps from the first), 0 where there is none.
        """
        n = x.shape[0]
        at, due = np.empty(n * (len(levels) + 1), np.int64), np.empty(n * len(levels), np.float64)
        n_steps = find_steps(block, lane, levels, interval[0], interval[1], at, due)
        s1 = s2 = 0.0
        for e in range(n):
            level, weight = np.float64(levels[at[e]]), np.float64(w[e, k])
            s1 += weight * np.float64(x[e, k]) * level
            s2 += weight * level * level
        for i in range(n_steps + 1):
            if i > 0:
                e, way = (at[n + i - 1], 1) if at[n + i - 1] >= 0 else (~at[n + i - 1], -1)
                a, b = np.float64(levels[at[e]]), np.float64(levels[at[e] + way])
                at[e] += way
                s1 += np.float64(w[e, k]) * np.float64(x[e, k]) * (b - a)
                s2 += np.float64(w[e, k]) * (b * b - a * a)
            if s1 * s1 * found[1] > found[0] * found[0] * s2 * _MORE:
                found[0], found[1] = s1, s2
                found[2], found[3], found[4] = interval[0], interval[1], i + 1.0

    return try_steps


def _applying(find_steps: Callable[..., int]) -> Callable[..., None]:
    @kernel
    def apply_steps(block, lane, levels, found, q, k):
        """Levels of the rounding that is kept in ``found`` into lane k of ``q``."""
        n = q.shape[0]
        at, due = np.empty(n * (len(levels) + 1), np.int64), np.empty(n * len(levels), np.float64)
        find_steps(block, lane, levels, np.float32(found[2]), np.float32(found[3]), at, due)
        for i in range(np.int64(found[4]) - 1):
            step = at[n + i]
            at[step if step >= 0 else ~step] += 1 if step >= 0 else -1
        for e in range(n):
            q[e, k] = levels[at[e]]

    return apply_steps


def stepping(index_of: Callable[..., float]) -> tuple[Callable[..., None], Callable[..., None]]:
    """Build ``try_steps`` and ``apply_steps`` for the levels of which ``index_of(y, low, high)`` finds the nearest."""
    find_steps = _finding(index_of)
    return _trying(find_steps), _applying(find_steps)
