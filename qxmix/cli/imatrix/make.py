"""``qxmix imatrix make``: measure a matrix, and second moments, by running a text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from qxmix.cli.imatrix.writing import check_output, write_converted
from qxmix.cli.inputs import FILE, OUTPUT, open_model, read_text, threads_option
from qxmix.cli.interrupt import stoppable, to_resume
from qxmix.cli.overwriting import overwrite_option
from qxmix.cli.progress import chunks_shown
from qxmix.cli.sizes import SIZE, text_length
from qxmix.cli.streams import notice
from qxmix.container.source import show_path
from qxmix.errors import RunError

if TYPE_CHECKING:
    from qxmix.engines.calibrate import Calibration


@click.command("make")
@click.argument("model", type=FILE)
@click.option("--text", required=True, type=FILE, help="Text to run, UTF-8.")
@click.option(
    "-o", "--output", required=True, type=OUTPUT,
    help="File to write: .gguf, or .dat, which alone ik_llama.cpp reads and which has no counts per expert.",
)  # fmt: skip
@click.option("--moments", type=OUTPUT, help="Second file to write: second moments, for feedback.")
@click.option("--chunks", type=click.IntRange(min=1), help="Chunks to run.  [default: all]")
@click.option("--first-chunk", default=0, show_default=True, type=click.IntRange(min=0), help="Chunk to begin with.")
@text_length("--ctx")
@click.option(
    "--chunks-per-pass", type=click.IntRange(min=1),
    help="Chunks side by side: more read the weights of many experts less often.  [default: 512 tokens]",
)  # fmt: skip
@click.option(
    "--memory", type=SIZE,
    help="Bound on the sums, e.g. 4G; beyond it the text is run again for the next tensors.  [default: half of all]",
)  # fmt: skip
@click.option("--process-output", is_flag=True, help="Measure the output matrix, too.")
@threads_option
@click.option("--resume", is_flag=True, help="Go on with an interrupted make.")
@overwrite_option(help="Replace outputs that exist, or start an interrupted make over.", passed=True)
def command(
    *, model: Path, text: Path, output: Path, moments: Path | None, chunks: int | None, first_chunk: int, text_ctx: int,
    chunks_per_pass: int | None, memory: int | None, process_output: bool, threads: int | None, resume: bool,
    overwrite: bool,
) -> None:  # fmt: skip
    """Run a text through MODEL in ik_llama.cpp and gather what goes into its matrices.

    The text is cut into chunks in order, as llama-perplexity cuts it.  Calibrate on other chunks than you evaluate on.
    What is gathered is kept beside the output, as NAME.partial, until all is written: an interrupted make goes on with
    --resume.
    """
    from qxmix.engines.calibrate import Settings, calibrate  # noqa: PLC0415 - numpy and ctypes, for this command alone

    state = _check_outputs(output, moments, overwrite=overwrite, resume=resume)
    header = open_model(model)
    settings = Settings(
        text_ctx,
        first_chunk,
        chunks,
        threads,
        chunks_per_pass,
        memory,
        moments=moments is not None,
        output=process_output,
    )  # fmt: skip
    resume = resume and state.exists()
    with stoppable(lambda: _parting(state)), chunks_shown("Measuring") as on_chunk:
        done = calibrate(header, read_text(text), text.name, state, settings, resume=resume, on_chunk=on_chunk)
    _write(done, output, moments)
    done.state.discard()


def _parting(state: Path) -> str:
    if not state.exists():
        return "Interrupted before anything was gathered."
    return f"Interrupted; what is gathered is kept. Go on with:\n  {to_resume()}"


def _check_outputs(output: Path, moments: Path | None, *, overwrite: bool, resume: bool) -> Path:
    """Refuse what cannot be written, before anything is read; returns where the state is kept."""
    from qxmix.container.whole_file import refuse_existing, refuse_unwritable  # noqa: PLC0415 - NumPy comes with it

    check_output(output, overwrite=overwrite)
    if moments is not None:
        if moments.suffix != ".gguf":
            text = "second moments are a GGUF file of their own; give --moments NAME.gguf"
            raise RunError.at(show_path(moments), text)
        refuse_existing(moments, overwrite=overwrite)
        refuse_unwritable(moments)
    state = output.with_name(output.name + ".partial")
    if state.exists() and not resume and not overwrite:
        text = "an interrupted make is here; go on with --resume, or start over with --overwrite"
        raise RunError.at(show_path(state), text)
    return state


def _write(done: Calibration, output: Path, moments: Path | None) -> None:
    from qxmix.container.moments_load import save_moments  # noqa: PLC0415 - NumPy comes with it
    from qxmix.importance.coverage import coverage  # noqa: PLC0415
    from qxmix.report.imatrix import coverage_json, coverage_lines  # noqa: PLC0415

    if done.unseen:
        more = f" and {len(done.unseen) - 1:,} more" if len(done.unseen) > 1 else ""
        notice(f"Note: the engine never used {done.unseen[0]}{more}; a rule with 'when: {{has_importance: false}}' "
               "selects such tensors")  # fmt: skip
    imatrix = done.imatrix(output)
    for line in coverage_lines(coverage_json(coverage(imatrix))):
        notice(f"Note: {line}")
    if moments is not None:
        save_moments(moments, done.moments(), datasets=imatrix.datasets, n_chunks=imatrix.n_chunks,
                     chunk_size=imatrix.chunk_size)  # fmt: skip
        click.echo(f"{show_path(moments)}: second moments of {len(done.moments()):,} tensors")
    write_converted(imatrix, output, imatrix.chunk_size)
