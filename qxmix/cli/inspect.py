"""``qxmix inspect``: what is in a model or an importance matrix."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from qxmix.cli.inputs import open_model, refuse_recipe
from qxmix.container.gguf_format import GENERAL_TYPE, MAGIC
from qxmix.container.imatrix import load_imatrix
from qxmix.container.parse import parse_gguf
from qxmix.container.recognize import HEAD_NBYTES, looks_like_dat
from qxmix.container.remote.address import is_remote
from qxmix.container.source import opened
from qxmix.report.inspect import imatrix_facts, imatrix_text, model_facts, model_text


@click.command("inspect")
@click.argument("model", type=click.Path(path_type=str))
@click.option("every", "--all", is_flag=True, help="List every tensor (or imatrix entry), and strings in full.")
@click.option("as_json", "--json", is_flag=True, help="Print one JSON object, tensors included.")
def command(model: str, *, every: bool, as_json: bool) -> None:
    """Show the types, sizes and metadata of MODEL: a GGUF file, a first shard, or an importance matrix.

    Only the header is read, so a model of any size takes a moment.
    """
    terminal = sys.stdout.isatty() and not as_json
    if not is_remote(model):
        refuse_recipe(model)
    if not is_remote(model) and _is_imatrix(Path(model)):
        facts = imatrix_facts(load_imatrix(model))
        text = "" if as_json else imatrix_text(facts, every=every, terminal=terminal)
    else:
        facts = model_facts(open_model(model))
        text = "" if as_json else model_text(facts, every=every, terminal=terminal)
    click.echo(json.dumps(facts, indent=2) if as_json else text)


def _is_imatrix(path: Path) -> bool:
    with opened(path) as data:
        head, nbytes = data[:HEAD_NBYTES], len(data)
    if head.startswith(MAGIC):
        return parse_gguf(path).get(GENERAL_TYPE) == "imatrix"
    return looks_like_dat(head, nbytes)
