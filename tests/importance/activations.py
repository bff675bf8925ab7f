"""Made-up activations and the importance matrix that a loop over tokens makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qxmix.container.imatrix import Imatrix

Tokens = NDArray[np.float32]
Routed = tuple[Tokens, NDArray[np.int64]]
"""Activations (n_tokens, n_cols), and the expert that each token went to."""


def dense_tokens(seed: int, n_tokens: int, n_cols: int) -> Tokens:
    return np.random.default_rng(seed).standard_normal((n_tokens, n_cols)).astype(np.float32)


def routed_tokens(seed: int, n_tokens: int, n_cols: int, experts: list[int]) -> Routed:
    return dense_tokens(seed, n_tokens, n_cols), np.random.default_rng(seed + 1).choice(experts, n_tokens)


def measured(
    dense: dict[str, Tokens], routed: dict[str, Routed], n_experts: int, *, chunk_size: int = 4, text: str = "t.txt"
) -> Imatrix:
    """Token by token, in Python's own floats."""
    entries, counts, n_chunks = {}, {}, 0
    for name, rows in dense.items():
        entries[name] = np.array([sum(float(v) ** 2 for v in column) / len(rows) for column in rows.T], np.float32)
        counts[name] = np.array([len(rows)], np.float32)
        n_chunks = len(rows) // chunk_size
    for name, (rows, experts) in routed.items():
        means = []
        for expert in range(n_experts):
            mine = rows[experts == expert]
            means += [sum(float(v) ** 2 for v in c) / len(mine) if len(mine) else 1.0 for c in mine.T]
        entries[name] = np.array(means, np.float32)
        counts[name] = np.bincount(experts, minlength=n_experts).astype(np.float32)
    return Imatrix(Path("m.gguf"), "", entries, (text,), n_chunks, counts, "tokens", chunk_size)
