"""How far the weights of one file are from those of another: an output, whoever wrote it, and what it was made from."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator
from math import lcm

from qxmix.container.imatrix import Imatrix, find_importance
from qxmix.container.model import ModelHeader, TensorInfo
from qxmix.container.weights import require_weights
from qxmix.errors import ModelFileError, Problem
from qxmix.execute.deviation import Deviation, Moved, total
from qxmix.execute.digests import Leaf, leaves
from qxmix.execute.drive import drive
from qxmix.execute.result import OnProgress, Progress
from qxmix.execute.task import Task, TaskResult
from qxmix.execute.workers import open_pool
from qxmix.planning.importance import is_exempt
from qxmix.planning.memory import CHUNK_NBYTES

Pair = tuple[TensorInfo, TensorInfo]


def moved_weights(
    output: ModelHeader,
    source: ModelHeader,
    imatrix: Imatrix | None = None,
    *,
    n_workers: int | None = None,
    executor: str = "threads",
    on_progress: OnProgress = lambda _progress: None,
) -> tuple[Moved, ...]:
    """Compare all tensors of ``output`` whose type is another in ``source``, in the order of the output.

    Args:
        output: The file whose weights are judged.
        source: The file that they are held against.
        imatrix: Importances for the weighted error; as in an apply none for embeddings and output.
        n_workers: Workers; None for one per processor.
        executor: As for ``apply``.
        on_progress: Called after each piece.

    Raises:
        ModelFileError: a file is a header alone, or a tensor is not in ``source`` with the same shape, or is of a type
            that qxmix cannot decode.
        RunError: a file cannot be read.

    """
    require_weights(output)
    require_weights(source)
    pairs = _pairs(output, source)
    parts: dict[int, dict[int, Deviation]] = defaultdict(dict)
    total_nbytes, done_nbytes = sum(before.nbytes for _, before in pairs), 0
    run = uuid.uuid4().hex

    def note(task: Task, result: TaskResult) -> None:
        nonlocal done_nbytes
        assert result.deviation is not None
        parts[task.tensor][task.leaf] = result.deviation
        done_nbytes += task.source_nbytes
        on_progress(Progress("measure", done_nbytes, total_nbytes, task.name))

    with open_pool(executor, n_workers) as pool:
        tasks = (task for i, pair in enumerate(pairs) for task in _tasks(i, pair, (output, source), imatrix, run))
        drive(tasks, pool, run, note)
    return tuple(
        Moved(after.name, before.type, after.type, total([d for _, d in sorted(parts[i].items())]))
        for i, (after, before) in enumerate(pairs)
    )


def _pairs(output: ModelHeader, source: ModelHeader) -> list[Pair]:
    before = {t.name: t for t in source.tensors}
    pairs, problems, foreign = [], [], []
    for after in output.tensors:
        other = before.get(after.name)
        if other is None or other.shape != after.shape:
            said = "has no such tensor" if other is None else f"has it in the shape {_by(other)} and not {_by(after)}"
            foreign.append((after.name, f"{source.path} {said}"))
        elif after.type != other.type and after.nbytes:
            unknown = next((t for t in (after, other) if t.quant_type is None or not t.quant_type.codec), None)
            if unknown is not None:
                problems.append(Problem(f"{output.path}: {after.name}", f"qxmix cannot decode {unknown.type}"))
            pairs.append((after, other))
    if foreign:
        name, said = foreign[0]
        more = f", and {len(foreign) - 1:,} more tensors do not fit" if len(foreign) > 1 else ""
        raise ModelFileError.at(
            f"{output.path}: {name}", f"{said}{more}; is {output.path.name} made from another model?"
        )
    if problems:
        raise ModelFileError(problems)
    return pairs


def _by(tensor: TensorInfo) -> str:
    return " x ".join(map(str, tensor.shape))


def _tasks(
    index: int, pair: Pair, headers: tuple[ModelHeader, ModelHeader], imatrix: Imatrix | None, run: str
) -> Iterator[Task]:
    """Tasks that decode a tensor's rows in both files and compare them, leaf by leaf."""
    after, before = pair
    group = lcm(*(t.quant_type.row_group for t in pair if t.quant_type))
    rows = max(1, CHUNK_NBYTES // (4 * after.n_cols * group)) * group
    target, source = (str(h.paths[t.shard].absolute()) for h, t in zip(headers, pair, strict=True))
    leaf_pairs = zip(leaves(after, after.nbytes), leaves(before, before.nbytes), strict=True)
    for i, (written, leaf) in enumerate(leaf_pairs):
        yield Task(
            tensor=index, leaf=i, name=after.name, action="measure", source=source,
            source_offset=before.offset + leaf.offset, source_nbytes=leaf.nbytes, model_nbytes=leaf.nbytes,
            target=target, target_offset=after.offset + written.offset, target_nbytes=written.nbytes,
            source_type=before.type, type=after.type, n_cols=after.n_cols, first_row=leaf.first_row,
            n_rows=leaf.n_rows, importance=_importance(imatrix, after, leaf), step_rows=rows, run=run,
        )  # fmt: skip


def _importance(imatrix: Imatrix | None, tensor: TensorInfo, leaf: Leaf) -> bytes:
    entry = None if imatrix is None or is_exempt(tensor) else find_importance(imatrix, tensor).entry
    if imatrix is None or entry is None:
        return b""
    matrix = leaf.first_row // tensor.n_rows
    return imatrix.entries[entry][matrix * tensor.n_cols : (matrix + 1) * tensor.n_cols].tobytes()
