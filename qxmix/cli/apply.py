"""``qxmix apply``: carry out what ``qxmix plan`` shows."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from qxmix.cli.card import card_of, write_card
from qxmix.cli.complete import complete_recipes
from qxmix.cli.inputs import (
    FILE,
    NAME,
    Beside,
    imatrix_option,
    moments_option,
    open_model,
    open_moments,
    open_recipes,
)
from qxmix.cli.interrupt import stoppable, to_resume
from qxmix.cli.overwriting import CARD, refuse_dash
from qxmix.cli.progress import shown
from qxmix.cli.splitting import split_options
from qxmix.cli.streams import notice
from qxmix.cli.working import working_options
from qxmix.container.imatrix_load import load_imatrix
from qxmix.execute.complete import Complete, find_complete, refuse_other
from qxmix.execute.find_factors import find_factors
from qxmix.execute.options import Options
from qxmix.execute.output import name_output
from qxmix.execute.preflight import Wanted, preflight
from qxmix.execute.result import Progress, Result
from qxmix.execute.run import apply_all
from qxmix.lint import examined
from qxmix.measurement.lattice import expected_of, load_lattices
from qxmix.plan import Plan, Split, make_plan
from qxmix.planning.lattice import with_lattices
from qxmix.planning.lock import check_lock
from qxmix.planning.naming import default_name
from qxmix.processors import n_processors
from qxmix.publish import name_faults
from qxmix.report.plan import headline, plan_text
from qxmix.report.plan_json import plan_json
from qxmix.report.plans import plans_text
from qxmix.report.result import complete_json, result_json, results_text
from qxmix.report.text import wrapped

Outputs = Sequence[tuple[Plan, Path]]


@click.command("apply")
@click.argument("recipes", metavar="RECIPE...", nargs=-1, type=NAME, shell_complete=complete_recipes)
@click.argument("model", type=NAME)
@click.option(
    "-o", "--output", type=NAME,
    help="File to write, or a folder (one that is there, or NAME/); of several recipes the folder. Default: the model's"
    " name with the recipe's, here.",
)  # fmt: skip
@imatrix_option
@moments_option
@working_options
@click.option(
    "--locked", type=FILE, multiple=True,
    help="Insist on this lock file of qxmix plan --lock; of several recipes one for each, in their order.",
)  # fmt: skip
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show the plan, check inputs, permissions and space, and write no output (but a --card).",
)
@click.option(
    "as_json", "--json", is_flag=True,
    help="Print one JSON object with all digests (schemas/result.schema.json); of several recipes a list of them.",
)  # fmt: skip
@click.option(
    "--card", type=Beside(CARD),
    help="Write a table of the outputs and how to make each to this file, as Markdown for the model card.",
)  # fmt: skip
@click.option("--measure", type=FILE, help="Of qxmix measure: adds divergence to the card.")
@click.option("--lattice", type=FILE, help="Of qxmix inspect --lattice: insist on its weights, all of them.")
@split_options
def command(
    recipes: tuple[str, ...], model: str, output: str | None, imatrix: str | None, moments: str | None,
    options: Options, locked: tuple[Path, ...], card: Path | None, measure: Path | None, lattice: Path | None,
    split: Split, *, dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """Quantize MODEL as each RECIPE says: a file, a folder of recipes, or the name of a shipped one.

    Several are made in one pass: the model is read once, and a tensor that comes out the same is made once.  Outputs
    appear under their names only when all are complete, checked and on the disk.  An interrupted apply goes on with
    --resume.
    """
    if not recipes:  # of one argument the parser makes the model
        raise click.UsageError(f"{model} is one argument, and it takes two: what to make, and of which MODEL")
    refuse_dash(output or "", "-o")
    loaded, several = open_recipes(recipes)
    header, matrix = open_model(model), load_imatrix(imatrix) if imatrix else None
    second, found = open_moments(moments), load_lattices(lattice, header) if lattice else ()
    plans = [examined(with_lattices(make_plan(recipe, header, matrix, split, second), found)) for recipe in loaded]
    if locked:
        plans = [find_factors(plan, options.n_workers) for plan in plans]
        _check_locks(plans, locked)
    outputs = [(plan, _output_path(plan, output, several=several)) for plan in plans]
    options = replace(options, expected=expected_of(lattice, found) if lattice else None)
    if measure is not None and card is None:
        raise click.UsageError("--measure adds divergence to the card; give that a name with --card")
    text = card_of(outputs, measure, split) if card is not None else ""
    _tell_names(outputs if card is not None else ())
    if dry_run:
        _show_plans(outputs, options, as_json=as_json, several=several)
        write_card(card, text)
        what = "nothing" if card is None else "nothing but the card"
        click.echo("" if as_json else f"\nDry run: {what} was written.", nl=not as_json)
        return
    complete = [_told_complete(*o, options) for o in outputs]
    todo = [o for o, done in zip(outputs, complete, strict=True) if done is None]
    results = _apply(todo, options) if todo else ()
    write_card(card, text)
    if as_json:
        _echo_json(_results_json(plans, complete, results), several=several)
    elif results:
        click.echo(results_text([plan for plan, _ in todo], results, terminal=sys.stdout.isatty()))


def _check_locks(plans: Sequence[Plan], locked: Sequence[Path]) -> None:
    if len(locked) != len(plans):
        raise click.UsageError(f"--locked is given {len(locked)} times for {len(plans)} recipes; give one for each")
    for plan, path in zip(plans, locked, strict=False):
        check_lock(plan, path)


def _output_path(plan: Plan, output: str | None, *, several: bool) -> Path:
    if output is None:
        return Path(default_name(plan))
    # Not Path.is_dir, which raises where a name is too long.
    a_folder = output.endswith((os.sep, os.altsep or os.sep)) or os.path.isdir(output)  # noqa: PTH112
    return Path(output) / default_name(plan) if several or a_folder else Path(output)


def _show_plans(outputs: Outputs, options: Options, *, as_json: bool, several: bool) -> None:
    """Check what can be checked without writing, and show the plans."""
    wanted = [Wanted(p, name_output(p, path), options.overwrite or options.resume) for p, path in outputs]
    preflight(wanted, strict=options.strict)
    plans, paths = [plan for plan, _ in outputs], [str(path) for _, path in outputs]
    chunking = options.chunking(1 if options.executor == "serial" else options.n_workers or n_processors())
    if as_json:
        _echo_json([plan_json(plan, chunking, beside=plans) for plan in plans], several=several)
        return
    terminal = sys.stdout.isatty()
    if several:
        click.echo(plans_text(plans, paths, chunking, terminal=terminal))
    else:
        click.echo(plan_text(plans[0], chunking, output=paths[0], terminal=terminal))


def _tell_names(outputs: Outputs) -> None:
    """Who wants a card may publish: one line says if files' names are not as the hub has them."""
    n_odd = sum(any(name_faults(path.name)) for _, path in outputs)
    if n_odd:
        told = f"{n_odd} of {len(outputs)} names of files are not as the hub has them; 'qxmix lint --publish' tells why"
        notice(wrapped(f"Note: {told}", terminal=sys.stderr.isatty()))


