"""``qxmix check``: all recipes of a repository in one command."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from qxmix.check import check, find_recipes
from qxmix.cli.inputs import FILE, open_model
from qxmix.container.remote.address import is_remote
from qxmix.errors import QxmixError
from qxmix.report.check import checked_json, checked_text


@click.command("check")
@click.argument("paths", metavar="[PATH...]", nargs=-1, type=FILE)
@click.option("--model", "models", multiple=True, help="Header, model, address or folder of them; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list (schemas/check.schema.json).")
@click.pass_context
def command(ctx: click.Context, *, paths: tuple[Path, ...], models: tuple[str, ...], as_json: bool) -> None:
    """Check every recipe in PATHs (files or folders; here without any) by itself and on each model.

    What validate, plan and lint --strict find, limits, and the lock files beside the recipes. Exit code 0: all is well;
    2: a recipe is invalid; 3: a plan breaks a policy, draws a warning, or is not what its lock says.
    """
    recipes = find_recipes(paths or (Path(),))
    headers = [open_model(m) for m in _model_files(models)]
    results = tuple(check(recipes, headers))
    click.echo(checked_json(results) if as_json else checked_text(results, terminal=sys.stdout.isatty()))
    ctx.exit(min((r.exit_code for r in results if r.exit_code), default=0))


def _model_files(given: Iterable[str]) -> Iterator[str]:
    """Models as given, and those in folders."""
    for text in given:
        if is_remote(text) or not Path(text).is_dir():
            yield text
            continue
        found = sorted(str(p) for p in Path(text).glob("*.gguf"))
        if not found:
            example = f"qxmix header MODEL -o {Path(text) / 'NAME.gguf'}"
            raise QxmixError(f"{text}: there is no .gguf file in this folder; '{example}' makes one")
        yield from found
