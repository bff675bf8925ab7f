"""Checking an output afterwards: that it is what was written, and that its recipe makes it from the model again."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import replace
from hashlib import sha256
from itertools import chain
from os import PathLike
from typing import NamedTuple

from qxmix import provenance
from qxmix.container.imatrix import Imatrix
from qxmix.container.imatrix_load import load_imatrix
from qxmix.container.model import ModelHeader, TensorInfo
from qxmix.container.moments import Moments
from qxmix.container.moments_load import load_moments
from qxmix.errors import ModelFileError, Problem
from qxmix.execute import digests, kernels
from qxmix.execute.carried import (
    other_metadata,
    refuse_carried_over,
    tensor_tasks,
    told_of_another_file,
    written_digests,
)
from qxmix.execute.drive import drive
from qxmix.execute.find_factors import find_factors
from qxmix.execute.pool import Pool
from qxmix.execute.result import OnProgress, Progress
from qxmix.execute.task import Task, TaskResult
from qxmix.execute.tasks import make_tasks
from qxmix.execute.workers import open_pool
from qxmix.measurement.lattice import Kept
from qxmix.plan import Plan, make_plan
from qxmix.planning import effort
from qxmix.planning.memory import Chunking
from qxmix.recipe.load import load_recipe_text
from qxmix.recipe.model import Recipe


class Verification(NamedTuple):
    """What a verification found."""

    n_tensors: int
    """Tensors whose digests were compared."""
    n_leaves: int
    """Pieces that were made from the model again."""
    n_all_leaves: int
    """Pieces the output has."""
    problems: tuple[Problem, ...]
    """What is not as it should be; empty for an output that holds."""
    plan: Plan | None = None
    """What its recipe makes of the model; None where there was none."""
    lattices: tuple[Kept, ...] = ()
    """What it has of lattices, where that was asked for."""


def recipe_of(header: ModelHeader) -> Recipe:
    """The recipe that an output was made with.

    Raises:
        ModelFileError: the file carries none, or that of another file.
        RecipeError: its recipe is of a newer qxmix.

    """
    recipe = _recipe_in(header)
    refuse_carried_over(header)
    return recipe


def _recipe_in(header: ModelHeader) -> Recipe:
    text, digest = header.get(provenance.RECIPE), header.get(provenance.RECIPE_SHA256)
    if not isinstance(text, str) or not text:
        raise ModelFileError.at(header.path, "carries no recipe; it was not written by `qxmix apply`")
    recipe = load_recipe_text(text, f"{header.path}: {provenance.RECIPE}")
    return replace(recipe, sha256=str(digest)) if digest else recipe


def verify(
    header: ModelHeader,
    source: ModelHeader | None = None,
    imatrix: str | PathLike[str] | None = None,
    moments: str | PathLike[str] | None = None,
    *,
    every: bool = False,
    n_workers: int | None = None,
    executor: str = "threads",
    on_progress: OnProgress = lambda _progress: None,
) -> Verification:
    """Compare an output with the digests it carries and, given the model, with what its recipe makes of it.

    Args:
        header: The output.
        source: The model it was made from; None compares digests only.
        imatrix: Path of the importance matrix, if one was used.
        moments: Path of the moments' file, if one was used.
        every: Make everything again, not one piece of each tensor.
        n_workers: Workers; None for one per processor.
        executor: As for ``apply``.
        on_progress: Called after each piece.

    Raises:
        ModelFileError: the output carries no digests, or the importance matrix or the moments are others.

    """
    expected = written_digests(header)
    plan = _plan_again(header, source, imatrix, moments) if source is not None else None
    if plan is not None:
        kernels.warm(plan)
    with open_pool(executor, n_workers) as pool:
        run = _Verifying(header, pool, on_progress)
        problems = run.compare(expected)
        leaves = _chosen(plan, every=every) if plan is not None else set()
        if plan is not None:
            problems += other_metadata(header, plan)
            problems += run.derive(plan, leaves)
    return Verification(len(header.tensors), len(leaves), run.n_leaves, tuple(problems), plan)


class _Verifying:
    """One verification."""

    def __init__(self, header: ModelHeader, pool: Pool, on_progress: OnProgress) -> None:
        self.header, self.pool, self.on_progress = header, pool, on_progress
        self.name = uuid.uuid4().hex
        self.found: dict[str, tuple[bytes, ...]] = {}
        """Digests of the output's leaves, by tensor."""
        self.done_nbytes = 0
        self.total_nbytes = sum(t.nbytes for t in header.tensors)

    @property
    def n_leaves(self) -> int:
        """Pieces the output has."""
        return sum(map(len, self.found.values()))

    def compare(self, expected: dict[str, str]) -> list[Problem]:
        """Hash the output's tensors and compare with the digests it carries."""
        parts = digests.Gathered[bytes](self.header.tensors)

        def note(task: Task, result: TaskResult) -> None:
            whole = parts.add(task.tensor, task.leaf, result.digest)
            if whole is not None:
                self.found[task.name] = whole
            self.done_nbytes += task.source_nbytes
            self.on_progress(Progress("hash", self.done_nbytes, self.total_nbytes, task.name))

        drive(_hash_tasks(self.header, self.name), self.pool, self.name, note)
        shards = {tensor.name: self.header.paths[tensor.shard].name for tensor in self.header.tensors}
        damaged = [
            Problem(name, f"its data in {shards[name]} are not what was written; copy the file again")
            for name, leaves in self.found.items()
            if digests.combine(leaves).hex() != expected[name]
        ]
        another = told_of_another_file(self.header, (str(p.where) for p in damaged))
        if another is not None:
            return [another]
        root = digests.root((n, bytes.fromhex(d)) for n, d in expected.items())
        if root != self.header.get(provenance.DATA_SHA256):
            damaged.append(Problem(str(self.header.path), "the digests it carries contradict each other"))
        return damaged

    def derive(self, plan: Plan, leaves: set[tuple[int, int]]) -> list[Problem]:
        """Make the chosen leaves again and compare their digests with the output's."""
        different: dict[str, Problem] = {}
        self.done_nbytes, self.total_nbytes = 0, sum(t.source.nbytes for t in plan.tensors)
        efforts = [effort.per_byte(t) for t in plan.tensors]
        done, total = 0.0, sum(map(effort.seconds, plan.tensors)) or 1.0

        def note(task: Task, result: TaskResult) -> None:
            nonlocal done
            if result.digest != self.found[task.name][task.leaf]:
                where = f"from row {task.first_row} on" if task.n_rows else f"from byte {task.source_offset} on"
                text = f"{where} the recipe makes other bytes of this model than the output has"
                different.setdefault(task.name, Problem(task.name, text))
            self.done_nbytes += task.model_nbytes
            done += efforts[task.tensor] * task.model_nbytes
            self.on_progress(Progress("derive", self.done_nbytes, self.total_nbytes, task.name, done / total))

        chunking = Chunking(n_workers=self.pool.n_workers)
        tasks = make_tasks(plan, [self.header.path] * len(plan.files), chunking, self.name)
        chosen = (t for t in tasks if (t.tensor, t.leaf) in leaves)
        drive(map(_without_writing, chosen), self.pool, self.name, note)
        return list(different.values())


