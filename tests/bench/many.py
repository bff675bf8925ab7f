"""Several recipes in one pass, in processor time: ``python -m tests.bench.many MODEL RECIPE... [--imatrix F]``.

The bound is one read of the source and each distinct encoding once, as single applies do them, in the same turn:

    one read            rows are read, hashed, decoded and tested; the mean over the single applies, per tensor
    each encoding once  all else that a single apply's worker does for a tensor: encode, test the scales, hash, write

Both are summed over the workers' tasks, so that the bound has no share of handing them out, of journals and of
flushing, which the pass has.  The pass is its whole phase of work.  Beside it stands a harder bound: reading, decoding
and encoding alone, without a hash or a write of any output.  One worker in this process, so that processor time is that
of the work; of several turns the least of each counts.
"""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from qxmix import load_imatrix, load_recipe, make_plan, quants, read_header
from qxmix.execute import Options, Progress, apply_all, drive, kernels, making, work

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence
    from types import ModuleType

    from qxmix.execute.task import Bundle
    from qxmix.plan import Plan

Outputs = list[tuple[Any, Path]]


@dataclass
class Clock:
    """Processor seconds of the parts of applies."""

    bare: float = 0.0
    """Reading, decoding and encoding alone."""
    loads: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Of each tensor's rows, once for each apply."""
    rest: dict[Hashable, float] = field(default_factory=dict)
    """Of each distinct encoding of a tensor."""

    def bound(self) -> float:
        """One read, and each distinct encoding once."""
        return sum(map(fmean, self.loads.values())) + sum(self.rest.values())


def timed(function: Callable[..., Any], add: Callable[[float], None]) -> Callable[..., Any]:
    """The function, its time added up."""

    def call(*arguments: Any) -> Any:
        before = time.process_time()
        try:
            return function(*arguments)
        finally:
            add(time.process_time() - before)

    return call


@contextmanager
def patched(module: ModuleType, **functions: Any) -> Iterator[None]:
    """Put functions in the place of a module's own for a while."""
    own = {name: vars(module)[name] for name in functions}
    vars(module).update(functions)
    try:
        yield
    finally:
        vars(module).update(own)


def phase_of_work(outputs: Outputs) -> float:
    """Apply; processor seconds of the phase of work."""
    times: dict[str, float] = {}

    def note(progress: Progress) -> None:
        times.setdefault(progress.phase, time.process_time())
        times["last " + progress.phase] = time.process_time()

    apply_all(outputs, Options(executor="serial"), note)
    return times["last work"] - times["kernels"]


def take_apart(plan: Plan, path: Path, clock: Clock) -> float:
    """A single apply whose tasks are timed by what they do; returns its phase of work."""
    loads: defaultdict[str, float] = defaultdict(float)
    encoded: defaultdict[Hashable, float] = defaultdict(float)
    load, run_bundle = work._load, vars(drive)["run_bundle"]

    def timed_load(task: Any, *arguments: Any) -> None:
        def add(seconds: float) -> None:
            loads[task.name] += seconds

        timed(load, add)(task, *arguments)

    def timed_bundle(bundle: Bundle) -> Any:
        task = bundle[0]
        key = task.name, making._decides(task)
        before = loads[task.name]

        def add(seconds: float) -> None:
            encoded[key] += seconds - (loads[task.name] - before)

        return timed(run_bundle, add)(bundle)

    with patched(work, _load=timed_load), patched(drive, run_bundle=timed_bundle):
        seconds = phase_of_work([(plan, path)])
    for name, spent in loads.items():
        clock.loads[name].append(spent)
    clock.rest |= encoded
    return seconds


def bare(outputs: Outputs, clock: Clock) -> int:
    """A pass in which only reading, decoding and encoding are timed; returns the bytes of the model that it read."""
    codec_of, read = quants.codec_of, work._read
    n_read = 0

    def add(seconds: float) -> None:
        clock.bare += seconds

    def timed_codec(name: str) -> Any:
        codec = codec_of(name)
        return replace(codec, decode=timed(codec.decode, add), encode=timed(codec.encode, add))

    def timed_read(task: Any, source: Any, buffer: memoryview) -> None:
        nonlocal n_read
        if task.action != "hash":
            n_read += len(buffer)
            timed(read, add)(task, source, buffer)
        else:
            read(task, source, buffer)

    with patched(quants, codec_of=timed_codec), patched(work, _read=timed_read):
        phase_of_work(outputs)
    return n_read


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("recipes", nargs=-1, required=True)
@click.option("--imatrix")
@click.option("--turns", default=3)
def main(model: Path, recipes: Sequence[str], imatrix: str | None, turns: int) -> None:
    """Measure."""
    header, matrix = read_header(model), load_imatrix(imatrix) if imatrix else None
    plans = [make_plan(load_recipe(name), header, matrix) for name in recipes]
    kernels.warm(*plans)
    passes, bounds = [], []
    for turn in range(turns):
        with TemporaryDirectory(dir=Path.cwd()) as folder:
            clock = Clock()
            alone = [take_apart(p, Path(folder) / f"{i}.gguf", clock) for i, p in enumerate(plans)]
            outputs = [(p, Path(folder) / "together" / f"{i}.gguf") for i, p in enumerate(plans)]
            together = phase_of_work(outputs)
            for i, (_, path) in enumerate(outputs):
                assert path.read_bytes() == (Path(folder) / f"{i}.gguf").read_bytes()
        passes.append(together)
        bounds.append(clock.bound())
        click.echo(
            f"turn {turn + 1}: one read and each encoding once {bounds[-1]:.2f} s, the pass {together:.2f} s;"
            f" single applies {sum(alone):.2f} s"
        )
    with TemporaryDirectory(dir=Path.cwd()) as folder:
        n_read = bare([(p, Path(folder) / f"{i}.gguf") for i, p in enumerate(plans)], clock := Clock())
    click.echo(f"the pass to its bound                    {min(passes) / min(bounds):.3f}")
    click.echo(f"to reading, decoding and encoding alone  {min(passes) / clock.bare:.3f}")
    click.echo(
        f"read of the source while encoding        {n_read / sum(t.nbytes for t in header.tensors):.3f} times it"
    )


if __name__ == "__main__":
    main()
