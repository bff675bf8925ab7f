"""``qxmix eval``: perplexity and divergence from a base, or distance of embeddings, computed by an engine."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qxmix.cli.inputs import FILE, Beside, EngineName, open_model, read_text, threads_option
from qxmix.cli.overwriting import PICTURE
from qxmix.cli.progress import chunks_shown
from qxmix.cli.sizes import text_length
from qxmix.quants import Engine
from qxmix.report.chart import Chart
from qxmix.report.evaluated import (
    as_object,
    embedded_chart,
    embedded_object,
    embedded_text,
    results_chart,
    results_text,
)
from qxmix.report.look import check_picture
from qxmix.report.picture import draw_losses

if TYPE_CHECKING:
    from qxmix.engines.evaluate import Settings


@click.command("eval")
@click.argument("files", metavar="FILE...", nargs=-1, type=FILE)
@click.option("--text", type=FILE, help="Text to predict, UTF-8.")
@click.option("--base", type=FILE, help="Model to compare with, usually the F16 one.")
@click.option("--chunks", type=click.IntRange(min=1), help="Chunks (of encoders: lines) to run.  [default: all]")
@click.option("--first-chunk", type=click.IntRange(min=0), default=0, help="Chunks (lines) to skip.  [default: 0]")
@text_length("--ctx")
@click.option("--engine", type=EngineName(), help="Who runs them.  [default: ik_llama.cpp; encoders: llama.cpp]")
@threads_option
@click.option("--json", "as_json", is_flag=True, help="A list of objects, as in schemas/eval.schema.json.")
@click.option("--plot", type=Beside(PICTURE), help="Draw divergence against size: .png, .svg or .pdf.")
@click.option("--list-types", is_flag=True, help="List the tensor types that the engine runs, and exit.")
def command(
    *,
    files: tuple[Path, ...],
    text: Path | None,
    base: Path | None,
    chunks: int | None,
    first_chunk: int,
    text_ctx: int,
    engine: Engine | None,
    threads: int | None,
    as_json: bool,
    plot: Path | None,
    list_types: bool,
) -> None:
    """Perplexity of each FILE on a text and, with a base, the divergence from it.

    Chunks, positions and definitions are those of llama-perplexity: the text is cut into chunks in order, and the
    second half of each is scored.  Base and files run side by side in one engine; compare figures only within one run.
    Encoder models get the mean of 1 - cosine between their embedding of each line and the base's.
    """
    if list_types:
        from qxmix.engines.types import runnable_types  # noqa: PLC0415 - numpy and ctypes, for this command alone

        click.echo("\n".join(runnable_types(engine or "ik_llama.cpp")))
        return
    if not files or text is None:
        missing = "--text" if files else "FILE..."
        raise click.UsageError(f"{missing} is missing.")
    if plot is not None:
        check_picture(plot)
    from qxmix.engines.embed import ENGINE, is_encoder  # noqa: PLC0415 - numpy and ctypes, for this command alone
    from qxmix.engines.evaluate import Settings  # noqa: PLC0415 - as above

    encoders = all(is_encoder(open_model(path)) for path in (*files, *([base] if base else [])))
    settings = Settings(engine or (ENGINE if encoders else "ik_llama.cpp"), text_ctx, chunks, threads, first_chunk)
    score = _score_encoders if encoders else _score
    found = score(files, read_text(text), base, settings)
    click.echo(json.dumps(found.objects, indent=2) if as_json else found.text)
    if plot is not None:
        draw_losses(found.chart, found.quantity, plot)


@dataclass(frozen=True, slots=True)
class _Found:
    """Scores, as they are shown."""

    objects: list[dict[str, object]]
    text: str
    chart: Chart | None
    quantity: str


def _score(files: tuple[Path, ...], text: bytes, base: Path | None, settings: Settings) -> _Found:
    from qxmix.engines.evaluate import evaluate  # noqa: PLC0415 - numpy and ctypes, for this command alone

    with chunks_shown("Evaluating") as on_chunk:
        results = evaluate(files, text, base=base, settings=settings, on_chunk=on_chunk)
    return _Found(
        [as_object(result, settings.engine) for result in results],
        results_text(results, base, terminal=sys.stdout.isatty()),
        results_chart(results),
        "divergence" if base else "perplexity",
    )


def _score_encoders(files: tuple[Path, ...], text: bytes, base: Path | None, settings: Settings) -> _Found:
    from qxmix.engines.embed import evaluate_encoders  # noqa: PLC0415 - numpy and ctypes, for this command alone

    if base is None:
        raise click.UsageError("An encoder model is compared with another: give --base.")
    with chunks_shown("Evaluating") as on_line:
        results = evaluate_encoders(files, text, base=base, settings=settings, on_line=on_line)
    return _Found(
        [embedded_object(result, settings.engine) for result in results],
        embedded_text(results, terminal=sys.stdout.isatty()),
        embedded_chart(results),
        "divergence",
    )
