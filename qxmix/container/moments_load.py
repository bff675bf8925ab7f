"""Loading and saving second moments, whose layout is drawn in :mod:`qxmix.container.moments`.

NumPy takes 0.1 s to import: only those who have moments pay for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from types import MappingProxyType

from qxmix.container.moments import Moments, MomentsEntry, SecondMoments

_NOTHING: Mapping[str, str] = MappingProxyType({})


def load_moments(path: str | PathLike[str]) -> Moments:
    """Read the header of a moments file and check all of it, values included.

    Every value is read once and let go: about 1 ms of processor time for each block of 256 columns, most of it to see
    that it can be factorized with ``DEFAULT_DAMP``, in threads, and once for tensors that have the same.

    Raises:
        ModelFileError: it cannot be read, is no moments file, is damaged or cut off, an entry lacks a part or has one
            of another shape, a value is not finite, a mean square or count is negative, a correlation is outside
            [-1, 1], or a block cannot be factorized.

    """
    from qxmix.container.moments_files import read_moments_file  # noqa: PLC0415

    return read_moments_file(Path(path))


def read_second_moments(moments: Moments, name: str) -> SecondMoments:
    """Read the second moments of one tensor; the arrays are copies and may be changed.

    Raises:
        ModelFileError: as :func:`load_moments` does, for this tensor.
        KeyError: the file has no entry ``name``.

    """
    from qxmix.container.moments_files import read_entry  # noqa: PLC0415

    return read_entry(moments.path, name, moments.entries[name])


def read_entry_of(path: str | PathLike[str], name: str, entry: MomentsEntry) -> SecondMoments:
    """Read the second moments of the entry ``name`` of a file, wherever it is, without checking their values.

    That takes two thirds of the time that their factors do, for those who know the digest of values that were checked.

    Raises:
        ModelFileError: the file cannot be read, or ends before the entry does.

    """
    from qxmix.container.moments_files import read_unchecked  # noqa: PLC0415

    return read_unchecked(Path(path), name, entry)


def save_moments(
    path: str | PathLike[str],
    entries: Mapping[str, SecondMoments],
    *,
    datasets: tuple[str, ...] = (),
    n_chunks: int = 0,
    chunk_size: int = 0,
    stated: Mapping[str, str] = _NOTHING,
) -> None:
    """Write a moments file; under its name only once it is complete.

    ``entries`` may make its values when they are asked for: each is taken twice, and none is kept.
    ``stated`` is metadata, key to text, that the file gets besides.

    Raises:
        ModelFileError: an entry is one that :func:`load_moments` refuses, named as it names it.
        OSError: the file cannot be written.

    """
    from qxmix.container.moments_files import write_moments_file  # noqa: PLC0415

    write_moments_file(Path(path), entries, datasets, n_chunks, chunk_size, stated)