def _hash_tasks(header: ModelHeader, run: str) -> Iterator[Task]:
    """Tasks that hash every leaf of a model."""
    return chain.from_iterable(tensor_tasks(header, i, run) for i in range(len(header.tensors)))


def _without_writing(task: Task) -> Task:
    return replace(task, action="derive" if task.action == "encode" else "hash")


def _plan_again(
    header: ModelHeader,
    source: ModelHeader,
    imatrix_path: str | PathLike[str] | None,
    moments_path: str | PathLike[str] | None,
) -> Plan:
    imatrix, moments = _imatrix_again(header, imatrix_path), _moments_again(header, moments_path)
    plan = make_plan(_recipe_in(header), source, imatrix, moments=moments)
    _refuse_other_plan(header, plan)
    return find_factors(plan)


def _moments_again(header: ModelHeader, path: str | PathLike[str] | None) -> Moments | None:
    needed = header.get(provenance.MOMENTS_SHA256)
    if path is None:
        if needed:
            text = f"was made with moments whose SHA-256 starts with {str(needed)[:12]}; give their file: --moments"
            raise ModelFileError.at(header.path, text)
        return None
    moments = load_moments(path)
    if moments.sha256 != needed:
        text = (
            f"has other moments ({moments.sha256[:12]}) than the output was made with ({str(needed)[:12]})"
            if needed
            else "was not used for this output; leave out --moments"
        )
        raise ModelFileError.at(path, text)
    return moments


def _imatrix_again(header: ModelHeader, path: str | PathLike[str] | None) -> Imatrix | None:
    needed, name = header.get(provenance.IMATRIX_SHA256), header.get(provenance.IMATRIX_FILE)
    if needed and path is None:
        raise ModelFileError.at(header.path, f"was made with the importance matrix {name}; give it: --imatrix")
    imatrix = load_imatrix(path) if path is not None else None
    if imatrix is not None and imatrix.sha256 != needed:
        text = (
            f"is another importance matrix ({imatrix.sha256[:12]}) than {name}, which the output was made with"
            f" ({str(needed)[:12]})"
        )
        raise ModelFileError.at(path, text if needed else "was not used for this output; leave out --imatrix")
    return imatrix


def _refuse_other_plan(header: ModelHeader, plan: Plan) -> None:
    there = {t.name: _facts(t.type, t) for t in header.tensors}
    planned = {t.name: _facts(t.type, t.source) for t in plan.tensors}
    problems = [
        Problem(name, f"the output has {there.get(name, 'no such tensor')}, the plan {planned.get(name, 'none')}")
        for name in {**there, **planned}
        if there.get(name) != planned.get(name)
    ]
    if problems:
        raise ModelFileError([Problem(str(header.path), "was not made from this model by its recipe"), *problems[:10]])


def _facts(type_name: str, tensor: TensorInfo) -> str:
    return f"{type_name} {' x '.join(map(str, tensor.shape))}"


def _chosen(plan: Plan, *, every: bool) -> set[tuple[int, int]]:
    """Tensor and leaf of what is made again: everything, or one leaf of each tensor, picked by the tensor's name."""
    chosen: set[tuple[int, int]] = set()
    for i, tensor in enumerate(plan.tensors):
        n = len(digests.leaves(tensor.source, tensor.source.nbytes))
        picked: Iterable[int] = range(n) if every else [int(sha256(tensor.name.encode()).hexdigest(), 16) % n]
        chosen.update((i, k) for k in picked)
    return chosen
