"""Everything that can be refused before the output exists."""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

import numpy as np

from qxmix.container.weights import require_weights
from qxmix.errors import ModelFileError, PlanError, Problem, RunError
from qxmix.execute.output import decimal, explain
from qxmix.lint import examined, refused

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from qxmix.execute.output import Output
    from qxmix.plan import Plan


def preflight(plan: Plan, output: Output, *, overwrite: bool = False, strict: bool = False) -> None:
    """Refuse what would fail later; nothing is created.

    Raises:
        PlanError: the plan has errors (under ``strict`` warnings count, too), or names a type that cannot be written.
        ModelFileError: a source changed since its header was read, or the importance matrix has bad values.
        RunError: the output is an input, exists, cannot be written, or does not fit on the disk.

    """
    if policy := refused((examined(plan) if strict else plan).problems, strict=strict):
        raise PlanError(policy)
    require_weights(plan.header)
    inputs = list(_bad_sources(plan)) + list(_bad_importances(plan))
    if inputs:
        raise ModelFileError(inputs)
    _refuse_other_kinds(output)
    _refuse_inputs(plan, output)
    if not overwrite:
        present = [p for p in output.finals if p.exists()]
        if present:
            raise RunError(Problem(str(present[0]), "exists already; give --overwrite to replace it, or another -o"))
    folder = _refuse_folder(output.journal.parent)
    _refuse_full(plan, output, folder)


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
            raise RunError(Problem(str(path), explain(error))) from error
        if stat.S_ISDIR(mode):
            raise RunError(Problem(str(path), "is a folder; give the name of a file"))
        if not stat.S_ISREG(mode):
            raise RunError(Problem(str(path), "is a device, pipe or socket; give the name of a file"))


def _refuse_inputs(plan: Plan, output: Output) -> None:
    inputs = [(path, "the model") for path in plan.header.paths]
    if plan.imatrix is not None:
        inputs.append((plan.imatrix.path, "the importance matrix"))
    inputs.append((plan.recipe.path, "the recipe"))
    for written in (*output.finals, *output.partials, output.journal):
        for path, what in inputs:
            # By device and inode: another name of the same file, a hard link or a symbolic link, counts.
            if written.exists() and path.exists() and written.samefile(path):
                text = f"is {what} itself ({path}), and would be destroyed; give another -o"
                raise RunError(Problem(str(written), text))


def _refuse_folder(folder: Path) -> Path:
    """The folder of the output, or its nearest parent that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise RunError(Problem(str(folder), "is a file, and the output would be inside it; give another -o"))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RunError(Problem(str(folder), "may not be written to; give an -o elsewhere, or change its permissions"))
    return folder


def _refuse_full(plan: Plan, output: Output, folder: Path) -> None:
    try:
        disk = shutil.disk_usage(folder)
    except OSError:
        return  # reserving the space tells, too
    if not disk.total:  # a file system that does not say, as some of FUSE
        return
    # What an interrupted apply has reserved is not needed twice.
    reserved = sum(p.stat().st_blocks * 512 for p in output.partials if p.exists())
    free = disk.free + reserved
    if plan.file_nbytes > free:
        text = f"{decimal(plan.file_nbytes)} are needed and {decimal(free)} are free; free some, or give an -o"
        raise RunError(Problem(str(folder), text + " on another disk"))
