"""A made-up importance matrix in the legacy format, for the demo models or any list of matrices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qxmix.container.imatrix import Imatrix
from qxmix.container.imatrix_write import write_imatrix
from qxmix.demo.numbers import uniform
from qxmix.demo.shapes import DENSE, MOE

_N_CALLS = 8
"""Chunks of text that the file claims per entry."""
_DATASET = "made up by qxmix demo"


def _importances(seed: int, name: str, n: int) -> NDArray[np.float32]:
    # Mean squares of activations: most columns alike, a few far above the rest.
    u = uniform(seed, name, n)
    return np.float32(0.02) + u * u + np.where(u > np.float32(0.98), np.float32(8.0), np.float32(0.0))


def make_demo_imatrix(
    path: Path, *, moe: bool = False, seed: int = 1, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> None:
    """Write importances for every block matrix of a demo model, or of the matrices named in ``shapes``.

    Args:
        path: the file to write, a .dat; replaced if it exists.
        moe: whether the entries are those of the mixture-of-experts variant.
        seed: numbers differ with it.
        shapes: tensor name to shape, row length first; one run of ``shape[0]`` values per stacked matrix.

    """
    if shapes is None:
        shapes = (MOE if moe else DENSE).block_matrices()
    entries = {
        name: _importances(seed, name, shape[0] * int(np.prod(shape[2:], dtype=np.int64)))
        for name, shape in shapes.items()
    }
    counts = dict.fromkeys(entries, np.full(1, _N_CALLS, np.float32))
    write_imatrix(Imatrix(path, "", entries, (_DATASET,), _N_CALLS, counts, "chunks"), path)
