"""Everything that can be refused before the output exists."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path

import numpy as np

from qxmix import system
from qxmix.container.weights import require_weights
from qxmix.container.whole_file import EXISTS
from qxmix.errors import ModelFileError, PlanError, Problem, RunError
from qxmix.execute.output import DEVICE, FOLDER, Output, decimal, explain
from qxmix.lint import examined, refused
from qxmix.plan import Plan


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output that somebody asks for."""

    plan: Plan
    target: Output
    overwrite: bool = False
    """Whether it may replace what has its name."""


def preflight(outputs: Sequence[Wanted], *, strict: bool = False) -> None:
    """Refuse what would fail later, for outputs that are made of one model together; nothing is created.

    Raises:
        PlanError: a plan has errors (under ``strict`` warnings count, too), or names a type that cannot be written.
        ModelFileError: a source changed since its header was read, or an importance matrix has bad values.
        RunError: an output is an input or another output, exists, cannot be written, or they do not fit on the disk.

    """
    problems = (examined(o.plan).problems if strict else o.plan.problems for o in outputs)
    if policy := [p for found in problems for p in refused(found, strict=strict)]:
        raise PlanError(policy)
    plans = [o.plan for o in outputs]
    require_weights(plans[0].header)
    _refuse_other_models(plans)
    inputs = [*_bad_sources(plans[0]), *chain.from_iterable(map(_bad_importances, plans))]
    if inputs:
        raise ModelFileError(list(dict.fromkeys(inputs)))
    _refuse_same_names(outputs)
    for output in outputs:
        _refuse_other_kinds(output.target)
        _refuse_inputs(plans, output.target)
    present = [next(filter(Path.exists, o.target.finals), None) for o in outputs if not o.overwrite]
    if exist := [Problem(str(path), EXISTS) for path in present if path is not None]:
        raise RunError(exist)
    _refuse_full([(o, _refuse_folder(o.target.journal.parent)) for o in outputs])


def _refuse_other_models(plans: Sequence[Plan]) -> None:
    for plan in plans[1:]:
        if plan.header.paths != plans[0].header.paths or len(plan.tensors) != len(plans[0].tensors):
            text = f"is another model than {plans[0].header.path}; what is made together is made of one model"
            raise ModelFileError.at(plan.header.path, text)


def _refuse_same_names(outputs: Sequence[Wanted]) -> None:
    """Two recipes must not write one file."""
    of: dict[str, Plan] = {}
    for o in outputs:
        for path in (*o.target.finals, *o.target.partials, o.target.journal):
            other = of.setdefault(system.name_key(path), o.plan)
            if other is not o.plan:
                raise RunError.at(o.target.finals[0], _told_twice(other, o.plan))


def _told_twice(first: Plan, second: Plan) -> str:
    recipes = first.recipe, second.recipe
    if recipes[0].path == recipes[1].path and first.tensors == second.tensors:
        return f"would be written twice: {recipes[0].sources[0].name} is given two times; leave one out"
    both = f"{recipes[0].path} and {recipes[1].path}"
    return f"would be written by two recipes, {both}; give one of them another name ('name:' in the recipe)"


def _bad_sources(plan: Plan) -> Iterable[Problem]:
    for path, nbytes in zip(plan.header.paths, plan.header.file_nbytes, strict=True):
        try:
            found = path.stat().st_size
            readable = os.access(path, os.R_OK)
        except OSError as error:
            yield Problem(str(path), f"{error.strerror}; it was there when its header was read")
            continue
        if found != nbytes:
            yield Problem(str(path), f"has {found:,} bytes now and had {nbytes:,} when its header was read; plan again")
        elif not readable:
            yield Problem(str(path), "may not be read; check its permissions")


def _bad_importances(plan: Plan) -> Iterable[Problem]:
    if plan.imatrix is None:
        return
    where = plan.imatrix.path
    for tensor in plan.tensors:
        if tensor.importance is None or tensor.action == "copy":
            continue
        values = plan.imatrix.entries[tensor.importance]
        n_cols, n_matrices = tensor.source.n_cols, tensor.source.n_matrices
        if len(values) not in {n_cols, n_cols * n_matrices}:
            text = f"has {len(values):,} values; {tensor.name} needs {n_matrices} x {n_cols:,}"
            yield Problem(f"{where}: {tensor.importance}", text)
        bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
        if len(bad):
            text = (
                f"value {bad[0]} is {values[bad[0]]} ({len(bad)} such values); an importance is finite and not"
                " negative. Measure the matrix again"
            )
            yield Problem(f"{where}: {tensor.importance}", text)


def _refuse_other_kinds(output: Output) -> None:
    """Whatever stands under a name of the output must be a file: a device would be replaced by one."""
    for path in (*output.finals, *output.partials, output.journal):
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise RunError.at(path, explain(error)) from error
        if stat.S_ISDIR(mode):
            raise RunError.at(path, FOLDER)
        if not stat.S_ISREG(mode):
            raise RunError.at(path, DEVICE)


def _refuse_inputs(plans: Sequence[Plan], output: Output) -> None:
    inputs = [(path, "the model") for path in plans[0].header.paths]
    inputs += [(plan.imatrix.path, "the importance matrix") for plan in plans if plan.imatrix is not None]
    inputs += [(plan.moments.path, "the moments file") for plan in plans if plan.moments is not None]
    inputs += [(plan.recipe.path, "the recipe") for plan in plans]
    for written in (*output.finals, *output.partials, output.journal):
        for path, what in dict.fromkeys(inputs):
            # By device and inode: another name of the same file, a hard link or a symbolic link, counts.
            if written.exists() and path.exists() and written.samefile(path):
                raise RunError.at(written, f"is {what} itself ({path}), and would be destroyed; give another -o")


def _refuse_folder(folder: Path) -> Path:
    """The folder of the output, or its nearest parent that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise RunError.at(folder, "is a file, and the output would be inside it; give another -o")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RunError.at(folder, "may not be written to; give an -o elsewhere, or change its permissions")
    return folder


def _refuse_full(outputs: Sequence[tuple[Wanted, Path]]) -> None:
    """Refuse what the disks have no room for; ``outputs`` are given with the folder whose disk they need."""
    for _, group in groupby(sorted(outputs, key=_device), key=_device):
        here = list(group)
        folder = here[0][1]
        try:
            disk = shutil.disk_usage(folder)
        except OSError:
            continue  # reserving the space tells, too
        if not disk.total:  # a file system that does not say, as some of FUSE
            continue
        # What an interrupted apply has reserved is not needed twice.
        reserved = sum(system.reserved_nbytes(p.stat()) for o, _ in here for p in o.target.partials if p.exists())
        needed, free = sum(o.plan.file_nbytes for o, _ in here), disk.free + reserved
        if needed > free:
            text = f"{decimal(needed)} are needed and {decimal(free)} are free; free some, or give an -o"
            raise RunError.at(folder, text + " on another disk")


def _device(output: tuple[Wanted, Path]) -> int:
    return output[1].stat().st_dev
