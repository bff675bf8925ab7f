"""``qxmix imatrix convert``: the same matrix in the other format."""

from __future__ import annotations

from pathlib import Path

import click

from qxmix.cli.imatrix.writing import check_output, output_options, write_converted
from qxmix.cli.inputs import FILE
from qxmix.container.imatrix_load import load_imatrix


@click.command("convert")
@click.argument("file", type=FILE)
@output_options
def command(*, file: Path, output: Path, chunk_size: int, overwrite: bool) -> None:
    """Write FILE in the format of the output's suffix, and say what is lost."""
    check_output(output, overwrite=overwrite)
    write_converted(load_imatrix(file), output, chunk_size)
