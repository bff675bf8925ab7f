"""Carrying out a reuse: hash the sources, look their keys up, copy what is found, compare."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from qxmix.errors import Problem
from qxmix.execute import digests
from qxmix.execute.reuse import tensor_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from qxmix.execute.reuse import Older, Stored
    from qxmix.execute.task import Task, TaskResult
    from qxmix.plan import Plan


@dataclass(frozen=True, slots=True)
class TakenOver:
    """What a reuse came to."""

    leaves: set[tuple[int, int]] = field(default_factory=set)
    """Tensor and leaf of all that need not be made."""
    tensors: set[int] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    """Copies that turned out to be damaged."""


def take_over_unchanged(
    plan: Plan,
    older: Older,
    candidates: set[int],
    tasks: Callable[[], Iterator[Task]],
    drive: Callable[[Iterable[Task], Callable[[Task, TaskResult], None]], None],
    on_result: Callable[[Task, TaskResult], None],
) -> TakenOver:
    """Fill all of ``candidates`` (indices of tensors) whose key is found.

    Args:
        plan: What is applied.
        older: Where to look.
        candidates: Tensors of a kind that occurs there.
        tasks: Makes the tasks of the plan.
        drive: Runs tasks.
        on_result: Told of each leaf of a tensor that was copied whole.

    """
    sources: dict[int, dict[int, bytes]] = defaultdict(dict)

    def note_source(task: Task, result: TaskResult) -> None:
        sources[task.tensor][task.leaf] = result.source_digest

    drive((replace(t, action="hash") for t in tasks() if t.tensor in candidates), note_source)
    found = {i: s for i in candidates if (s := _look_up(plan, older, i, sources[i])) is not None}
    copied: dict[int, dict[int, tuple[Task, TaskResult]]] = defaultdict(dict)
    taken = TakenOver()

    def note_copy(task: Task, result: TaskResult) -> None:
        index = task.tensor
        copied[index][task.leaf] = task, replace(result, source_digest=sources[index][task.leaf])
        if len(copied[index]) < len(sources[index]):
            return
        parts = [pair for _, pair in sorted(copied.pop(index).items())]
        if digests.combine(r.digest for _, r in parts).hex() != found[index].sha256:
            taken.problems.append(_damaged(plan.tensors[index].name, found[index]))
            return
        taken.tensors.add(index)
        for part, leaf in parts:
            taken.leaves.add((index, part.leaf))
            on_result(part, leaf)

    drive((_copying(plan, t, found[t.tensor]) for t in tasks() if t.tensor in found), note_copy)
    return taken


def _look_up(plan: Plan, older: Older, index: int, leaves: dict[int, bytes]) -> Stored | None:
    source = digests.combine(digest for _, digest in sorted(leaves.items())).hex()
    tensor = plan.tensors[index]
    stored = older.by_key.get(tensor_key(plan, tensor, source))
    # A cached file that was cut short cannot be read to its end; one of the right length is judged by its digest.
    try:
        whole = stored is not None and stored.path.stat().st_size >= stored.offset + tensor.nbytes
    except OSError:  # another apply deleted it, or the file system is gone: it is made anew
        return None
    return stored if whole else None


def _copying(plan: Plan, task: Task, stored: Stored) -> Task:
    return replace(
        task,
        action="copy",
        source=str(stored.path.absolute()),
        source_offset=stored.offset + task.target_offset - plan.tensors[task.tensor].offset,
        source_nbytes=task.target_nbytes,
        source_type=task.type,
    )


def _damaged(name: str, stored: Stored) -> Problem:
    if stored.cached:
        with suppress(OSError):  # a cache that may be read and not written
            stored.path.unlink(missing_ok=True)
    text = f"the copy in {stored.path} is damaged; the tensor was made anew"
    return Problem(name, text, "warning", "reuse-damaged")
