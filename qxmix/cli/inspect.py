"""``qxmix inspect``: what is in a model, an importance matrix or a file of second moments."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qxmix.cli.inputs import NAME, TEXT, open_model, refuse_recipe
from qxmix.cli.interrupt import stoppable
from qxmix.cli.overwriting import overwrite_option
from qxmix.container.gguf_format import MAGIC
from qxmix.container.imatrix_load import load_imatrix
from qxmix.container.moments_load import load_moments
from qxmix.container.parse import stated_type
from qxmix.container.recognize import HEAD_NBYTES, looks_like_dat
from qxmix.container.remote.address import is_remote
from qxmix.container.source import opened
from qxmix.container.weights import require_weights
from qxmix.container.whole_file import refuse_unwritable, whole_file
from qxmix.processors import n_processors
from qxmix.quants import ENGINES, Engine
from qxmix.report.inspect import imatrix_facts, imatrix_text, model_facts, model_text
from qxmix.report.moments import moments_facts, moments_text

if TYPE_CHECKING:
    from qxmix.recipe.model import Target

_IMATRIX, _MOMENTS = "an importance matrix", "a file of second moments"


@click.command("inspect")
@click.argument("model", type=NAME)
@click.option("every", "--all", is_flag=True, help="List every tensor (or imatrix entry), and strings in full.")
@click.option("as_json", "--json", is_flag=True, help="Print one JSON object, as in schemas/inspect.schema.json.")
@click.option("--lattice", is_flag=True, help="Read all weights: which sit on a lattice, and what keeps them whole.")
@click.option("-o", "--output", type=TEXT, help="With --lattice: write what is found, as JSON.")
@overwrite_option(help="With -o: replace a file that exists.")
@click.option(
    "--target",
    type=click.Choice((*ENGINES, "any")),
    help="With --lattice: the engine that must load the type that keeps them.",
)
def command(
    model: str, output: Path | None, target: Target | None, *, every: bool, as_json: bool, lattice: bool
) -> None:
    """Show the types, sizes and metadata of MODEL: a GGUF file, a first shard, an importance matrix or second moments.

    Only the header is read, so a model of any size takes a moment.  With --lattice the weights are read, too: models
    that were trained or published as integers and then stored as floats can be quantized with every integer kept.
    """
    terminal = sys.stdout.isatty() and not as_json
    if not lattice and (output is not None or target is not None):
        option = "--target" if output is None else "-o"
        raise click.UsageError(f"{option} is for what --lattice finds; give --lattice, too")
    if lattice:
        from qxmix.recipe.model import engines_of  # noqa: PLC0415 - a header needs no recipe, and no YAML

        engines = engines_of(target) if target else ()
        _lattices(model, output, engines, as_json=as_json, terminal=terminal)
        return
    if not is_remote(model):
        refuse_recipe(model)
    kind = "a model" if is_remote(model) else _kind(Path(model))
    facts: Mapping[str, object]
    if kind == _IMATRIX:
        facts = found = imatrix_facts(load_imatrix(model))
        text = "" if as_json else imatrix_text(found, every=every, terminal=terminal)
    elif kind == _MOMENTS:
        facts = second = moments_facts(load_moments(model))
        text = "" if as_json else moments_text(second, every=every, terminal=terminal)
    else:
        facts = found = model_facts(open_model(model))
        text = "" if as_json else model_text(found, every=every, terminal=terminal)
    click.echo(json.dumps(facts, indent=2) if as_json else text)


def _lattices(model: str, output: Path | None, engines: tuple[Engine, ...], *, as_json: bool, terminal: bool) -> None:
    from qxmix.execute import stop  # noqa: PLC0415 - numba, which a header does not need
    from qxmix.execute.source import Source  # noqa: PLC0415
    from qxmix.measure.lattice import is_looked_at, lattice_of  # noqa: PLC0415
    from qxmix.measurement.lattice import lattices_json  # noqa: PLC0415
    from qxmix.report.lattice import lattices_text  # noqa: PLC0415

    if not is_remote(model):
        refuse_recipe(model)
        if (kind := _kind(Path(model))) in {_IMATRIX, _MOMENTS}:
            raise click.UsageError(f"{model} is {kind}; --lattice is for models")
    header = open_model(model)
    require_weights(header)
    if output is not None:
        refuse_unwritable(output)
    tensors = [t for t in header.tensors if is_looked_at(t)]
    sources = [Source(t, header.paths[t.shard], None, None) for t in tensors]
    with (
        stoppable(lambda: "Interrupted; nothing was written."),
        stop.threads(n_processors()) as pool,
        click.progressbar(length=len(tensors), label="looking for lattices", file=sys.stderr) as shown,
    ):
        looked_at = []
        for lattice in pool.map(partial(lattice_of, engines=engines), sources):
            looked_at.append(lattice)
            shown.update(1)
    found = tuple(lattice for lattice in looked_at if lattice is not None)
    text = json.dumps(lattices_json(header, found), indent=1) + "\n"
    if output is not None:
        with whole_file(output) as file:
            file.write(text.encode())
    click.echo(text if as_json else lattices_text(found, len(tensors), terminal=terminal), nl=not as_json)


def _kind(path: Path) -> str:
    """What a file on this machine is."""
    with opened(path) as data:
        head = data[:HEAD_NBYTES]
        if head.startswith(MAGIC):
            return {"imatrix": _IMATRIX, "moments": _MOMENTS}.get(stated_type(data), "a model")
        return _IMATRIX if looks_like_dat(head, len(data)) else "a model"
