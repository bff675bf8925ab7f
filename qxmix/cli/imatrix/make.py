"""``qxmix imatrix make``: measure a matrix, and second moments, by running a text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from qxmix.cli.imatrix.writing import check_output, write_converted
from qxmix.cli.inputs import FILE, OUTPUT, open_model, read_text, threads_option
from qxmix.cli.interrupt import stoppable, to_resume
from qxmix.cli.overwriting import overwrite_option, resume_option
from qxmix.cli.progress import chunks_shown
from qxmix.cli.sizes import SIZE, text_length
from qxmix.cli.streams import notice
from qxmix.container.source import show_path
from qxmix.errors import RunError

if TYPE_CHECKING:
    from qxmix.engines.calibrate import Calibration
    from qxmix.engines.finished import Make


class _Files(NamedTuple):
    """What is to be written."""

    matrix: Path | None
    moments: Path | None


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
@resume_option(help="Go on with an interrupted make.")
@overwrite_option(help="Replace outputs that exist, or start an interrupted make over.", passed=True)
def command(
    *, model: Path, text: Path, output: Path, moments: Path | None, chunks: int | None, first_chunk: int, text_ctx: int,
    chunks_per_pass: int | None, memory: int | None, process_output: bool, threads: int | None, resume: bool,
    overwrite: bool,
) -> None:  # fmt: skip
    """Run a text through MODEL in ik_llama.cpp and gather what goes into its matrices.

    The text is cut into chunks in order, as llama-perplexity cuts it.  Calibrate on other chunks than you evaluate on.
    What is gathered is kept beside the output, as NAME.partial, until all is written: an interrupted make goes on with
    --resume, which leaves outputs that are complete.
    """
    from qxmix.engines.calibrate import Settings, calibrate  # noqa: PLC0415 - numpy and ctypes, for this command alone
    from qxmix.engines.finished import Make  # noqa: PLC0415

    state = _check_outputs(output, moments, overwrite=overwrite, resume=resume)
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
    make = Make(open_model(model), text, read_text(text), settings)
    going_on = resume and state.exists()
    files = _Files(output, moments)
    if resume and not going_on:
        files = _unfinished(files, make, overwrite=overwrite)
    if files == _Files(None, None):
        return
    with stoppable(lambda: _parting(state)), chunks_shown("Measuring") as on_chunk:
        done = calibrate(make.header, make.text_bytes, text.name, state, settings, resume=going_on, on_chunk=on_chunk)
    _write(done, files, make)
    done.state.discard()


def _parting(state: Path) -> str:
    if not state.exists():
        return "Interrupted before anything was gathered."
    return f"Interrupted; what is gathered is kept. Go on with:\n  {to_resume()}"


def _check_outputs(output: Path, moments: Path | None, *, overwrite: bool, resume: bool) -> Path:
    """Refuse what cannot be written, before anything is read; returns where the state is kept."""
    from qxmix.container.whole_file import refuse_existing, refuse_unwritable  # noqa: PLC0415 - NumPy comes with it

    check_output(output, overwrite=overwrite or resume)
    if moments is not None:
        if moments.suffix != ".gguf":
            text = "second moments are a GGUF file of their own; give --moments NAME.gguf"
            raise RunError.at(show_path(moments), text)
        refuse_existing(moments, overwrite=overwrite or resume)
        refuse_unwritable(moments)
    state = output.with_name(output.name + ".partial")
    if state.exists() and not resume and not overwrite:
        text = "an interrupted make is here; go on with --resume, or start over with --overwrite"
        raise RunError.at(show_path(state), text)
    return state


def _unfinished(files: _Files, make: Make, *, overwrite: bool) -> _Files:
    """Those that are not there yet; others stay as they are, which is told.

    Raises:
        RunError: one is there that is not what this make writes, and nobody said that it may go.

    """
    by_option = {"-o": files.matrix, "--moments": files.moments}
    finished = {o: p for o, p in by_option.items() if p and make.is_finished(p, o, overwrite=overwrite)}
    for path in finished.values():
        notice(f"{show_path(path)} is complete already, and stays as it is")
        if path.suffix.lower() == ".dat":
            notice("Note: a .dat does not say from which chunk on it was made, nor how long they were")
    return _Files(*(None if option in finished else path for option, path in by_option.items()))


def _write(done: Calibration, files: _Files, make: Make) -> None:
    from qxmix.container.moments_load import save_moments  # noqa: PLC0415 - NumPy comes with it
    from qxmix.importance.coverage import coverage  # noqa: PLC0415
    from qxmix.report.imatrix import coverage_json, coverage_lines  # noqa: PLC0415

    if done.unseen:
        more = f" and {len(done.unseen) - 1:,} more" if len(done.unseen) > 1 else ""
        notice(f"Note: the engine never used {done.unseen[0]}{more}; a rule with 'when: {{has_importance: false}}' "
               "selects such tensors")  # fmt: skip
    imatrix = done.imatrix(files.matrix or Path())
    for line in coverage_lines(coverage_json(coverage(imatrix))):
        notice(f"Note: {line}")
    if files.moments is not None:
        save_moments(files.moments, done.moments(), datasets=imatrix.datasets, n_chunks=imatrix.n_chunks,
                     chunk_size=imatrix.chunk_size, stated=make.stated())  # fmt: skip
        click.echo(f"{show_path(files.moments)}: second moments of {len(done.moments()):,} tensors")
    if files.matrix is not None:
        write_converted(imatrix, files.matrix, imatrix.chunk_size, make.stated())
