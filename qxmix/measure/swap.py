"""A tensor as a type would leave it, encoded again in the type that it has in the base, for the resident engine."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from itertools import islice

from qxmix.execute.sample import PIECE_WEIGHTS, Rows
from qxmix.execute.source import Source
from qxmix.measure.encode import Sums, decoded, encoded, sums_of, total
from qxmix.quants import get

BASE_TYPES = ("F32", "F16", "BF16", "Q8_0")
"""Types of a base that hold what other types decode to closely enough."""


class Swap:
    """The pieces of one tensor, made as they are asked for, and the error that they sum up to."""

    def __init__(self, source: Source, type_name: str, executor: Executor, n_ahead: int) -> None:
        self._source = source
        self._type = type_name
        self._executor = executor
        self._n_ahead = n_ahead
        self._sums: list[Sums] = []

    @property
    def error(self) -> float:
        """Relative weighted squared error of what was put in, once all of it was."""
        return total(self._sums).error

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Pieces in order: offset in the tensor in bytes, and the bytes."""
        rows = self._rows()
        waiting: deque[Future[tuple[int, bytes, Sums]]] = deque()
        for some in islice(rows, self._n_ahead):
            waiting.append(self._executor.submit(self._piece, some))
        while waiting:
            offset, data, sums = waiting.popleft().result()
            for some in islice(rows, 1):
                waiting.append(self._executor.submit(self._piece, some))
            self._sums.append(sums)
            yield offset, data

    def _rows(self) -> Iterator[Rows]:
        tensor = self._source.tensor
        group = get(self._type).row_group
        step = max(1, PIECE_WEIGHTS // tensor.n_cols // group) * group
        for matrix in range(tensor.n_matrices):
            for first in range(0, tensor.n_rows, step):
                yield Rows(matrix, first, min(step, tensor.n_rows - first))

    def _piece(self, rows: Rows) -> tuple[int, bytes, Sums]:
        tensor, columns = self._source.tensor, self._source.columns(rows.matrix)
        packed = self._source.read([rows])
        weights = self._source.decode(packed)
        back = decoded(self._type, encoded(self._type, weights, columns), tensor.n_cols)
        # Without an importance: the base's own encoder is to copy values, not to choose among them.
        own = encoded(tensor.type, back, columns[:0])
        sums = sums_of(weights, decoded(tensor.type, own, tensor.n_cols), columns)
        offset = (rows.matrix * tensor.n_rows + rows.first) * packed.shape[1]
        return offset, own.tobytes(), sums
