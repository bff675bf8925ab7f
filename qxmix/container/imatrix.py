"""Importance matrices: which columns of a tensor's input matter, measured on text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Imatrix:
    """An importance matrix file, its values already divided by their counts."""

    path: Path
    sha256: str
    """Of the file, in hex."""
    entries: Mapping[str, NDArray[np.float32]]
    """Tensor name to (n_matrices * n_cols,) importances, one run of ``n_cols`` per stacked matrix."""
    datasets: tuple[str, ...]
    """Names of the texts it was measured on, as the file states them."""
    n_chunks: int
    """Chunks of text it was measured on; 0 where the file does not say."""
