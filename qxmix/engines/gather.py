"""Sums of squares, and of products in blocks of 256 columns, of what goes into each matrix: in the engine's process.

Matrices with the same input (q, k and v; gate and up) share one set of sums.  They are found on the first pass, where
the engine hands the same rows twice in a row, and held to it on every further one.

The state is one file, written whole whenever the parent asks for what was gathered, so that a crash loses a few chunks
at most.  It is a NumPy ``.npz``: ``meta`` (JSON as bytes) and for each distinct input ``LEADER/sums`` (n_matrices,
n_cols) and ``LEADER/counts`` (n_matrices,) as float64, and with moments ``LEADER/blocks`` (n_correlations, n_blocks,
256, 256) as float32 and ``LEADER/rows`` (n_correlations,), the rows that went into them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self, cast
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from qxmix.container.source import show_path
from qxmix.container.whole_file import whole_file
from qxmix.engines.frames import Message
from qxmix.errors import RunError
from qxmix.quants.feedback.spans import SPAN, block_sizes


class Shape(NamedTuple):
    """What is gathered for one tensor."""

    n_cols: int
    n_matrices: int
    n_correlations: int
    """0: no moments; 1: one for all matrices; ``n_matrices``: each has its own."""

    @property
    def nbytes(self) -> int:
        """Bytes that its sums take in memory."""
        blocks = self.n_correlations * len(block_sizes(self.n_cols)) * SPAN**2
        return 8 * self.n_matrices * self.n_cols + 4 * blocks


@dataclass(frozen=True, slots=True)
class Sums:
    """What one input has come to; the arrays grow in place."""

    shape: Shape
    sums: NDArray[np.float64]
    """(n_matrices, n_cols) sums of squares."""
    counts: NDArray[np.float64]
    """(n_matrices,) rows that went into them."""
    blocks: NDArray[np.float32]
    """(n_correlations, n_blocks, 256, 256) sums of products; of a shorter last block the upper left part."""
    rows: NDArray[np.float64]
    """(n_correlations,) rows that went into them."""

    @classmethod
    def zero(cls, shape: Shape) -> Self:
        """Nothing yet."""
        n_blocks = len(block_sizes(shape.n_cols))
        return cls(
            shape,
            np.zeros((shape.n_matrices, shape.n_cols)),
            np.zeros(shape.n_matrices),
            np.zeros((shape.n_correlations, n_blocks, SPAN, SPAN), np.float32),
            np.zeros(shape.n_correlations),
        )

    def add(self, rows: NDArray[np.float32], experts: NDArray[np.int32] | None) -> None:
        """Add the input of one product; see :class:`qxmix.engines.observe.Consumer`."""
        n = self.shape.n_correlations
        if n == 1:
            self._add_products(0, rows)
        for matrix, mine in _by_matrix(rows, experts, self.shape.n_matrices):
            self.sums[matrix] += np.square(mine, dtype=np.float64).sum(axis=0)
            self.counts[matrix] += len(mine)
            if n > 1:
                self._add_products(matrix, mine)

    def _add_products(self, matrix: int, rows: NDArray[np.float32]) -> None:
        for block, n in enumerate(block_sizes(self.shape.n_cols)):
            part = np.ascontiguousarray(rows[:, block * SPAN : block * SPAN + n])
            self.blocks[matrix, block, :n, :n] += part.T @ part
        self.rows[matrix] += len(rows)


def _by_matrix(
    rows: NDArray[np.float32], experts: NDArray[np.int32] | None, n_matrices: int
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The rows that each stacked matrix sees; those of one at a time, since they may be copies."""
    if experts is None:
        yield from enumerate(rows.reshape(n_matrices, -1, rows.shape[-1]))
        return
    chosen = experts.reshape(-1)
    order = np.argsort(chosen, kind="stable")
    starts = np.searchsorted(chosen[order], np.arange(n_matrices + 1))
    for matrix in range(n_matrices):
        if starts[matrix] < starts[matrix + 1]:
            yield matrix, rows[order[starts[matrix] : starts[matrix + 1]] // experts.shape[1]]


class Gatherer:
    """A consumer of what the engine shows (:class:`qxmix.engines.observe.Consumer`)."""

    def __init__(self, state: str, tensors: dict[str, list[int]], identity: str, *, resume: bool) -> None:
        """Start from nothing, or from what the file at ``state`` has.

        Args:
            state: Path of the state.
            tensors: Name to the numbers of its ``Shape``.
            identity: Of the job; kept in the state.
            resume: Whether to go on with the state.

        """
        self._path = Path(state)
        self._identity = identity
        self._shapes = {name: Shape(*numbers) for name, numbers in tensors.items()}
        self._leaders: dict[str, str] = {}
        self._gathered: dict[str, Sums] = {}
        self._last: tuple[str, NDArray[np.float32], NDArray[np.int32] | None] | None = None
        if resume:
            saved = State(self._path)
            self._leaders = dict(saved.leaders)
            self._gathered = {leader: saved.sums(leader) for leader in set(saved.leaders.values())}

    def wants(self, name: str) -> bool:
        """Whether the tensor is gathered."""
        return name in self._shapes

    def take(self, name: str, rows: NDArray[np.float32], experts: NDArray[np.int32] | None) -> None:
        """Add the input of one product.

        Raises:
            RunError: a value is not finite, or the input is of another shape than the tensor.

        """
        shape = self._shapes[name]
        if rows.shape[1] != shape.n_cols or (experts is None and len(rows) % shape.n_matrices):
            raise RunError(f"the engine multiplies {name} with rows of {rows.shape[1]} and not of {shape.n_cols}")
        follows = self._follows(rows, experts)
        leader = self._leaders.setdefault(name, self._last[0] if follows and self._last else name)
        if leader != name:
            if not follows:
                raise RunError(f"{name} had the same input as {leader} in the first pass and has another one now")
            return
        _refuse_non_finite(name, rows)
        if name not in self._gathered:
            self._gathered[name] = Sums.zero(shape)
        self._gathered[name].add(rows, experts)
        self._last = name, rows.copy(), None if experts is None else experts.copy()

    def _follows(self, rows: NDArray[np.float32], experts: NDArray[np.int32] | None) -> bool:
        """Whether this is the input that was last taken, once more."""
        if self._last is None:
            return False
        _, last_rows, last_experts = self._last
        if experts is None or last_experts is None:
            alike = experts is last_experts
        else:
            alike = np.array_equal(experts, last_experts)
        return alike and np.array_equal(rows, last_rows)

    def result(self) -> tuple[Message, bytes]:
        """Write the state; the answer says how many bytes it has."""
        dense = [s.counts.max(initial=0) for s in self._gathered.values() if s.shape.n_matrices == 1]
        meta = {"identity": self._identity, "n_tokens": int(max(dense, default=0)), "leaders": self._leaders,
                "shapes": {n: [s.n_cols, s.n_matrices, s.n_correlations] for n, s in self._shapes.items()}}  # fmt: skip
        arrays = {"meta": np.frombuffer(json.dumps(meta).encode(), np.uint8)}
        for leader, found in self._gathered.items():
            for part in _PARTS:
                arrays[f"{leader}/{part}"] = getattr(found, part)
        with whole_file(self._path) as file:
            np.savez(file, **cast("Any", arrays))
        return {"state_nbytes": self._path.stat().st_size}, b""


_PARTS = ("sums", "counts", "blocks", "rows")
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile)
"""What NumPy raises of a file that is damaged or something else."""
_OVER = "start over with --overwrite"


