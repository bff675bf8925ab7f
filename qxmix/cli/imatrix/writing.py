"""What the commands that write a matrix share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from qxmix.cli.inputs import FILE
from qxmix.cli.overwriting import check_place
from qxmix.cli.streams import notice
from qxmix.container.source import show_path

if TYPE_CHECKING:
    from qxmix.container.imatrix import Imatrix


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``-o``, ``--overwrite`` and ``--chunk-size``."""
    for option in (
        click.option(
            "--chunk-size", default=512, show_default=True, type=click.IntRange(min=1),
            help="Tokens per chunk of legacy files, which do not say it.",
        ),
        click.option("--overwrite", is_flag=True, help="Replace an output that exists."),
        click.option(
            "-o", "--output", required=True, type=FILE, help="File to write, .gguf or .dat."
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse a name of unknown format or in use, before anything is read.

    Raises:
        RunError: it is one.

    """
    from qxmix.container.imatrix_write import format_of  # noqa: PLC0415 - NumPy
    from qxmix.container.whole_file import refuse_existing  # noqa: PLC0415

    check_place(str(output), "-o")
    format_of(output)
    refuse_existing(output, overwrite=overwrite)


def write_converted(
    imatrix: Imatrix, output: Path, chunk_size: int, stated: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Say what the format cannot hold, then write, with what it says of its making where it can hold that."""
    from qxmix.container.imatrix_write import format_of, write_imatrix  # noqa: PLC0415 - NumPy
    from qxmix.importance.convert import converted, losses  # noqa: PLC0415

    to = format_of(output)
    for text in losses(imatrix, to, chunk_size):
        notice(f"Note: {text}")
    write_imatrix(converted(imatrix, to, chunk_size), output, stated)
    click.echo(f"{show_path(output)}: {len(imatrix.entries):,} entries, {imatrix.n_chunks:,} chunks")
