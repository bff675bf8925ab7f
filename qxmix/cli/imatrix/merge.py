"""``qxmix imatrix merge``: several matrices of one model as one."""

from __future__ import annotations

from pathlib import Path

import click

from qxmix.cli.imatrix.writing import check_output, output_options, write_converted
from qxmix.cli.inputs import FILE
from qxmix.cli.streams import notice
from qxmix.container.imatrix_load import load_imatrix
from qxmix.importance.merge import merge


@click.command("merge")
@click.argument("files", metavar="A B...", nargs=-1, required=True, type=FILE)
@output_options
def command(*, files: tuple[Path, ...], output: Path, chunk_size: int, overwrite: bool) -> None:
    """Write one matrix as if the texts of A, B, ... had been measured together.

    Each weighs by what it counted.  All must be of the same model; .dat and GGUF may be mixed.
    """
    check_output(output, overwrite=overwrite)
    merged = merge([load_imatrix(path) for path in files], chunk_size)
    for text in merged.notes:
        notice(f"Note: {text}")
    write_converted(merged.imatrix, output, chunk_size)