def _refuse_non_finite(name: str, rows: NDArray[np.float32]) -> None:
    bad = ~np.isfinite(rows)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise RunError(
            f"the input of {name} has {int(bad.sum()):,} values that are no finite numbers, the first of them"
            f" {rows[row, column]} in column {column}"
        )


class State:
    """What has been gathered so far, read from the disk part by part."""

    def __init__(self, path: Path) -> None:
        """Read the head of a state.

        Raises:
            RunError: it is none, or damaged.

        """
        try:
            with path.open("rb") as data, np.load(data) as file:
                meta = json.loads(file["meta"].tobytes())
            self.identity: str = meta["identity"]
            self.n_tokens: int = meta["n_tokens"]
            self.leaders: Mapping[str, str] = meta["leaders"]
            """Tensor to the one under whose name its input was summed."""
            self._shapes = {name: Shape(*numbers) for name, numbers in meta["shapes"].items()}
        except _UNREADABLE as error:
            raise RunError.at(show_path(path), f"cannot be gone on with ({error}); {_OVER}") from None
        self._path = path

    def sums(self, name: str) -> Sums:
        """What the input of ``name`` has come to.

        Raises:
            RunError: the file is damaged.

        """
        leader = self.leaders[name]
        try:
            with self._path.open("rb") as data, np.load(data) as file:
                return Sums(self._shapes[leader], *(file[f"{leader}/{part}"] for part in _PARTS))
        except _UNREADABLE as error:
            raise RunError.at(show_path(self._path), f"is damaged ({error}); {_OVER}") from None


class States:
    """What several sweeps over a text have gathered, each of tensors of its own."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Read the heads of the states.

        Raises:
            RunError: one is none, or damaged.

        """
        self._paths = tuple(paths)
        self._by_name = {name: state for state in map(State, paths) for name in state.leaders}

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def sums(self, name: str) -> Sums:
        """What the input of ``name`` has come to; raises RunError where a file is damaged."""
        return self._by_name[name].sums(name)

    def discard(self) -> None:
        """Remove the files."""
        for path in self._paths:
            path.unlink(missing_ok=True)
