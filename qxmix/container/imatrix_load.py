"""Loading importance matrices, whose formats are drawn in :mod:`qxmix.container.imatrix_files`."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from qxmix.container.imatrix import Imatrix


def load_imatrix(path: str | PathLike[str]) -> Imatrix:
    """Read an importance matrix, a legacy ``.dat`` or a GGUF one; which of them is told by its content.

    Raises:
        ModelFileError: it cannot be read, is neither of them, is damaged or cut off, or has a value that is no finite
            number of 0 or more.

    """
    # NumPy takes 0.1 s to import: only those who have a matrix pay for it.
    from qxmix.container.imatrix_files import read_imatrix_file  # noqa: PLC0415

    return read_imatrix_file(Path(path))
