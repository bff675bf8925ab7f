"""``qxmix solve``: the recipe that loses least within a size."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qxmix.cli.complete import complete_recipes, complete_type_list
from qxmix.cli.inputs import (
    FILE,
    NAME,
    RECIPE,
    Beside,
    imatrix_option,
    open_measurement,
    open_model,
    read_text,
)
from qxmix.cli.overwriting import PAGE, overwrite_option, refuse_kept
from qxmix.cli.running import Machine, running_options
from qxmix.cli.solve_options import (
    AGAINST,
    Refining,
    budget_options,
    candidate_types,
    limit_options,
    refine_options,
    selecting_nothing,
)
from qxmix.cli.splitting import split_options
from qxmix.cli.streams import notice, write_text
from qxmix.container.imatrix import Imatrix
from qxmix.container.imatrix_load import load_imatrix
from qxmix.errors import PlanError, severity_order
from qxmix.lint import lint, refused
from qxmix.plan import Split
from qxmix.recipe import load_recipe
from qxmix.recipe.model import TARGETS, Recipe, Target
from qxmix.report.solve import curve_text, solved_text
from qxmix.report.text import wrapped
from qxmix.running.model import Use
from qxmix.solve.against import random_chooser
from qxmix.solve.base import unruled
from qxmix.solve.curve import curve
from qxmix.solve.machine import keeps_to_machine, solve_for_machine
from qxmix.solve.make import Solved, solve_recipe
from qxmix.solve.outside import Outside, is_outside, read_outside
from qxmix.solve.predict import Predictor, predictor_from, predictor_of
from qxmix.solve.request import Budget, Limits, Request

if TYPE_CHECKING:
    from qxmix.measure.score import Passage
    from qxmix.measurement.model import Measurement


@click.command("solve")
@click.argument("model", type=NAME)
@click.option("-m", "--measure", type=FILE, help="Of qxmix measure, or of another tool.")
@budget_options
@click.option("-o", "--output", type=RECIPE, help="Recipe to write.  [default: standard output]")
@overwrite_option(help="Replace a recipe that exists.")
@imatrix_option
@click.option(
    "--base", type=NAME, shell_complete=complete_recipes,
    help="A recipe: its rules stay, the rest is solved.",
)  # fmt: skip
@click.option("--target", type=click.Choice(TARGETS), help="Who loads it.  [default: as base or measurement, or any]")
@click.option(
    "--types", shell_complete=complete_type_list,
    help="Candidates, separated by commas, or all (with -m: that were measured).  [default: those measured, or usual]",
)  # fmt: skip
@limit_options
@click.option("--against", type=AGAINST, help="Beside the recipe N matched ones at random: random:20.")
@refine_options
@click.option("--curve", "as_curve", is_flag=True, help="Print size against predicted divergence, and exit.")
@click.option("--html", type=Beside(PAGE), help="Write a page about the result, complete in one file.")
@split_options
@running_options
def command(
    *, model: str, measure: Path | None, budget: Budget, output: Path | None, imatrix: str | None, base: str | None,
    target: Target | None, types: str | None, limits: Limits, against: int | None, refining: Refining, as_curve: bool,
    html: Path | None, split: Split, machine: Machine,
) -> None:  # fmt: skip
    """Find the types that lose least within a size, and write them as a recipe.

    With the measurement of a model the loss is what was measured; without one it is a guess from other models, and the
    recipe says so.  The output as planned never exceeds --size.  Equal inputs give equal recipes.

    With --ctx and --vram, --ram or both the result runs on such a machine: attention, shared experts and the experts of
    the first layers on the GPUs, or without experts whole layers; without --ram all but the embeddings.  The recipe
    says so under limits.
    """
    sized = budget.limits_all or as_curve or bool(machine.vram or machine.ram)
    alone = output is not None and not budget.shares and not limits.max_types
    _refuse_kept(_random_paths(output, against))
    _refuse_usage(sized=sized, beside=alone or not against, refine_whole=refining.is_whole)
    header, matrix = open_model(model), load_imatrix(imatrix) if imatrix else None
    outside = read_outside(measure) if measure is not None and is_outside(measure) else None
    measurement = open_measurement(measure, header, matrix) if measure is not None and outside is None else None
    recipe = _base(base, target, measurement)
    use = machine.use(recipe.engines[0])
    _refuse_for_machine(use, shares=bool(budget.shares), against=bool(against), as_curve=as_curve)
    request = Request(
        header, matrix, recipe, budget, candidate_types(types, measurement, recipe), limits, split,
        output.stem if output else "solved",
        use,
    )  # fmt: skip
    for told in selecting_nothing(request):
        notice(wrapped(f"Warning: {told}", terminal=sys.stderr.isatty()))
    predictor = _predictor(request, measurement, outside)
    if as_curve:
        click.echo(curve_text(curve(request, predictor), predictor, terminal=sys.stdout.isatty()))
        return
    source = _source(measurement, measure, matrix)
    solved = _solved(request, predictor, source)
    if refining.tries is not None and refining.text is not None:
        solved = _refined(solved, source, refining.tries, refining.passage(read_text(refining.text)))
    write_text(solved.text, output)
    _write_random(request, predictor, _random_paths(output, against))
    _report(solved, output)
    if html is not None:
        _write_page(solved, html)


def _refuse_kept(paths: Sequence[Path]) -> None:
    """Refuse to replace what is beside the recipe, as the option's own name is refused."""
    for path in paths:
        refuse_kept(str(path), None, click.get_current_context())


