"""Whether second moments can be used: their shapes, their values, and that each block can be factorized.

The last is most of the work.  It goes on in threads while the next values are read or written, and is done once for
what several tensors share, as q, k and v do their input: SmolLM2's 720 blocks are 450.
"""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from qxmix.container.moments import DEFAULT_DAMP, SecondMoments
from qxmix.container.source import bad_file, show
from qxmix.processors import n_processors
from qxmix.quants.feedback.spans import SPAN, block_sizes, packed_size

AGAIN = "make the moments again"
"""What to do about moments that are damaged."""

_HALF_ONE = 0x3C00
"""1.0 as the bits of a half."""
_PACKED = SPAN * (SPAN - 1) // 2
_PANEL = 64
_BLOCKS = 8
"""Blocks that are factorized side by side: 4 MB, and calls enough for each that NumPy's own time does not count."""
_WAITING_NBYTES = 64 << 20
"""Most that waits for the threads, but for a last matrix: moments of a large model take gigabytes."""


class _Waiting(NamedTuple):
    """Blocks of which it is not yet known whether they can be factorized."""

    name: str
    matrix: int
    n_cols: int
    nbytes: int
    """What waits in memory; 0 where another has the same blocks."""
    bad: Future[int]
    """The first of them that cannot; -1 for none."""


class Checker:
    """Checks entry after entry of a file; :meth:`finish` tells of the last ones."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pool = ThreadPoolExecutor(n_processors())
        self._known: dict[bytes, Future[int]] = {}
        self._waiting: deque[_Waiting] = deque()

    def __enter__(self) -> Self:
        """Nothing more."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def add(self, name: str, moments: SecondMoments) -> None:
        """Check an entry, whose arrays must not change any more.

        Raises:
            ModelFileError: its shapes do not agree, or a value is out of range; or a block of this or of an earlier
                entry cannot be factorized, if that is known already.

        """
        _check_shapes(self._path, name, moments)
        _check_values(self._path, name, moments)
        n_cols = moments.diag.shape[1]
        for matrix, packed in enumerate(moments.correlations):
            digest = hashlib.sha256(packed).digest()
            known = self._known.get(digest)
            if known is None:
                self._known[digest] = self._pool.submit(_first_bad, packed, n_cols)
            nbytes = packed.nbytes if known is None else 0
            self._waiting.append(_Waiting(name, matrix, n_cols, nbytes, self._known[digest]))
            self._tell(_WAITING_NBYTES)

    def finish(self) -> None:
        """Wait until all is checked.

        Raises:
            ModelFileError: a block cannot be factorized.

        """
        self._tell(0)

    def _tell(self, nbytes: int) -> None:
        """Tell of the first ones until no more than ``nbytes`` are left, and none if that is 0."""
        while self._waiting and (not nbytes or sum(w.nbytes for w in self._waiting) > nbytes):
            name, matrix, n_cols, _, bad = self._waiting.popleft()
            if bad.result() >= 0:
                first = SPAN * bad.result()
                text = (
                    f"the correlations of columns {first} to {min(first + SPAN, n_cols) - 1} of {show(name)}"
                    f" (matrix {matrix}) are no correlations of anything: the block cannot be factorized; {AGAIN}"
                )
                raise bad_file(self._path, text)


def _check_shapes(path: Path, name: str, moments: SecondMoments) -> None:
    n_matrices, n_cols = moments.diag.shape
    n_correlations = len(moments.correlations)
    given = (moments.counts.shape, moments.correlations.shape, moments.correlation_counts.shape)
    if given != ((n_matrices,), (n_correlations, packed_size(n_cols)), (n_correlations,)) or n_correlations not in {
        1,
        n_matrices,
    }:
        text = f"{show(name)}: counts, correlations and their counts have the shapes {given}, which do not agree with a"
        raise bad_file(path, f"{text} diag of {moments.diag.shape}; {AGAIN}")


def _check_values(path: Path, name: str, moments: SecondMoments) -> None:
    for suffix, values in ((".diag", moments.diag), (".counts", moments.counts),
                           (".corr_counts", moments.correlation_counts)):  # fmt: skip
        bad = ~(np.isfinite(values) & (values >= 0))
        if bad.any():
            at = tuple(int(i) for i in np.argwhere(bad)[0])
            text = f"value {', '.join(map(str, at))} of {show(name + suffix)} is {values[at]}"
            raise bad_file(path, f"{text}, no finite number of 0 or more; {AGAIN}")
    # As integers without the sign, halves are in order, and NaN and the infinities lie above 1.
    bad = (moments.correlations.view(np.uint16) & np.uint16(0x7FFF)) > _HALF_ONE
    if bad.any():
        matrix, index = (int(i) for i in np.argwhere(bad)[0])
        value = moments.correlations[matrix, index]
        text = f"value {matrix}, {index} of {show(name + '.corr')} is {value}, no correlation from -1 to 1; {AGAIN}"
        raise bad_file(path, text)


def _first_bad(packed: NDArray[np.float16], n_cols: int) -> int:
    """The first block of a packed correlation that is not positive definite even with ``DEFAULT_DAMP``; -1 for none."""
    sizes = block_sizes(n_cols)
    n_whole = sizes.count(SPAN)
    whole, rest = np.split(packed, [n_whole * _PACKED])
    whole = whole.reshape(n_whole, _PACKED)
    parts = [(i, SPAN, whole[i : i + _BLOCKS]) for i in range(0, n_whole, _BLOCKS)]
    if n_whole < len(sizes):
        parts.append((n_whole, sizes[-1], rest[None]))
    for first, n, part in parts:
        if not _have_factors(_lower(part, n)):
            return first + next(i for i, one in enumerate(part) if not _have_factors(_lower(one[None], n)))
    return -1


def _lower(packed: NDArray[np.float16], n: int) -> NDArray[np.float64]:
    """Packed blocks (k, n (n - 1) / 2) as the lower triangles of (k, n, n), with the damped diagonal."""
    made = np.zeros((len(packed), n * n))
    made[:, _below(n)] = packed
    made[:, :: n + 1] = 1 + DEFAULT_DAMP
    return made.reshape(-1, n, n)


@lru_cache
def _below(n: int) -> NDArray[np.intp]:
    return np.flatnonzero(np.tri(n, k=-1, dtype=bool))


def _have_factors(m: NDArray[Any]) -> bool:
    """Whether symmetric matrices (k, n, n), whose lower triangles are read and overwritten, are positive definite.

    Cholesky in panels: products this small stay on the thread that asks for them.  One call for 256 columns takes as
    long where the machine is idle, and a hundred times as long where BLAS waits for processors that others use.
    """
    n = m.shape[1]
    starts = range(0, n, _PANEL)
    for of in starts:
        here = slice(of, of + _PANEL)
        for q in range(0, of, _PANEL):
            left = m[:, here, q : q + _PANEL].transpose(0, 2, 1)
            for row in range(of, n, _PANEL):
                m[:, row : row + _PANEL, here] -= m[:, row : row + _PANEL, q : q + _PANEL] @ left
        try:
            m[:, here, here] = top = np.linalg.cholesky(m[:, here, here])
        except np.linalg.LinAlgError:
            return False
        if of + _PANEL < n:
            inverse = np.linalg.inv(top).transpose(0, 2, 1)
            for row in range(of + _PANEL, n, _PANEL):
                m[:, row : row + _PANEL, here] = m[:, row : row + _PANEL, here] @ inverse
    return True
