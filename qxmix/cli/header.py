"""``qxmix header``: a model's header in a file of its own."""

from __future__ import annotations

from pathlib import Path

import click

from qxmix.cli.inputs import NAME, OUTPUT_IN_FOLDER, refuse_recipe
from qxmix.cli.overwriting import overwrite_option
from qxmix.container.header import read_shards
from qxmix.container.header_write import write_header
from qxmix.container.remote.address import Address, is_remote
from qxmix.report.text import human_nbytes


@click.command("header")
@click.argument("model", type=NAME)
@click.option("-o", "--output", type=OUTPUT_IN_FOLDER, help="The file.  [default: MODEL-header.gguf here]")
@overwrite_option(passed=True)
def command(model: str, output: Path | None, *, overwrite: bool) -> None:
    """Write the header of MODEL, a file, a first shard or an address, to a file without weights.

    A few megabytes, of which `plan`, `lint`, `diff` and the like read all they need; keep it beside your recipes.
    """
    if not is_remote(model):
        refuse_recipe(model)
    name = Path(Address.parse(model).name if is_remote(model) else model).stem
    path = output or Path(f"{name}-header.gguf")
    shards = read_shards(model)
    nbytes = write_header(shards, path, overwrite=overwrite)
    n_tensors = sum(len(s.tensors) for s in shards)
    of = sum(s.nbytes for s in shards[0].absent or shards)
    click.echo(f"{path}: {human_nbytes(nbytes)}, the header of {n_tensors:,} tensors of {human_nbytes(of)}")
