"""Options that say how an output is split into files."""

from __future__ import annotations

import click

from qxmix.cli.bundle import bundled
from qxmix.cli.sizes import FILE_SIZE
from qxmix.plan import Split


def _split(*, split_max_size: int | None, split_max_tensors: int | None, keep_split: bool, bare_first: bool) -> Split:
    """The split that the options ask for.

    Raises:
        click.UsageError: to keep the split and to make another, or a first file where there is but one.

    """
    if bare_first and not (split_max_size or split_max_tensors):
        raise click.UsageError("--no-tensor-first-split is about a split; give --split-max-size or --split-max-tensors")
    if keep_split and (split_max_size or split_max_tensors):
        raise click.UsageError("--keep-split and --split-max-... exclude each other")
    return Split(split_max_size, split_max_tensors, keep_split, bare_first)


split_options = bundled(
    "split",
    _split,
    click.option(
        "--split-max-size", type=FILE_SIZE, help="Most bytes of a file: 24GB, 350GiB, or hub (200GB, as the hub asks)."
    ),
    click.option("--split-max-tensors", type=click.IntRange(min=1), help="Most tensors of a file."),
    click.option("--keep-split", is_flag=True, help="Split the output as the model is split."),
    click.option(
        "--no-tensor-first-split", "bare_first", is_flag=True, help="Metadata alone in the first of the files."
    ),
)
"""The options that say how the output is split; the command gets a ``split``."""
