"""Rows of one tensor of a model, read and decoded where a sample of them is wanted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qxmix.container.imatrix import Imatrix, importance_of
from qxmix.container.model import TensorInfo
from qxmix.errors import ModelFileError, RunError
from qxmix.quants import codec_of, get

if TYPE_CHECKING:
    from qxmix.execute.sample import Rows


@dataclass(frozen=True, slots=True)
class Source:
    """A tensor, where it is, and what weights it."""

    tensor: TensorInfo
    path: Path
    imatrix: Imatrix | None
    entry: str | None
    """Name of the entry of ``imatrix``; None: all columns count the same."""

    def columns(self, matrix: int) -> NDArray[np.float32]:
        """(n_cols,) importances of one matrix, or (0,)."""
        if self.imatrix is None or self.entry is None:
            return np.empty(0, np.float32)
        # A copy: the entries are read-only, which numba would compile for once more.
        return importance_of(self.imatrix, self.entry, self.tensor.n_cols, matrix).copy()

    def read(self, rows: Iterable[Rows]) -> NDArray[np.uint8]:
        """(n_rows, row_nbytes) as they stand in the file, which is opened for it.

        Raises:
            RunError: the file ends early, or cannot be read.

        """
        t = self.tensor
        row_nbytes = get(t.type).row_nbytes(t.n_cols)
        parts = []
        with RunError.of_system(self.path, "cannot be read"), self.path.open("rb", buffering=0) as file:
            for some in rows:
                file.seek(t.offset + (some.matrix * t.n_rows + some.first) * row_nbytes)
                parts.append(np.fromfile(file, np.uint8, some.n * row_nbytes))
                if parts[-1].size != some.n * row_nbytes:
                    raise RunError.at(self.path, f"the file ends inside tensor {t.name}")
        return np.concatenate(parts).reshape(-1, row_nbytes)

    def decode(self, packed: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n_rows, n_cols) weights of what :meth:`read` gave.

        Raises:
            ModelFileError: one of them is NaN or infinite.

        """
        weights = np.empty((len(packed), self.tensor.n_cols), np.float32)
        codec_of(self.tensor.type).decode(packed, weights)
        with np.errstate(all="ignore"):
            if not np.isfinite(weights.sum()) and not np.isfinite(weights).all():
                msg = "has weights that are NaN or infinite; convert the model again"
                raise ModelFileError.at(f"{self.path}: {self.tensor.name}", msg)
        return weights
