"""``qxmix sphere``: pictures of how well the searches of a type do in every direction."""

from __future__ import annotations

import json
import sys
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from qxmix.cli.complete import complete_types
from qxmix.cli.inputs import TEXT
from qxmix.cli.overwriting import overwrite_option
from qxmix.quants import codec_of, find
from qxmix.report.look import check_picture, pyplot
from qxmix.report.sphere import draw_spheres, sphere_json, sphere_text

if TYPE_CHECKING:
    from qxmix.quants.codec import Search

_SEARCHES = ("heuristic", "gradient", "exhaustive")


@click.command("sphere")
@click.argument("types", metavar="TYPE...", nargs=-1, required=True, shell_complete=complete_types)
@click.option(
    "--search",
    "searches",
    multiple=True,
    type=click.Choice(_SEARCHES),
    help="Which search; may be repeated.  [default: all]",
)
@click.option("-W", "--width", default=2048, show_default=True, type=click.IntRange(8, 16384), help="Pixels across.")
@click.option("-o", "--output", type=TEXT, help="The picture: .png, .svg or .pdf.")
@overwrite_option()
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON, as in schemas/sphere.schema.json.")
def command(
    *, types: tuple[str, ...], searches: tuple[str, ...], width: int, output: Path | None, as_json: bool
) -> None:
    """Draw how well the searches of each TYPE do on blocks of three weights, in every direction.

    Each pixel is the cosine between a direction and its quantized self: theta across, phi down. A row for each type, a
    column for each search, one colour scale for all.
    """
    from qxmix.sphere import pictured_types, sphere  # noqa: PLC0415 - numba, for this command alone

    if width % 2:
        raise click.BadParameter(f"{width} is odd; a picture is half as high as wide", param_hint="-W")
    if output is not None:
        check_picture(output)
        pyplot()
    for name in types:
        found = find(name)
        if found is None or not found.codec or codec_of(found.name).search_block is None:
            raise click.BadParameter(f"{name} searches no scale; these do: {', '.join(pictured_types())}")
    chosen = cast("tuple[Search, ...]", searches or _SEARCHES)
    spheres = [sphere(name, search, width) for name, search in product(types, chosen)]
    if output is not None:
        draw_spheres(spheres, len(chosen), output)
    click.echo(
        json.dumps(sphere_json(spheres), indent=1) if as_json else sphere_text(spheres, terminal=sys.stdout.isatty())
    )
