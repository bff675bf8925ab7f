"""What ``qxmix measure`` costs, in processor time: ``python -m tests.bench.measure MODEL --text F [--imatrix F]``.

Errors stand beside encoding the whole model once with each type; a pass with one matrix swapped (encoded, decoded, put
into the base, scored, put back) beside a pass of the base.  The engine's process counts, too.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import click

from qxmix import load_imatrix, read_header
from qxmix.engines.evaluate import N_UBATCH
from qxmix.execute.sample import Rows
from qxmix.measure.encode import encoded
from qxmix.measure.errors import measure_errors
from qxmix.measure.journal import open_journal
from qxmix.measure.model import Job, Settings
from qxmix.measure.run import make_job
from qxmix.measure.score import KldScorer, Passage
from qxmix.measure.swap import Swap

_PIECE = 1 << 22
"""Weights that are encoded at a time."""


@dataclass(slots=True)
class Clock:
    """Processor seconds of this process and of another."""

    other: int | None = None

    def now(self) -> float:
        """Seconds since some time."""
        mine = time.process_time()
        if self.other is None:
            return mine
        fields = Path(f"/proc/{self.other}/stat").read_text().rpartition(")")[2].split()
        return mine + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def encode_all(job: Job) -> float:
    """Processor seconds for encoding every matrix with every type that its rows allow."""
    spent = 0.0
    for source, types in zip(job.sources, job.allowed, strict=True):
        n_rows, n_cols = source.tensor.n_rows, source.tensor.n_cols
        step = max(1, _PIECE // n_cols)
        for start in range(0, n_rows, step):
            weights = source.decode(source.read([Rows(0, start, min(step, n_rows - start))]))
            for name in types:
                before = time.process_time()
                encoded(name, weights, source.columns(0))
                spent += time.process_time() - before
    return spent


def errors(job: Job) -> float:
    """Processor seconds of measuring all errors."""
    with (
        TemporaryDirectory() as folder,
        open_journal(Path(folder) / "journal") as journal,
        ThreadPoolExecutor(1) as executor,
    ):
        before = time.process_time()
        measure_errors(job, journal, executor, lambda _n: None)
        return time.process_time() - before


def passes(job: Job, passage: Passage, n: int) -> tuple[float, float]:
    """Median processor seconds of a pass of the base, and of one with a matrix swapped, in turns."""
    base, swapped = [], []
    sources = [s for s in job.sources if s.tensor.name.startswith("blk.")][:: max(1, len(job.sources) // n)][:n]
    with KldScorer(job.header, passage, "ik_llama.cpp") as scorer, ThreadPoolExecutor(1) as executor:
        clock = Clock(scorer._process.pid)
        list(scorer.keep())
        for source in sources:
            before = clock.now()
            scorer.loss()
            between = clock.now()
            with scorer.swapped({source.tensor.name: Swap(source, "Q4_0", executor, 1)}):
                scorer.loss()
            base.append(between - before)
            swapped.append(clock.now() - between)
    return median(base), median(swapped)


@click.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True))
@click.option("--imatrix", type=click.Path(path_type=Path, exists=True))
@click.option("--text", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--chunks", type=int, default=4, show_default=True)
@click.option("--passes", "n_passes", type=int, default=7, show_default=True)
def main(model: Path, imatrix: Path | None, text: Path, chunks: int, n_passes: int) -> None:
    """Print the two ratios."""
    header = read_header(model)
    job = make_job(header, load_imatrix(imatrix) if imatrix else None, Settings())
    errors(job)  # compiles
    everything = encode_all(job)
    for rows, told in ((job.settings.n_rows, f"{job.settings.n_rows} rows of each matrix"), (None, "all rows")):
        spent = errors(replace(job, settings=replace(job.settings, n_rows=rows)))
        print(
            f"errors of {len(job.types)} types, {told}: {spent:.1f} s, "
            f"{spent / everything:.2f} of encoding once with each"
        )
    passage = Passage(text.read_bytes(), 512, 0, chunks, N_UBATCH, 1)
    base, swapped = passes(job, passage, n_passes)
    print(f"a pass of {chunks} chunks: {base:.2f} s; with a matrix swapped {swapped:.2f} s, {swapped / base:.3f} times")


if __name__ == "__main__":
    main()
