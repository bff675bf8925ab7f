"""Errors of every tensor under every type, piece by piece, in parallel."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from itertools import islice

from qxmix.execute.sample import Rows, pieces, sample_rows
from qxmix.execute.source import Source
from qxmix.measure.encode import Sums, errors, total
from qxmix.measure.journal import Journal, key_of
from qxmix.measure.model import Job
from qxmix.measurement.model import MeasuredTensor, Trial
from qxmix.quants import codec_of, get

_AHEAD = 3
"""Pieces in flight per worker."""


def estimate(job: Job) -> float:
    """Seconds of processor time that all errors will take, from one piece under each type; kernels must be compiled."""
    cost: dict[str, float] = {}
    for source, types in zip(job.sources, job.allowed, strict=True):
        fresh = [name for name in types if name not in cost]
        if fresh:
            piece = next(pieces(sample_rows(source.tensor, types, job.settings.n_rows), source.tensor.n_cols))
            packed = source.read(piece)
            for name in fresh:
                began = time.thread_time()
                errors(source, piece, packed, [name])
                cost[name] = (time.thread_time() - began) / (len(packed) * source.tensor.n_cols)
    return sum(
        n_sampled(s, job) * sum(cost[t] for t in types) for s, types in zip(job.sources, job.allowed, strict=True)
    )


def n_sampled(source: Source, job: Job) -> int:
    """Weights that are encoded of a tensor, about."""
    t = source.tensor
    return t.n_cols * min(job.settings.n_rows or t.n_rows * t.n_matrices, t.n_rows * t.n_matrices)


def measure_errors(
    job: Job, journal: Journal, executor: Executor, on_weights: Callable[[int], None]
) -> tuple[tuple[MeasuredTensor, ...], str]:
    """Encode, decode, compare.

    Args:
        job: what to measure.
        journal: what is known already, and where results go.
        executor: of ``job.settings.n_workers`` threads.
        on_weights: called with the number of weights of each piece that is done.

    Returns:
        The tensors, without sensitivities, and a digest of what their weights and importances are.

    Raises:
        ModelFileError: a weight is not finite.
        RunError: the model or the journal cannot be read or written.

    """
    found: list[list[dict[str, list[float]]]] = [[] for _ in job.sources]
    n_rows, keys = [0] * len(job.sources), []
    for index, n, key, result in _results(job, journal, executor):
        keys.append(key)
        found[index].append(result)
        n_rows[index] += n
        on_weights(n * job.sources[index].tensor.n_cols)
    tensors = tuple(
        _tensor(source, types, parts, n)
        for source, types, parts, n in zip(job.sources, job.allowed, found, n_rows, strict=True)
    )
    return tensors, key_of(keys)


def _results(job: Job, journal: Journal, executor: Executor) -> Iterator[tuple[int, int, str, dict[str, list[float]]]]:
    """Of each piece in order: index of its tensor, its rows, its key, its figures; new ones are in the journal."""
    work = _work(job)
    waiting: deque[tuple[int, int, Future[tuple[str, dict[str, list[float]], bool]]]] = deque()

    def submit(n: int) -> None:
        for index, rows in islice(work, n):
            future = executor.submit(_piece, job.sources[index], rows, job.allowed[index], journal)
            waiting.append((index, sum(r.n for r in rows), future))

    submit(_AHEAD * job.settings.n_workers)
    while waiting:
        index, n, future = waiting.popleft()
        key, result, is_new = future.result()
        submit(1)
        if is_new:
            journal.put(key, result)
        yield index, n, key, result


def _work(job: Job) -> Iterator[tuple[int, tuple[Rows, ...]]]:
    for index, (source, types) in enumerate(zip(job.sources, job.allowed, strict=True)):
        for piece in pieces(sample_rows(source.tensor, types, job.settings.n_rows), source.tensor.n_cols):
            yield index, piece


def _piece(
    source: Source, rows: tuple[Rows, ...], types: Sequence[str], journal: Journal
) -> tuple[str, dict[str, list[float]], bool]:
    """Key of the piece, sums under each type and version of its encoder, and whether any of them is new."""
    packed = source.read(rows)
    matrices = sorted({some.matrix for some in rows})
    weights = [source.columns(matrix).tobytes() for matrix in matrices]
    layout = [(some.matrix, some.n) for some in rows]
    key = key_of("errors", source.tensor.type, source.tensor.n_cols, layout, packed.data.cast("B"), *weights)
    known: dict[str, list[float]] = journal.get(key) or {}
    missing = [name for name in types if _versioned(name) not in known]
    if not missing:
        return key, known, False
    sums = errors(source, rows, packed, missing)
    # A type that these weights overflow is known, too: to have no figures.
    fresh = {_versioned(name): list(_figures(sums.get(name))) for name in missing}
    return key, known | fresh, True


def _versioned(name: str) -> str:
    return f"{name}/{codec_of(name).version}"


def _figures(sums: Sums | None) -> tuple[float, ...]:
    return () if sums is None else (sums.xx, sums.xd, sums.dd)


def _tensor(
    source: Source, types: Sequence[str], parts: Sequence[dict[str, list[float]]], n_rows: int
) -> MeasuredTensor:
    t = source.tensor
    trials = []
    for name in types:
        figures = [part[_versioned(name)] for part in parts]
        if all(figures):
            sums = total([Sums(*some) for some in figures])
            trials.append(Trial(name, get(name).nbytes(t.shape), sums.error, sums.cosine))
    return MeasuredTensor(t.name, t.shape, n_rows, tuple(trials), None)
