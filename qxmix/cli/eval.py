"""``qxmix eval``: perplexity and divergence from a base, or distance of embeddings, computed by an engine."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qxmix.cli.inputs import EngineName, open_model, read_text
from qxmix.cli.progress import chunks_shown
from qxmix.report.text import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qxmix.engines.embed import Embedded
    from qxmix.engines.evaluate import Evaluated
    from qxmix.quants import Engine


@click.command("eval")
@click.argument("files", metavar="FILE...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--text", type=click.Path(path_type=Path), help="Text to predict, UTF-8.")
@click.option("--base", type=click.Path(path_type=Path), help="Model to compare with, usually the F16 one.")
@click.option("--chunks", type=click.IntRange(min=1), help="Chunks (of encoders: lines) to run.  [default: all]")
@click.option("--first-chunk", type=click.IntRange(min=0), default=0, help="Chunks (lines) to skip.  [default: 0]")
@click.option("--ctx", default=512, show_default=True, type=click.IntRange(min=8), help="Tokens per chunk.")
@click.option("--engine", type=EngineName(), help="Who runs them.  [default: ik_llama.cpp; encoders: llama.cpp]")
@click.option("-j", "--threads", type=click.IntRange(min=1), help="Threads of the engine.  [default: all processors]")
@click.option("--json", "as_json", is_flag=True, help="A list of objects, as in schemas/eval.schema.json.")
@click.option("--list-types", is_flag=True, help="List the tensor types that the engine runs, and exit.")
def command(
    *,
    files: tuple[Path, ...],
    text: Path | None,
    base: Path | None,
    chunks: int | None,
    first_chunk: int,
    ctx: int,
    engine: Engine | None,
    threads: int | None,
    as_json: bool,
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
    from qxmix.engines.embed import ENGINE, evaluate_encoders, is_encoder  # noqa: PLC0415 - numpy and ctypes, as below
    from qxmix.engines.evaluate import Settings, evaluate  # noqa: PLC0415 - numpy and ctypes, for this command alone

    encoders = [is_encoder(open_model(path)) for path in (*files, *([base] if base else []))]
    default: Engine = ENGINE if all(encoders) else "ik_llama.cpp"
    settings = Settings(engine or default, ctx, chunks, threads, first_chunk)
    with chunks_shown("Evaluating") as on_chunk:
        if not all(encoders):
            results = evaluate(files, read_text(text), base=base, settings=settings, on_chunk=on_chunk)
            objects = [as_object(result, settings.engine) for result in results]
            shown = results_text(results, base, terminal=sys.stdout.isatty())
        elif base is None:
            raise click.UsageError("An encoder model is compared with another: give --base.")
        else:
            found = evaluate_encoders(files, read_text(text), base=base, settings=settings, on_line=on_chunk)
            objects = [embedded_object(result, settings.engine) for result in found]
            shown = embedded_text(found, terminal=sys.stdout.isatty())
    click.echo(json.dumps(objects, indent=2) if as_json else shown)


def embedded_object(result: Embedded, engine: Engine) -> dict[str, object]:
    """One entry of the JSON list for an encoder."""
    scores = {key: value for key, value in asdict(result).items() if key != "path"}
    return {"file": str(result.path), "engine": engine} | scores


def embedded_text(results: Sequence[Embedded], *, terminal: bool) -> str:
    """A table of encoders."""
    titles = ["file", "?>bytes", ">lines", ">mean 1 - cosine", "?>+-", ">median", "?>99 %"]
    rows = []
    for r in results:
        figures = (r.mean_distance, r.mean_distance_error, r.median_distance, r.distance_99)
        rows.append([str(r.path), f"{r.nbytes:,}", f"{r.n_lines:,}", *(f"{value:.6f}" for value in figures)])
    return table(titles, rows, terminal=terminal)


def as_object(result: Evaluated, engine: Engine) -> dict[str, object]:
    """One entry of the JSON list; what needs a base is left out where there is none."""
    scores = {key: value for key, value in asdict(result.summary).items() if value is not None}
    base = {"base_ppl": result.base.ppl} if result.base else {}
    return {"file": str(result.path), "nbytes": result.nbytes, "engine": engine} | scores | base


def results_text(results: Sequence[Evaluated], base: Path | None, *, terminal: bool) -> str:
    """A table: the base, the files."""
    titles = ["file", "?>bytes", ">PPL", "?>+-"]
    rows = []
    if base and results[0].base:
        titles += [">mean KLD", "?>+-", ">median", "?>99 %", ">same top %", "?>RMS dp %"]
        of_base = results[0].base
        rows.append([f"{base} (base)", "", f"{of_base.ppl:.4f}", f"{of_base.ppl_error:.4f}", *[""] * 6])
    for result in results:
        s = result.summary
        row = [str(result.path), f"{result.nbytes:,}", f"{s.ppl:.4f}", f"{s.ppl_error:.4f}"]
        kld = (s.mean_kld, s.mean_kld_error, s.median_kld, s.kld_99)
        row += [f"{value:.5f}" for value in kld if value is not None]
        row += [f"{value:.2f}" for value in (s.same_top_percent, s.rms_p_diff_percent) if value is not None]
        rows.append(row)
    return table(titles, rows, terminal=terminal)
