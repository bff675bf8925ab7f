"""Slow error feedback for the trellis types: of three scales of a block the best, then group by group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.quants.naive.scalar import IQ4, F
from tests.quants.naive.trellis import rough_iq3, rough_iq4, rough_levels, weigh
from tests.quants.naive.trellis_book import IQ1, IQ2, IQ3, IQ4_SETS, Array, Book

if TYPE_CHECKING:
    from numpy.typing import NDArray

TYPES = ("IQ1_KT", "IQ2_KT", "IQ3_KT", "IQ4_KT")


def rough(name: str, row: Array, importance: Array) -> tuple[np.float32, list[int], list[np.float32], list[Book]]:
    """Scale of a row as it is stored, codes of its blocks, what codes stand for, and the codebook of each block."""
    weights = weigh(row, importance)
    if name == "IQ3_KT":
        d, codes, _ = rough_iq3(abs(row), weights)
        return d, codes, [F(i) for i in range(16)], [IQ3] * len(codes)
    if name == "IQ4_KT":
        d, wholes, sets = rough_iq4(row, weights)
        return d, [i + 64 for i in wholes], [F(i - 64) for i in range(128)], [IQ4_SETS[which] for (which,) in sets]
    book, factor = (IQ2, F(1)) if name == "IQ2_KT" else (IQ1, F(1.07))
    d, codes, _ = rough_levels(row, weights, book, again=name == "IQ1_KT")
    return F(d * factor), codes, list(IQ4), [book] * len(codes)


def error_of(book: Book, found: list[int], step: np.float32, xs: Array, ws: Array) -> np.float32:
    total = F(0)
    for x, w, q in zip(xs, ws, book.values[found].ravel(), strict=True):
        miss = F(x - F(step * q))
        total = F(total + F(w * F(miss * miss)))
    return total


def best_step(
    book: Book, codes: list[int], levels: list[np.float32], d: np.float32, xs: Array, ws: Array
) -> np.float32:
    steps = [F(d * levels[min(max(code, 0), len(levels) - 1)]) for code in codes]
    return min(steps, key=lambda step: error_of(book, book.match(step, xs, ws), step, xs, ws))


def decoded(name: str, row: Array, importance: Array, usable: Array, factors: NDArray[np.float32]) -> list[np.float32]:
    """What a decoder makes of a row; ``usable`` importances, and some of the median, count in the search of vectors."""
    d, codes, levels, books = rough(name, row, importance)
    done: list[np.float32] = []
    for block, (code, book) in enumerate(zip(codes, books, strict=True)):
        at, span = 32 * block, 256 * (block // 8)
        prior = F(F(0.1) * sorted(usable[span : span + 256])[128])
        ws, now = usable[at : at + 32] + prior, row[at : at + 32].copy()
        for j in range(span, at):
            now += F(row[j] - done[j]) * factors[span // 256, j - span, at - span : at - span + 32]
        sizes = abs(now) if book.magnitudes else now
        step = best_step(book, [code, code - 1, code + 1], levels, d, sizes, ws)
        for g in range(0, 32, book.n):
            found = book.match(step, abs(now) if book.magnitudes else now, ws)[g // book.n]
            for k, q in enumerate(book.values[found], g):
                value = F(step * q)
                done.append(F(-value) if book.magnitudes and now[k] < 0 else value)
                behind = slice(g + book.n, 32)
                by = factors[span // 256, at - span + k, at - span + behind.start : at - span + 32]
                now[behind] += F(row[at + k] - done[-1]) * by
    return done
