"""``qxmix measure``: what types do to the tensors of a model, for ``solve`` and ``plan --measure``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qxmix.cli.complete import complete_type_list
from qxmix.cli.inputs import FILE, TEXT, THREADS, Beside, EngineName, open_model, read_text
from qxmix.cli.interrupt import stoppable
from qxmix.cli.overwriting import RESULTS, overwrite_option
from qxmix.cli.progress import QUIET_SECONDS
from qxmix.cli.sizes import Finite, Parsed, text_length
from qxmix.cli.streams import notice
from qxmix.container.imatrix_load import load_imatrix
from qxmix.errors import ModelFileError
from qxmix.measurement.file import save_measurement
from qxmix.measurement.model import Measurement
from qxmix.processors import n_processors
from qxmix.quants import Engine
from qxmix.recipe.model import Target, engines_of

if TYPE_CHECKING:
    from qxmix.measure.model import Job, OnProgress, Phase, Settings

_N_LOOKED_AT = 3
"""Matrices that are looked at for a lattice, the smallest: of a model that was trained on one all sit on it."""
_LABELS = {
    "kernels": "compiling kernels",
    "errors": "errors",
    "base": "running the base",
    "sensitivities": "sensitivities",
    "joint": "whole recipes",
}


def _parse_count(text: str) -> int | None:
    """A whole number of 1 or more; None for ``all``."""
    if text == "all":
        return None
    if not text.isdecimal() or not int(text):
        raise ValueError(f"{text!r} is neither a number of 1 or more nor 'all'")
    return int(text)


_COUNT = Parsed("N|all", _parse_count)


@click.command("measure")
@click.argument("model", type=FILE)
@click.option("-o", "--output", required=True, type=TEXT, help="The measurement, JSON.")
@overwrite_option()
@click.option("--imatrix", type=FILE, help="Importance matrix that encoders and errors use.")
@click.option("--target", type=EngineName("any"), default="ik_llama.cpp", show_default=True, help="Whose types.")
@click.option(
    "--types", default="", shell_complete=complete_type_list,
    help="Types to try, with commas between, or 'all'.  [default: 12 from 2 to 8.5 bits]",
)  # fmt: skip
@click.option("--rows", type=_COUNT, default="1024", show_default=True, help="Rows to encode of each tensor.")
@click.option("--text", type=FILE, help="Text to measure losses on, UTF-8; without, errors alone.")
@click.option("--chunks", type=_COUNT, default="4", show_default=True, help="Chunks (of an encoder: lines) to run.")
@click.option("--first-chunk", type=click.IntRange(min=0), default=0, show_default=True, help="Chunks to skip.")
@text_length("--ctx")
@click.option("--bits", default="4.5", show_default=True, help="Bits per weight to swap tensors at, commas between.")
@click.option("--measurements", type=click.IntRange(min=1), help="Most passes with one of them.  [default: all]")
@click.option("--minutes", type=Finite(min=0), help="Longest time for swapping them.")
@click.option("--tied", is_flag=True, help="Swap gate and up together, and q, k and v.")
@click.option("--no-joint", is_flag=True, help="Run no whole recipes at the end.")
@click.option("--engine", type=EngineName(), help="Who runs the text.  [default: ik_llama.cpp; for encoders llama.cpp]")
@click.option("-j", "--threads", type=THREADS, help="Threads.  [default: all processors]")
@click.option("--cache", type=Beside(RESULTS), help="File that keeps single results for later runs.")
def command(
    *, model: Path, output: Path, imatrix: Path | None, target: Target, types: str, rows: int | None,
    text: Path | None, chunks: int | None, first_chunk: int, text_ctx: int, bits: str, measurements: int | None,
    minutes: float | None, tied: bool, no_joint: bool, engine: Engine | None, threads: int | None, cache: Path | None,
) -> None:  # fmt: skip
    """Measure how much types distort the tensors of MODEL, and with --text how much of that each tensor can bear.

    Errors: each tensor is encoded and decoded by the real encoders.  Losses: single tensors are replaced in a base that
    stays loaded, and the divergence is measured; what a budget leaves out is filled in from tensors around it.
    Interrupted, the same command goes on where it was.
    """
    from qxmix.engines.evaluate import N_UBATCH  # noqa: PLC0415 - numpy and ctypes, for this command alone
    from qxmix.measure.model import Settings  # noqa: PLC0415
    from qxmix.measure.score import Passage  # noqa: PLC0415

    if text is None and (measurements or minutes is not None or engine):
        raise click.UsageError("--measurements, --minutes and --engine are about losses; give --text, too.")
    n_threads = threads or n_processors()
    passage = Passage(_text(text), text_ctx, first_chunk, chunks, min(text_ctx, N_UBATCH), n_threads) if text else None
    settings = Settings(
        target=target,
        types=tuple(name.strip() for name in types.split(",") if name.strip()),
        n_rows=rows,
        n_workers=n_threads,
        passage=passage,
        engine=engine,
        tied=tied,
        bits=_bits(bits),
        n_measurements=measurements,
        seconds=None if minutes is None else 60 * minutes,
        joint=not no_joint,
    )
    _measure(model, imatrix, output, cache, settings)


def _measure(model: Path, imatrix: Path | None, output: Path, cache: Path | None, settings: Settings) -> None:
    from qxmix.measure.journal import open_journal  # noqa: PLC0415 - see above
    from qxmix.measure.run import make_job, measure  # noqa: PLC0415

    header = open_model(model)
    job = make_job(header, load_imatrix(imatrix) if imatrix else None, settings)
    _tell_of_lattices(job)
    journal = cache or output.with_name(f"{output.name}.partial")
    parting = f"Interrupted; the same command goes on from {journal}."
    with stoppable(lambda: parting), open_journal(journal) as results, _shown() as on_progress:
        found = measure(job, results, on_progress, _tell)
    save_measurement(found, output)
    if cache is None:
        journal.unlink(missing_ok=True)
    if settings.passage and not found.points:
        notice("no loss was measured")
    click.echo(summary(output, found))


def _tell_of_lattices(job: Job) -> None:
    """Say so where the smallest matrices sit on a lattice: a type that is not tried may keep every weight."""
    from qxmix.measure.lattice import is_looked_at, lattice_of  # noqa: PLC0415 - see above

    matrices = sorted((s for s in job.sources if is_looked_at(s.tensor)), key=lambda s: s.tensor.n_weights)
    found = [lattice_of(source, engines_of(job.settings.target)) for source in matrices[:_N_LOOKED_AT]]
    types = sorted({lattice.type for lattice in found if lattice and lattice.type})
    if not all(found) or set(types) <= set(job.types):
        return
    notice(
        f"{', '.join(lattice.tensor for lattice in found if lattice)}: the weights sit on a lattice, which "
        f"{' and '.join(types)} would keep; qxmix inspect {job.header.path} --lattice tells of which tensors, and "
        f"--types {','.join((*job.types, *(t for t in types if t not in job.types)))} tries it, too"
    )


def summary(output: Path, found: Measurement) -> str:
    """One line on what came out."""
    parts = [f"{len(found.tensors):,} tensors", f"{len(found.types)} types"]
    if found.run:
        measured = sum(t.sensitivity is not None and t.sensitivity.origin == "measured" for t in found.tensors)
        parts += [f"sensitivities of {measured:,} measured", f"noise floor {found.run.noise_floor:.2g}"]
    return f"{output}: {', '.join(parts)}"


def _bits(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(0 < bits < 32 for bits in found):  # noqa: PLR2004 - what a weight can have
        raise click.BadParameter(f"{text!r} is no list of bits per weight such as 4.5 or 3,4.5", param_hint="--bits")
    return found


def _text(path: Path) -> bytes:
    content = read_text(path)
    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{path}: the text is not UTF-8: byte {error.start}; convert it first") from None
    return content.removesuffix(b"\n")


def _tell(what: str, seconds: float) -> None:
    notice(f"{what}: about {_duration(seconds)}")


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"  # noqa: PLR2004


@contextmanager
def _shown() -> Iterator[OnProgress]:
    """A bar on a terminal, a line now and then elsewhere, both with the time that is left."""
    if not sys.stderr.isatty() or os.environ.get("TERM") in {"dumb", "unknown"}:
        yield _Lines()
        return
    # rich takes 0.1 s to import; a log must not pay for it.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks = {}

        def on_progress(phase: Phase, done: float, total: float) -> None:
            if phase not in tasks:
                tasks[phase] = bar.add_task(_LABELS[phase], total=total)
            bar.update(tasks[phase], completed=done, total=total)

        yield on_progress


class _Lines:
    """A line every half minute, with the time left at the speed since the last one.

    What an earlier run had done goes by in no time, and says nothing of the rest.
    """

    def __init__(self) -> None:
        self._phase: str = ""
        self._last, self._done = time.monotonic(), 0.0

    def __call__(self, phase: Phase, done: float, total: float) -> None:
        now = time.monotonic()
        if phase != self._phase:
            self._phase, self._last, self._done = phase, now, done
        elif now - self._last >= QUIET_SECONDS and self._done < done < total:
            left = (now - self._last) * (total - done) / (done - self._done)
            self._last, self._done = now, done
            notice(f"{_LABELS[phase]}: {done / total:.0%}, about {_duration(left)} left")
