"""Weights and importances at the ends of what float32 holds: inputs for every encoder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

LARGEST = float(np.finfo(np.float32).max)
MAGNITUDES = np.array(
    [
        1e-45, 3e-45, 9.2e-41, 1e-40, 1e-39, 2.9e-39, 5e-39, 1.17549435e-38, 1.2e-38, 3e-38, 3.9e-38, 4.4e-38, 5e-38,
        1e-37, 4e-37, 1e-36, 1e-33, 1e-30, 1e-25, 1.1e-23, 4e-23, 1e-22, 1e-20, 1e-19, 1e-18, 1e-17, 1e-16, 1e-15,
        2e-15, 1e-13, 1e-12, 1e-10, 1e-9, 2e-8, 1e-7, 6e-6, 6.1e-5, 1e-4, 1e-3, 0.1, 1.0, 1e3, 65504.0, 1e5, 1e7, 1e10,
        1e14, 1e18, 1.8e19, 2e19, 1e25, 1e32, 1e37, 1e38, 3e38, LARGEST,
    ],
    dtype=np.float32,
)  # fmt: skip
"""Subnormal numbers; where a reciprocal, a square or a product of three overflows or vanishes; the engines' own bounds
of what is zero (1e-16 .. 1e-7); halves' ends; the largest float."""


def _patterns(n_cols: int) -> Floats:
    """(n_patterns, n_cols) rows whose largest magnitude is 1."""
    rng, e = np.random.default_rng(1), np.arange(n_cols)
    mixed = rng.standard_t(4, n_cols)
    mixed /= abs(mixed).max()
    rows = [
        *((e % 512 == at) * sign for at, sign in ((5, 1.0), (0, -1.0), (255, 1.0))),
        (e % 32 == 31) * np.where(e % 64 < 32, 1.0, -1.0),  # one weight in each block
        np.ones(n_cols),
        -np.ones(n_cols),
        np.where(e % 2, 1.0, -1.0),
        mixed,
        abs(mixed),
        -abs(mixed),
        rng.choice([-1.0, 0.0, 1.0], n_cols),
        np.where(e // 32 % 2, mixed, 0.0),  # every second block zero
        np.where(e % 256 < 32, 1.0, mixed * 1e-6),  # one block a million times as large as the others
        np.where(e == 40, -1.0, mixed * 1e-20),
        np.linspace(-1.0, 1.0, n_cols),
        np.where(e % 16, 0.0, mixed),
        *_lattices(n_cols),
    ]
    return np.array(rows, dtype=np.float32)


def _lattices(n_cols: int) -> list[NDArray[np.float64]]:
    """Whole numbers times steps, which ``search: exhaustive`` looks for; the largest is 1."""
    rng, e = np.random.default_rng(5), np.arange(n_cols)
    four, six, eight = (rng.integers(-n, n + 1, n_cols) for n in (7, 31, 127))
    rows = [
        four * 1.0,
        four * (1.0 + e // 32 % 5),  # steps that are multiples of one
        four * np.exp(np.sin(e // 32)),  # steps that are none
        np.where(e % 64 < 16, 31 * (1 + e // 64 % 4), six * (1 + e // 64 % 4)),  # blocks of the last level alone
        eight * 1.0,
        (four + 7.0) * (1.0 + e // 32 % 3) - 5.3,  # above a minimum
        (four + 7.0) - 1e-4,  # which is next to nothing
        np.where(e % 32 < 30, -128.0, 127.0),
    ]
    return [row / abs(row).max() for row in rows]


def weights(n_cols: int, multiple: int) -> Floats:
    """Every pattern at every second magnitude, one row each, and zero rows up to a multiple of ``multiple``."""
    patterns = _patterns(n_cols)
    rows = np.concatenate([MAGNITUDES[i % 2 :: 2, None] * row for i, row in enumerate(patterns)])
    return np.concatenate([rows, np.zeros((-len(rows) % multiple, n_cols), np.float32)])


def importances(n_cols: int) -> dict[str, Floats]:
    """Columns by what is extreme in them; ``none`` has no elements."""
    rng, e = np.random.default_rng(2), np.arange(n_cols)
    gamma = rng.gamma(0.5, 1.0, n_cols)
    every = {
        "ones": np.ones(n_cols),
        "gamma": gamma,
        "zero": np.zeros(n_cols),
        "tiny": np.full(n_cols, 1e-38),
        "least": np.full(n_cols, 1e-45),
        "huge": np.full(n_cols, 3e38),
        "one-hot": np.where(e == 5, 1.0, 0.0),
        "one-hot-huge": np.where(e % 256 == 255, 3e38, 0.0),
        "one-tiny": np.where(e % 64 == 7, 1e-38, 0.0),
        "mixed": np.resize([0.0, 1e-45, 1e-38, 1e-20, 1.0, 1e20, 3e38], n_cols),
        "halves": np.where(e % 64 < 32, 0.0, gamma),
    }
    return {"none": np.empty(0, np.float32)} | {k: v.astype(np.float32) for k, v in every.items()}


def factors() -> tuple[Floats, ...]:
    """(1, 256, 256) each: what the errors of columns do to later ones, of moments that are mild, singular, absurd."""
    above = np.triu(np.random.default_rng(4).uniform(-1, 1, (1, 256, 256)), 1).astype(np.float32)
    return above, np.triu(np.ones((1, 256, 256), np.float32), 1), above * np.float32(3e38)
