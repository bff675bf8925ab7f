"""Several recipes in one pass, in processor time: ``python -m tests.bench.many MODEL RECIPE...``.

The bound is one read of the source and each distinct encoding once: what the pass spends inside reading, decoding and
encoding.  Beside it stand the whole work of the pass (hashes and writes of all outputs besides), and the sum of single
applies.  One worker in this process, so that processor time is that of the work.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from qxmix import load_imatrix, load_recipe, make_plan, quants, read_header
from qxmix.execute import Options, Progress, apply_all, kernels, work

if TYPE_CHECKING:
    from collections.abc import Callable

Outputs = list[tuple[Any, Path]]


class Clock:
    """Processor time inside reading, decoding and encoding, and what was read."""

    def __init__(self) -> None:
        self.inside = 0.0
        self.read: Counter[str] = Counter()

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time counted."""

        def call(*arguments: Any) -> Any:
            before = time.process_time()
            try:
                return function(*arguments)
            finally:
                self.inside += time.process_time() - before

        return call

    def reading(self, read: Callable[..., None]) -> Callable[..., None]:
        """``work._read``, time and bytes counted."""
        timed = self.timed(read)

        def call(task: Any, source: Any, buffer: memoryview) -> None:
            self.read[task.source] += len(buffer)
            timed(task, source, buffer)

        return call


def run(outputs: Outputs, clock: Clock | None = None) -> float:
    """Apply; processor seconds of the phase of work."""
    times: dict[str, float] = {}

    def note(progress: Progress) -> None:
        times.setdefault(progress.phase, time.process_time())
        times["last " + progress.phase] = time.process_time()

    codec_of, read = quants.codec_of, work._read
    if clock is not None:

        def timed_codec(name: str) -> Any:
            codec = codec_of(name)
            return replace(codec, decode=clock.timed(codec.decode), encode=clock.timed(codec.encode))

        quants.codec_of, work._read = timed_codec, clock.reading(read)
    try:
        apply_all(outputs, Options(executor="serial"), note)
    finally:
        quants.codec_of, work._read = codec_of, read
    return times["last work"] - times["kernels"]


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("recipes", nargs=-1, required=True)
@click.option("--imatrix")
def main(model: Path, recipes: tuple[str, ...], imatrix: str | None) -> None:
    """Measure."""
    header, matrix = read_header(model), load_imatrix(imatrix) if imatrix else None
    plans = [make_plan(load_recipe(name), header, matrix) for name in recipes]
    kernels.warm(*plans)
    with TemporaryDirectory(dir=Path.cwd()) as folder:
        clock = Clock()
        together = run([(p, Path(folder) / "together" / f"{i}.gguf") for i, p in enumerate(plans)], clock)
        alone = [run([(p, Path(folder) / "alone" / f"{i}.gguf")]) for i, p in enumerate(plans)]
        for i in range(len(plans)):
            pair = [(Path(folder) / kind / f"{i}.gguf").read_bytes() for kind in ("together", "alone")]
            assert pair[0] == pair[1]
    read = clock.read[str(header.path.absolute())]
    click.echo(
        f"read of the source while encoding   {read / sum(t.nbytes for t in header.tensors):.3f} times its tensors"
    )
    click.echo(f"read, decode, each encoding once    {clock.inside:.2f} s")
    click.echo(f"the pass                            {together:.2f} s, {together / clock.inside:.3f} times that")
    click.echo(f"single applies, all together        {sum(alone):.2f} s, {sum(alone) / together:.2f} times the pass")


if __name__ == "__main__":
    main()
