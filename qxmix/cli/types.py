"""``qxmix types``: every tensor type, who loads it and what it costs."""

from __future__ import annotations

import json
import sys

import click

from qxmix.cli.inputs import EngineName
from qxmix.quants import QUANT_TYPES
from qxmix.report.types import types_json, types_text


@click.command("types")
@click.option("as_json", "--json", is_flag=True, help="Print one JSON list (schemas/types.schema.json).")
@click.option("--engine", type=EngineName(), help="Only the types that this engine loads.")
def command(engine: str | None, *, as_json: bool) -> None:
    """List the tensor types: size, engines, importance, and whether qxmix encodes them or only plans them."""
    chosen = [t for t in QUANT_TYPES if engine is None or engine in t.engines]
    click.echo(
        json.dumps(types_json(chosen), indent=1) if as_json else types_text(chosen, terminal=sys.stdout.isatty())
    )
