"""``qxmix compare``: recipes, plans and models side by side."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from qxmix.cli.complete import complete_recipes
from qxmix.cli.inputs import (
    FILE,
    NAME,
    Beside,
    EngineName,
    imatrix_option,
    open_measurement,
    open_model,
    open_moments,
    read_text,
    threads_option,
)
from qxmix.cli.interrupt import stoppable
from qxmix.cli.overwriting import PAGE, PICTURE
from qxmix.cli.progress import chunks_shown
from qxmix.cli.running import Machine, running_options
from qxmix.cli.sizes import text_length
from qxmix.container.imatrix_load import load_imatrix
from qxmix.container.model import ModelHeader
from qxmix.quants import Engine
from qxmix.report.lineup import lineup_chart, lineup_json, lineup_markdown, lineup_text, sorted_entrants
from qxmix.report.look import check_picture
from qxmix.report.picture import draw_losses
from qxmix.report.text import wrapped
from qxmix.solve.lineup import Entrant, evaluate_all, line_up, with_running
from qxmix.solve.predict import predictor_of

_WITHOUT_FEEDBACK = ("moments-none", "moments-missing")
"""Problems that change what a file loses."""


@click.command("compare")
@click.argument("names", metavar="A B...", nargs=-1, required=True, type=NAME, shell_complete=complete_recipes)
@click.option("--model", type=FILE, help="What recipes are planned on, and applied to.")
@imatrix_option
@click.option("--moments", type=NAME, help="Second moments, for 'feedback' in the recipes.")
@click.option("-m", "--measure", type=FILE, help="Of qxmix measure: adds predicted divergence.")
@click.option("--text", type=FILE, help="Text to run: adds perplexity and divergence.")
@click.option("--base", type=FILE, help="What they diverge from.  [default: --model]")
@click.option("--chunks", type=click.IntRange(min=1), help="Chunks from the start of the text.  [default: all]")
@text_length()
@click.option("--engine", type=EngineName(), help="Who runs them.  [default: ik_llama.cpp; encoders llama.cpp]")
@threads_option
@click.option(
    "--sort",
    type=click.Choice(["size", "divergence", "name"]),
    default="size",
    show_default=True,
    help="Least first.",
)
@click.option("--markdown", is_flag=True, help="Print a Markdown table, for a model card.")
@click.option("as_json", "--json", is_flag=True, help="A list of objects, as in schemas/compare.schema.json.")
@click.option("--plot", type=Beside(PICTURE), help="Draw divergence against size: .png, .svg or .pdf.")
@click.option("--html", type=Beside(PAGE), help="Write a page about them, complete in one file.")
@running_options
def command(
    *, names: tuple[str, ...], model: Path | None, imatrix: str | None, moments: str | None, measure: Path | None,
    text: Path | None, base: Path | None, chunks: int | None, text_ctx: int, engine: Engine | None, threads: int | None,
    sort: str, markdown: bool, as_json: bool, plot: Path | None, html: Path | None, machine: Machine,
) -> None:  # fmt: skip
    """Show recipes, plans (qxmix plan --json), lock files and GGUF models side by side.

    Bytes, bits per weight, types and fallbacks always; with a measurement the predicted divergence; with a text what
    the files really lose, recipes being applied to MODEL in a folder that is deleted again.  All figures of a call come
    from one run of one engine: compare those, not figures of two calls.  With --ctx what running each takes, and
    whether it fits into --vram and --ram.
    """
    if markdown and as_json:
        raise click.UsageError("--markdown and --json exclude each other")
    if measure is not None and model is None:
        raise click.UsageError("--measure is about a model; give that with --model")
    if plot is not None:
        if measure is None and text is None:
            raise click.UsageError("--plot draws divergence; give --measure, or --text")
        check_picture(plot)
    header = open_model(model) if model is not None else None
    matrix = load_imatrix(imatrix) if imatrix else None
    predictor = predictor_of(header, open_measurement(measure, header, matrix)) if measure and header else None
    entrants = line_up(names, header, matrix, predictor, open_moments(moments))
    for warning in _warnings(entrants, written=text is not None):
        click.echo(wrapped(f"Warning: {warning}", terminal=sys.stderr.isatty()), err=True)
    use = machine.use(engine or "ik_llama.cpp")
    if use:
        entrants = with_running(entrants, header, use)
    if text is not None:
        entrants = _evaluated(entrants, header, text, base or model, (engine, text_ctx, chunks, threads))
    found = sorted_entrants(entrants, sort)
    if as_json:
        click.echo(json.dumps(lineup_json(found), indent=1))
    else:
        click.echo(lineup_markdown(found) if markdown else lineup_text(found, terminal=sys.stdout.isatty()))
    _draw(found, header, plot, html)


def _warnings(entrants: tuple[Entrant, ...], *, written: bool) -> Iterator[str]:
    for entrant in entrants:
        yield from (f"apply would refuse: {problem}" for problem in entrant.side.problems)
        if written and entrant.side.plan is not None:
            # Its figures would pass for those of feedback.
            plan = entrant.side.plan
            yield from (f"{entrant.label}: {p.text}" for p in plan.problems if p.id in _WITHOUT_FEEDBACK)


def _draw(found: list[Entrant], header: ModelHeader | None, plot: Path | None, html: Path | None) -> None:
    if plot is not None:
        draw_losses(lineup_chart(found, fewest=1), "divergence", plot)
    if html is not None:
        from qxmix.report.page import compare_page, write_page  # noqa: PLC0415 - jinja2, for pages alone

        write_page(compare_page(found, header.path.name if header else ""), html)


def _evaluated(
    entrants: tuple[Entrant, ...], header: ModelHeader | None, text: Path, base: Path | None,
    run: tuple[Engine | None, int, int | None, int | None],
) -> tuple[Entrant, ...]:  # fmt: skip
    from qxmix.engines.embed import ENGINE, is_encoder  # noqa: PLC0415 - numpy and ctypes, as below
    from qxmix.engines.evaluate import Settings  # noqa: PLC0415 - numpy and ctypes, for those who have a text

    engine, ctx, chunks, threads = run
    encoder = header is not None and is_encoder(header)
    settings = Settings(engine or (ENGINE if encoder else "ik_llama.cpp"), ctx, chunks, threads)
    parting = "Interrupted; the models that were written to be run are removed."
    with stoppable(lambda: parting), chunks_shown("Evaluating") as on_chunk:
        return evaluate_all(entrants, read_text(text), base, settings, on_chunk)
