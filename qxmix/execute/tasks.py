"""From a plan to its tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from qxmix.container.imatrix import Imatrix
from qxmix.container.moments import Moments
from qxmix.execute.digests import Leaf, leaves
from qxmix.execute.factors import MomentsOf
from qxmix.execute.task import Bundle, Task
from qxmix.plan import Plan, PlannedTensor
from qxmix.planning.memory import Chunking, Memory
from qxmix.quants.codec import SEARCHES


def make_tasks(plan: Plan, targets: Sequence[Path], chunking: Chunking, run: str) -> Iterator[Task]:
    """All tasks of a plan in file order, made one by one: a large model has hundreds of thousands."""
    memory = Memory((plan,), chunking)
    for tensor_index, tensor in enumerate(plan.tensors):
        action = tensor.action if tensor.nbytes else "copy"
        rows = memory.step_rows(tensor_index)
        source = str(plan.header.paths[tensor.source.shard].absolute())
        target = str(targets[tensor.shard])
        n_rows = tensor.source.n_rows * tensor.source.n_matrices
        for leaf_index, leaf in enumerate(leaves(tensor.source, tensor.source.nbytes)):
            written = _scaled(leaf, tensor.nbytes, n_rows, tensor.source.nbytes)
            yield Task(
                tensor=tensor_index,
                leaf=leaf_index,
                name=tensor.name,
                action=action,
                source=source,
                source_offset=tensor.source.offset + leaf.offset,
                source_nbytes=leaf.nbytes,
                model_nbytes=leaf.nbytes,
                target=target,
                target_offset=tensor.offset + written[0],
                target_nbytes=written[1],
                source_type=tensor.source_type,
                type=tensor.type,
                n_cols=tensor.source.n_cols,
                first_row=leaf.first_row,
                n_rows=leaf.n_rows,
                importance=_importance(plan.imatrix, tensor, leaf),
                search=SEARCHES.index(tensor.search or SEARCHES[0]),
                moments=_moments(plan.moments, tensor, leaf),
                symmetric=tensor.symmetric,
                scale=_factor(tensor),
                step_rows=rows,
                measure=chunking.measure and action == "encode",
                run=run,
            )


def make_bundles(plans: Sequence[Plan], streams: Sequence[Iterable[Task]], chunking: Chunking) -> Iterator[Bundle]:
    """The tasks of several plans for one model, leaf by leaf: how a tensor is cut up follows from its shape alone.

    Args:
        plans: The plans.
        streams: All tasks of each.
        chunking: How they were cut up.

    """
    memory, steps = Memory(plans, chunking), dict[int, int]()
    for bundle in zip(*streams, strict=True):
        index = bundle[0].tensor
        if index not in steps:
            steps = {index: memory.step_rows(index)}
        step = steps[index]
        yield tuple(task if task.step_rows == step else replace(task, step_rows=step) for task in bundle)


def _moments(moments: Moments | None, tensor: PlannedTensor, leaf: Leaf) -> MomentsOf | None:
    """Where a leaf's worker finds second moments; None: it needs none."""
    if moments is None or tensor.feedback is None:
        return None
    name = tensor.feedback.entry
    matrix = leaf.first_row // tensor.source.n_rows
    path = str(moments.path.absolute())
    return MomentsOf(path, name, moments.entries[name], matrix, moments.digests[name], tensor.feedback.options)


def _factor(tensor: PlannedTensor) -> float | None:
    assert tensor.scale != "auto", "factors are found before there are tasks"
    return tensor.scale


def refuse_too_little_memory(plans: Sequence[Plan], chunking: Chunking) -> None:
    """Refuse a bound on memory under which some tensor cannot be made for all plans at once.

    Raises:
        PlanError: naming the first such tensor and what it needs.

    """
    memory = Memory(plans, chunking)
    for index in range(len(plans[0].tensors)):
        memory.step_rows(index)


def reading_target(task: Task, n_rows: int | None = None) -> Task:
    """The task that hashes what another one has written; of mere bytes, in which no scale is looked at, 0 rows."""
    return replace(
        task,
        action="hash",
        source=task.target,
        source_offset=task.target_offset,
        source_nbytes=task.target_nbytes,
        source_type=task.type,
        n_rows=task.n_rows if n_rows is None else n_rows,
    )


def _scaled(leaf: Leaf, nbytes: int, n_rows: int, source_nbytes: int) -> tuple[int, int]:
    """Offset and size of a leaf in the output, from the tensor's sizes."""
    if nbytes == source_nbytes:
        return leaf.offset, leaf.nbytes
    row = nbytes // n_rows
    return leaf.first_row * row, leaf.n_rows * row


def _importance(imatrix: Imatrix | None, tensor: PlannedTensor, leaf: Leaf) -> bytes:
    if tensor.counts_alike:
        return np.ones(tensor.source.n_cols, np.float32).tobytes()
    if imatrix is None or tensor.importance is None or tensor.action == "copy":
        return b""
    values = imatrix.entries[tensor.importance]
    n_cols = tensor.source.n_cols
    # One run of columns for all matrices, or one for each.
    matrix = leaf.first_row // tensor.source.n_rows if len(values) > n_cols else 0
    return values[matrix * n_cols : (matrix + 1) * n_cols].tobytes()
