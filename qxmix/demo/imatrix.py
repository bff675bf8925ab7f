"""A made-up importance matrix in the legacy format, for the demo models or any list of matrices."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qxmix.demo.numbers import uniform
from qxmix.demo.shapes import DENSE, MOE

N_CALLS = 8
"""Chunks of text that the file claims per entry."""
DATASET = "made up by qxmix demo"


def _importances(seed: int, name: str, n: int) -> NDArray[np.float32]:
    # Mean squares of activations: most columns alike, a few far above the rest.
    u = uniform(seed, name, n)
    return np.float32(0.02) + u * u + np.where(u > np.float32(0.98), np.float32(8.0), np.float32(0.0))


def make_demo_imatrix(
    path: Path, *, moe: bool = False, seed: int = 1, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> None:
    """Write importances for every block matrix of a demo model, or of the matrices named in ``shapes``.

    Layout, all little endian: n_entries i32; per entry name length i32, name, calls i32, n_values i32, f32 values that
    are mean squares times calls; then the number of chunks i32, length i32 and name of the text.

    Args:
        path: the file to write; replaced if it exists.
        moe: whether the entries are those of the mixture-of-experts variant.
        seed: numbers differ with it.
        shapes: tensor name to shape, row length first; one run of ``shape[0]`` values per stacked matrix.

    """
    if shapes is None:
        shapes = (MOE if moe else DENSE).block_matrices()
    out = bytearray(struct.pack("<i", len(shapes)))
    for name, shape in shapes.items():
        raw_name = name.encode()
        values = _importances(seed, name, shape[0] * int(np.prod(shape[2:], dtype=np.int64)))
        out += struct.pack("<i", len(raw_name)) + raw_name + struct.pack("<ii", N_CALLS, values.size)
        out += (values * np.float32(N_CALLS)).astype("<f4").tobytes()
    dataset = DATASET.encode()
    out += struct.pack("<ii", N_CALLS, len(dataset)) + dataset
    path.write_bytes(out)