def _refuse_usage(*, sized: bool, beside: bool, refine_whole: bool) -> None:
    """Refuse what has no size, random recipes where they cannot be written, and half of ``--refine``."""
    if not sized:
        sizes = "--size, --bpw, --budget for some tensors and for the rest, or --vram, --ram and --ctx"
        raise click.UsageError(f"say how large it may be: {sizes}")
    if not beside:
        raise click.UsageError("--against writes files beside -o, for a --size or --bpw of the whole model alone")
    if not refine_whole:
        raise click.UsageError("--refine tries swaps on a text, and --text is for --refine: give both")


def _refuse_for_machine(use: Use | None, *, shares: bool, against: bool, as_curve: bool) -> None:
    if use is None:
        return
    if not (use.vram or use.ram):
        raise click.UsageError(
            "--ctx is about a machine; give its --vram, --ram or both (chunks of a text: --text-ctx)"
        )
    if shares:
        raise click.UsageError(
            "--budget divides the tensors otherwise than --vram and --ram do; leave out either (a --size or --bpw for"
            " all may stand beside both)"
        )
    if against:
        raise click.UsageError(
            "recipes at random match in size and not in what is on which device; leave out --vram and --ram, and give"
            " --against the --size that the solved recipe came to"
        )
    if as_curve:
        raise click.UsageError(
            "--curve is of all sizes and asks for no machine; leave out --vram and --ram, or --curve"
        )


def _solved(request: Request, predictor: Predictor, source: tuple[str, ...]) -> Solved:
    """The recipe, if it is one that apply would take."""
    solve = solve_for_machine if request.use else solve_recipe
    solved = solve(request, predictor, source)
    if errors := refused(solved.plan.problems, strict=False):
        raise PlanError(errors)
    return solved


def _predictor(request: Request, measurement: Measurement | None, outside: Outside | None) -> Predictor:
    """From a measurement, or from another tool's figures, where what is not to be believed in them is told."""
    if outside is None:
        return predictor_of(request.header, measurement, request.base.engines)
    for problem in outside.problems:
        notice(wrapped(f"Warning: {problem}", terminal=sys.stderr.isatty()))
    return predictor_from(request.header, outside)


def _random_paths(output: Path | None, n: int | None) -> list[Path]:
    """``best-random-1.yaml`` and so on beside ``best.yaml``."""
    if output is None or not n:
        return []
    return [output.with_name(f"{output.stem}-random-{seed}{output.suffix}") for seed in range(1, n + 1)]


def _write_random(request: Request, predictor: Predictor, paths: Sequence[Path]) -> None:
    """Matched recipes at random."""
    for seed, path in enumerate(paths, 1):
        write_text(solve_recipe(replace(request, name=path.stem), predictor, (), random_chooser(seed)).text, path)


def _write_page(solved: Solved, path: Path) -> None:
    from qxmix.report.page import plan_page, write_page  # noqa: PLC0415 - jinja2, for pages alone
    from qxmix.report.page.insight import insight_of  # noqa: PLC0415

    write_page(plan_page(solved.plan, insight_of(solved.plan, solved.predictor, solved.request.types)), path)


def _refined(solved: Solved, source: tuple[str, ...], tries: int, passage: Passage) -> Solved:
    # The engine and the kernels, for those who refine.
    from qxmix.cli.progress import chunks_shown  # noqa: PLC0415
    from qxmix.solve.refined import refine_recipe  # noqa: PLC0415

    with chunks_shown("Refining") as on_step:
        found, tried = refine_recipe(solved, source, passage, tries, on_step)
    notice(
        f"Refined: {tried.n_kept} of {tried.n_tried} swaps kept; on this text {tried.before:.5g} before and "
        f"{tried.after:.5g} after"
    )
    if keeps_to_machine(found):
        return found
    notice("What they came to does not keep to --vram and --ram; the recipe is the one before them.")
    return solved


def _base(base: str | None, target: Target | None, measurement: Measurement | None) -> Recipe:
    """The recipe whose rules are pinned; without one, a recipe of no rules."""
    if base is not None:
        recipe = load_recipe(base)
        if target not in (None, recipe.target):
            raise click.UsageError(f"--target {target}: the recipe {base} is for {recipe.target}")
        return recipe
    return unruled(target or (measurement.target if measurement else "any"))


def _source(measurement: Measurement | None, path: Path | None, imatrix: Imatrix | None) -> tuple[str, ...]:
    """Lines for the recipe's head, without a path of this machine, which would change the output's bytes."""
    made = [f"importance matrix {imatrix.path.name} ({imatrix.sha256[:12]})"] if imatrix else []
    if path is not None:
        made.insert(0, f"measurement {path.name}" + (f" of {measurement.model.name}" if measurement else ""))
    words = [_bare(word) for word in sys.argv[1:] if word != "--overwrite"]
    return (*([f"From {', '.join(made)}."] if made else []), f"Made by: qxmix {shlex.join(words)}")


def _bare(word: str) -> str:
    """A word of the command line without its folders."""
    return word.rpartition("/")[2] if "/" in word and "=" not in word else word


def _report(solved: Solved, output: Path | None) -> None:
    """On standard error where the recipe itself went to standard output."""
    terminal = (sys.stdout if output else sys.stderr).isatty()
    text = solved_text(solved, terminal=terminal)
    if output:
        click.echo(text)
    else:
        notice(text)
    problems = sorted((*solved.plan.problems, *lint(solved.plan)), key=severity_order)
    for problem in problems:
        if problem.severity != "note":
            notice(wrapped(f"{problem.severity.capitalize()}: {problem}", terminal=terminal))
