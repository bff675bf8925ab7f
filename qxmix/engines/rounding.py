"""What rounding to 8 bits does to the inputs of matrices, gathered in the engine's process."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from qxmix.engines.frames import Message
from qxmix.quants.inputs import INPUT_BLOCKS


class Rounder:
    """A consumer of what the engine shows (:class:`qxmix.engines.observe.Consumer`)."""

    def __init__(self, names: list[str]) -> None:
        """Start from nothing, for these matrices."""
        self._names = frozenset(names)
        self._sums: dict[str, NDArray[np.float64]] = {}

    def wants(self, name: str) -> bool:
        """Whether the matrix is one of them."""
        return name in self._names

    def take(self, name: str, rows: NDArray[np.float32], experts: NDArray[np.int32] | None) -> None:  # noqa: ARG002 - experts share the inputs
        """Add the input of one product."""
        sums = np.stack([rows, *(rows - rounded(rows, block) for block in INPUT_BLOCKS)])
        found = np.square(sums, dtype=np.float64).sum(axis=1)
        self._sums[name] = self._sums.get(name, 0.0) + found

    def result(self) -> tuple[Message, bytes]:
        """Names, and of each the sums (3, n_cols) of squares: of values, and of errors with each block; float64."""
        head: Message = {"names": json.dumps([[name, found.shape[1]] for name, found in self._sums.items()])}
        return head, b"".join(found.tobytes() for found in self._sums.values())


def rounded(rows: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    """Rows (n, n_cols) to 8 bits and back, as ``Q8_0`` does it with so many values to a scale.

    A row that is no whole number of blocks ends in a shorter one.
    """
    n_rows, n_cols = rows.shape
    padded = np.zeros((n_rows, -(-n_cols // block), block), np.float32)
    padded.reshape(n_rows, -1)[:, :n_cols] = rows
    steps = np.abs(padded).max(axis=2, keepdims=True) / np.float32(127)
    levels = np.rint(np.divide(padded, steps, where=steps > 0, out=np.zeros_like(padded)))
    back: NDArray[np.float32] = (levels * steps).reshape(n_rows, -1)[:, :n_cols]
    return back