def _echo_json(found: Sequence[object], *, several: bool) -> None:
    click.echo(json.dumps(found if several else found[0], indent=1))


def _told_complete(plan: Plan, path: Path, options: Options) -> Complete | None:
    """With --resume an output that is there already, which is told.

    Raises:
        RunError: another one is there.

    """
    if not options.resume:
        return None
    target = name_output(plan, path)
    complete = find_complete(plan, target)
    if complete is not None:
        notice(f"{path} is complete already, and stays as it is")
    elif not options.overwrite:
        refuse_other(plan, target)
    return complete


def _results_json(
    plans: Sequence[Plan], complete: Sequence[Complete | None], results: Sequence[Result]
) -> list[dict[str, object]]:
    made = iter(results)
    pairs = zip(plans, complete, strict=True)
    return [result_json(plan, next(made)) if done is None else complete_json(plan, done) for plan, done in pairs]


def _apply(outputs: Outputs, options: Options) -> tuple[Result, ...]:
    for plan, _ in outputs:
        _announce(plan, strict=options.strict)
    # A folder that is mistyped is made all the same; os.path.isdir takes names that are too long.
    folders = [f for f in dict.fromkeys(path.parent for _, path in outputs) if not os.path.isdir(f)]  # noqa: PTH112
    phase = ""

    def note(progress: Progress) -> None:
        nonlocal phase
        # Not before: what is refused makes no folder.
        while folders:
            text = f"Note: there is no folder {folders.pop(0)} yet; it is made"
            notice(wrapped(text, terminal=sys.stderr.isatty()))
        phase = progress.phase
        on_progress(progress)

    with stoppable(lambda: _how_to_go_on(outputs, phase)), shown() as on_progress:
        return apply_all(outputs, options, note)


def _announce(plan: Plan, *, strict: bool) -> None:
    terminal = sys.stderr.isatty()
    notice(wrapped(headline(plan), terminal=terminal))
    warnings = [p for p in plan.problems if p.severity == "warning"]
    if strict and warnings:
        # Each follows as an error.
        notice("With --strict warnings are errors:")
        return
    for problem in warnings:
        notice(wrapped(f"Warning: {problem}", terminal=terminal))


def _how_to_go_on(outputs: Outputs, phase: str) -> str:
    if not any(name_output(plan, path).journal.exists() for plan, path in outputs):
        if phase == "sync":
            return "Interrupted when the output was complete; only the cache was not filled."
        return "Interrupted before any tensor was done; nothing was written."
    return f"Interrupted; what is done is kept. Go on with:\n  {to_resume()}"
