"""What is made of a leaf's rows: each distinct encoding once, whatever the number of outputs that get it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable

import numpy as np
from numpy.typing import NDArray

from qxmix import quants
from qxmix.execute.deviation import row_sums, summarize
from qxmix.execute.factors import factors_of
from qxmix.execute.scales import check_scales
from qxmix.execute.task import Bundle, Task, TaskResult
from qxmix.quants.codec import Codec, Packed, Rows, encoder_for


class Making:
    """One encoding of a leaf while it is made, step by step, or the leaf's own bytes."""

    def __init__(self, task: Task, members: tuple[int, ...], buffer: NDArray[np.uint8]) -> None:
        """Prepare to make what ``task`` asks for.

        Args:
            task: One of the tasks that ask for it.
            members: Indices of all of them in their bundle.
            buffer: Where a step is encoded; makings of a bundle take turns with it.

        """
        self.members = members
        self._task, self._buffer = task, buffer
        self._written = hashlib.sha256()
        self._sums: list[NDArray[np.float64]] = []
        self._encode: Callable[[Rows, Packed], None] | None = None
        if task.action != "copy":
            # A copy, since the bytes' own buffer is read-only, which would be another type to Numba and compile anew.
            self._columns = np.frombuffer(task.importance, np.float32).copy()
            self._codec = quants.codec_of(task.type)
            self._encode = _encoder(task, self._codec, self._columns)

    def add(self, first: int, packed: Packed, weights: Rows) -> memoryview:
        """The bytes of one step, until the next making of the bundle adds its own.

        Args:
            first: Where the rows stand in the leaf.
            packed: The rows as they were read.
            weights: The same, decoded.

        Raises:
            ModelFileError: a scale overflows.

        """
        if self._encode is None:
            self._written.update(packed.data)
            return packed.data.cast("B")
        task = self._task
        row_nbytes = task.target_nbytes // task.n_rows
        made = self._buffer[: len(weights) * row_nbytes].reshape(len(weights), row_nbytes)
        self._encode(weights, made)
        # The digest first: it reads in order and brings all into the cache, where the scales are then found.
        self._written.update(made.data)
        check_scales(task.name, task.type, task.first_row + first, made)
        if task.measure:
            restored = np.empty_like(weights)
            self._codec.decode(made, restored)
            self._sums.append(row_sums(weights, restored, self._columns))
        return made.data.cast("B")

    def result(self, task: Task, source_digest: bytes) -> TaskResult:
        """What one of its tasks reports when all steps are made."""
        deviation = summarize(np.concatenate(self._sums), task.first_row) if self._sums else None
        return TaskResult(task.tensor, task.leaf, self._written.digest(), source_digest, deviation)


def distinct(bundle: Bundle, step: int) -> tuple[Making, ...]:
    """The makings of a bundle, ``step`` rows at a time."""
    members: dict[Hashable, list[int]] = {}
    for index, task in enumerate(bundle):
        members.setdefault(_decides(task), []).append(index)
    row_nbytes = max(task.target_nbytes // task.n_rows for task in bundle)
    buffer = np.empty(step * row_nbytes, np.uint8)
    return tuple(Making(bundle[indices[0]], tuple(indices), buffer) for indices in members.values())


def _decides(task: Task) -> Hashable:
    """All that the bytes of a leaf depend on besides the leaf."""
    if task.action == "copy":
        return None
    moments = task.moments
    fed_back = moments and (moments.path, moments.name, moments.sha256, moments.matrix, moments.options)
    search = task.search if quants.codec_of(task.type).searches else None
    return task.type, task.importance, search, fed_back, task.symmetric, task.scale


def _encoder(task: Task, codec: Codec, columns: NDArray[np.float32]) -> Callable[[Rows, Packed], None]:
    """The encoder of a task's rows, with or without error feedback."""
    if task.moments is not None:
        feedback = codec.feedback
        assert feedback is not None, "the plan asks for feedback only where the type has it"
        importance, factors = factors_of(task.moments, task.importance)
        return lambda rows, packed: feedback(rows, importance, factors, packed, task.search)
    encode = encoder_for(codec, symmetric=task.symmetric, scale=task.scale)
    return lambda rows, packed: encode(rows, columns, packed, task.search)
