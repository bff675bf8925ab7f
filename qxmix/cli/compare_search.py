"""``qxmix compare-search``: the experiment of ik_llama.cpp's PR 295 in one command."""

from __future__ import annotations

import json
import sys
from itertools import product
from pathlib import Path
from typing import cast

import click

from qxmix.cli.complete import complete_type_list
from qxmix.cli.inputs import FILE, NAME, THREADS, EngineName, imatrix_option, open_model, read_text
from qxmix.cli.sizes import text_length
from qxmix.cli.streams import notice
from qxmix.container.imatrix_load import load_imatrix
from qxmix.experiment.model import ORDER, TYPES, Case, Experiment
from qxmix.quants import Engine, find
from qxmix.quants.codec import Search
from qxmix.report.experiment import experiment_json, experiment_markdown, experiment_text


@click.command("compare-search")
@click.argument("model", type=NAME)
@click.option("--text", required=True, type=FILE, help="Text to predict, UTF-8.")
@imatrix_option
@click.option(
    "--types", shell_complete=complete_type_list,
    help="Types, with commas.  [default: those of the pull request that the engine has]",
)  # fmt: skip
@click.option("--searches", help="Searches, with commas.  [default: heuristic,gradient,exhaustive]")
@click.option("--chunks", type=click.IntRange(min=1), help="Chunks from the start of the text.  [default: all]")
@text_length("--ctx")
@click.option("--engine", type=EngineName(), default="ik_llama.cpp", show_default=True, help="Who runs them.")
@click.option("-j", "--threads", type=THREADS, help="Threads.  [default: all processors]")
@click.option("--work", type=FILE, help="Folder for the files.  [default: compare-search-MODEL here]")
@click.option("--keep", is_flag=True, help="Keep the files; without it each type's are removed when it is evaluated.")
@click.option("--json", "as_json", is_flag=True, help="A list of objects, as in schemas/compare-search.schema.json.")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
def command(
    *, model: str, text: Path, imatrix: str | None, types: str | None, searches: str | None, chunks: int | None,
    text_ctx: int, engine: Engine, threads: int | None, work: Path | None, keep: bool, as_json: bool, markdown: bool,
) -> None:  # fmt: skip
    """Quantize MODEL to pure files of some types by each search, and compare perplexity, divergence and time.

    Embeddings and output stay at Q8_0.  MODEL itself is the base.  An interrupted run goes on when the same command is
    given again.
    """
    if as_json and markdown:
        raise click.UsageError("--json and --markdown exclude each other")
    chosen_types, chosen_searches = _types(types, engine), _searches(searches)
    from qxmix.experiment.run import run_experiment  # noqa: PLC0415 - numba and an engine, for valid words alone

    header = open_model(model)
    cases = tuple(Case(*pair) for pair in product(chosen_types, chosen_searches))
    folder = work or Path(f"compare-search-{header.path.stem}")
    weights = load_imatrix(imatrix) if imatrix else None
    experiment = Experiment(
        header, weights, read_text(text), cases, engine, text_ctx, chunks, threads, folder, keep=keep
    )  # fmt: skip
    outcomes = run_experiment(experiment, lambda done, total, what: notice(f"{done} of {total} steps done; {what}"))
    if as_json:
        click.echo(json.dumps(experiment_json(outcomes), indent=1))
    elif markdown:
        click.echo(experiment_markdown(outcomes))
    else:
        click.echo(experiment_text(outcomes, terminal=sys.stdout.isatty()))


def _types(given: str | None, engine: Engine) -> list[str]:
    names = [name.strip() for name in given.split(",")] if given else list(TYPES)
    found = [(name, find(name)) for name in names]
    for name, quant_type in found:
        if quant_type is None:
            raise click.BadParameter(f"{name!r} is no type; 'qxmix types' lists them", param_hint="--types")
        if not quant_type.searches:
            told = f"{quant_type.name} has one way only to search its scales; {', '.join(TYPES)} have several"
            raise click.BadParameter(told, param_hint="--types")
        if given and engine not in quant_type.engines:
            raise click.BadParameter(f"{engine} does not load {quant_type.name}", param_hint="--types")
    return list(dict.fromkeys(t.name for _, t in found if t is not None and engine in t.engines))


def _searches(given: str | None) -> list[Search]:
    names = [name.strip() for name in given.split(",")] if given else list(ORDER)
    for name in names:
        if name not in ORDER:
            raise click.BadParameter(f"{name!r} is no search; there are {', '.join(ORDER)}", param_hint="--searches")
    return cast("list[Search]", list(dict.fromkeys(names)))
