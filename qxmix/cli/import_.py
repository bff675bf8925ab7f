"""``qxmix import``: recipes of other tools as recipes of ours."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import cast

import click

from qxmix.cli.complete import complete_mixes
from qxmix.cli.inputs import FILE, NAME, RECIPE, EngineName, open_model
from qxmix.cli.overwriting import overwrite_option
from qxmix.cli.streams import write_text
from qxmix.container.gguf_format import MAGIC
from qxmix.container.model import ModelHeader
from qxmix.dialects.model import Dialect, SourceMix
from qxmix.dialects.parse import parse_source, read_source
from qxmix.dialects.prove import Proof, inherited, prove
from qxmix.dialects.recover import recover
from qxmix.dialects.write import recipe_text
from qxmix.errors import PlanError
from qxmix.quants import Engine
from qxmix.recipe.tree import MAX_NBYTES, read_text
from qxmix.report.plan import sizes

_STDIN = Path("-")
_MAX_SHOWN = 20
"""Most different tensors that are listed."""


@click.command("import")
@click.argument("source", type=FILE)
@click.option("--model", type=NAME, help="GGUF to prove on that the recipe decides alike.")
@click.option("--dialect", type=EngineName("thireus"), help="Whose recipe it is; without it the text tells.")
@click.option(
    "--base", metavar="TYPE", shell_complete=complete_mixes,
    help="The mix that decides what no rule does, for lists without it: Q4_K_M.",
)  # fmt: skip
@click.option("--set", "given", metavar="NAME=VALUE", multiple=True, help="Value of a variable that a script asks for.")
@click.option("--target", type=EngineName(), help="Engine; without it the source's.")
@click.option("-o", "--output", type=RECIPE, help="Write the recipe here, not to the terminal.")
@overwrite_option(help="Replace a recipe that exists.")
@click.pass_context
def command(
    ctx: click.Context, source: Path, model: str | None, dialect: str | None, base: str | None,
    given: tuple[str, ...], target: str | None, output: Path | None,
) -> None:  # fmt: skip
    """Turn SOURCE into a recipe: a llama-quantize command or script, a list of rules, a .recipe file, or a GGUF.

    SOURCE is a file, or - for standard input.

    With --model the types that the source's engine chooses are compared with the recipe's; exit code 3 if one differs.
    """
    proof: Proof | None
    header, name = open_model(model) if model else None, output.stem if output else ""
    if _is_gguf(source):
        if dialect or base or given:
            raise click.UsageError("a GGUF has the types of all its tensors; leave out --dialect and --base, and --set")
        text, proof = recover(open_model(source), cast("Engine | None", target), header, name)
    else:
        mix = _read(source, cast("Dialect | None", dialect), base, _values(given), header)
        text, proof = _translate(mix, name or _name_of(source), cast("Engine", target or mix.engine), header)
    write_text(text, output)
    if proof is None:
        click.echo("Not proved on a model; --model MODEL compares every type.", err=True)
        return
    _show(proof)
    ctx.exit(PlanError.exit_code if proof.different else 0)


def _name_of(source: Path) -> str:
    """The name of a recipe that is printed: its source's."""
    return "imported" if source == _STDIN else source.stem


def _translate(mix: SourceMix, name: str, target: Engine, header: ModelHeader | None) -> tuple[str, Proof | None]:
    """The recipe and its proof; what the source itself has on the model is no warning of the recipe's."""
    text = recipe_text(mix, name, target)
    if header is None:
        return text, None
    proof = prove(mix, text, header)
    if ids := inherited(proof, has_imatrix=mix.has_imatrix):
        text = recipe_text(mix, name, target, ids)
        proof = prove(mix, text, header)
    return text, proof


def _read(
    source: Path, dialect: Dialect | None, base: str | None, given: dict[str, str], header: ModelHeader | None
) -> SourceMix:
    if source != _STDIN:
        return read_source(source, dialect, base, given, header)
    where = Path("standard input")
    text = read_text(sys.stdin.buffer.read(MAX_NBYTES + 1), str(where))
    return parse_source(text, where, dialect, base, given, header)


def _values(given: tuple[str, ...]) -> dict[str, str]:
    values = {}
    for item in given:
        key, sign, value = item.partition("=")
        if not sign or not re.fullmatch(r"\w+", key):
            raise click.UsageError(f"--set '{item}' is no NAME=VALUE, like --set q=Q4_K_M")
        values[key] = value
    return values


def _is_gguf(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def _show(proof: Proof) -> None:
    plan = proof.plan
    size = f"{sizes(plan.data_nbytes)} of tensors, {plan.bpw:.3f} bits per weight"
    if not proof.different and not proof.caveats:
        click.echo(f"Proved: all {len(plan.tensors):,} tensors get the type that the source gives; {size}", err=True)
        return
    if not proof.different:
        for caveat in proof.caveats:
            click.echo(f"Note: {caveat}", err=True)
        click.echo(f"Alike: all {len(plan.tensors):,} tensors get the type that the source means; {size}", err=True)
        return
    click.echo(f"Different: {len(proof.different):,} of {len(plan.tensors):,} tensors; {size}", err=True)
    for name, theirs, ours in proof.different[:_MAX_SHOWN]:
        click.echo(f"  {name}: source {theirs}, recipe {ours}", err=True)
    if len(proof.different) > _MAX_SHOWN:
        click.echo(f"  and {len(proof.different) - _MAX_SHOWN:,} more", err=True)
