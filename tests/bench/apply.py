"""Whole applies as processes, in turns with their peers: ``python -m tests.bench.apply [MODEL] [--imatrix F]``.

Three questions: how long ``qxmix apply`` takes beside ik_llama.cpp's ``llama-quantize`` on two threads, how much faster
two workers are than one, and how fast a recipe that changes nothing copies beside ``cp`` and a sync.  The candidates
take turns and medians are compared.  Outputs are removed before each run: freeing a large old file takes time that
belongs to nobody.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from tests.bench.machine import write_run
from tests.bench.synthetic import make_imatrix, make_model

if TYPE_CHECKING:
    from collections.abc import Iterator

QXMIX = (sys.executable, "-m", "qxmix")
PURE = ("--pure", "--token-embedding-type", "q8_0", "--output-tensor-type", "q8_0")
JOBS = {
    "Q4_0": ("pure/q4_0", "Q4_0", PURE),
    "Q3_K": ("pure/q3_k", "Q3_K_S", PURE),
    "Q6_K": ("pure/q6_k", "Q6_K", PURE),
    "IQ4_XS": ("pure/iq4_xs", "IQ4_XS", PURE),
    "Q4_K_M": ("ik_llama.cpp/q4_k_m", "Q4_K_M", ()),
}
"""Recipe of qxmix; name and options of the same mix for llama-quantize."""
UNCHANGED = "qxmix: 1\nname: unchanged\ntarget: any\ndefault: f16\nfallback: {policy: error}\nkeep: ['.']\n"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What is quantized, and where to."""

    model: Path
    imatrix: Path | None
    folder: Path

    @property
    def options(self) -> list[str]:
        """The importance matrix as an option, which both programs spell alike."""
        return ["--imatrix", str(self.imatrix)] if self.imatrix else []

    def ours(self, recipe: str, n_workers: int) -> list[str]:
        """Command line of an apply."""
        output = str(self.folder / "ours.gguf")
        return [*QXMIX, "apply", recipe, str(self.model), "-o", output, "-j", str(n_workers), "--json"]

    def theirs(self, binary: Path, ftype: str, options: tuple[str, ...]) -> list[str]:
        """Command line of llama-quantize."""
        return [str(binary), *self.options, *options, str(self.model), str(self.folder / "theirs.gguf"), ftype, "2"]


def run(command: list[str], folder: Path) -> tuple[float, str]:
    """Wall time of a process in seconds, and what it printed."""
    for old in folder.glob("*.gguf"):
        old.unlink()
    os.sync()
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise click.ClickException(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    return seconds, done.stdout


def turns(commands: dict[str, list[str]], folder: Path, rounds: int) -> tuple[dict[str, float], float]:
    """Median wall time of each command over ``rounds``, and the median that our own runs waited for the disk."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    waits = []
    for _ in range(rounds):
        for name, command in commands.items():
            seconds, text = run(command, folder)
            times[name].append(seconds)
            if "qxmix" in command:
                waits.append(json.loads(text)["sync_seconds"])
    return {name: median(seconds) for name, seconds in times.items()}, median(waits)


def llama_quantize() -> Path | None:
    """The program in ik_llama.cpp's wheel, or None."""
    spec = importlib.util.find_spec("ik_llama_cpp")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    return next(iter(sorted(folder.glob("bin/llama-quantize"))), None) if folder else None


def measure(inputs: Inputs, name: str, rounds: int) -> dict[str, Any]:
    """Seconds of one mix: of one and of two workers, of llama-quantize, and of ours the wait for the disk."""
    recipe, ftype, options = JOBS[name]
    commands = {f"{n}": [*inputs.ours(recipe, n), *inputs.options] for n in (1, 2)}
    binary = llama_quantize()
    if binary is not None:
        commands["ik"] = inputs.theirs(binary, ftype, options)
    run(commands["2"], inputs.folder)  # kernels compiled, the model in the page cache
    found, wait = turns(commands, inputs.folder, rounds)
    return {"mix": name, "seconds": {**found, "sync": wait}}


def row(result: dict[str, Any]) -> str:
    """A row of the table for one mix."""
    found = result["seconds"]
    beside = f"{found['ik']:.2f} | {found['2'] / found['ik']:.3f}" if "ik" in found else "- | -"
    own = f"{found['1']:.2f} | {found['2']:.2f} | {found['1'] / found['2']:.2f} | {found['sync']:.3f}"
    return f"| {result['mix']} | {own} | {beside} |"


def measure_copy(inputs: Inputs, rounds: int) -> str:
    """How fast an apply that changes nothing is, as a share of cp's speed."""
    recipe, copy = inputs.folder / "unchanged.yaml", inputs.folder / "copy.gguf"
    recipe.write_text(UNCHANGED)
    script = f'cp --reflink=never "{inputs.model}" "{copy}" && sync "{copy}"'
    commands = {"ours": inputs.ours(str(recipe), 2), "cp": ["sh", "-c", script]}
    found, _ = turns(commands, inputs.folder, rounds)
    ours, theirs = found["ours"], found["cp"]
    return f"Unchanged: {ours:.2f} s, cp and sync {theirs:.2f} s: {100 * theirs / ours:.0f} % of its speed"


@contextmanager
def prepared(model: Path | None, imatrix: Path | None, n_layers: int) -> Iterator[Inputs]:
    """The inputs as given, or synthetic ones, and a folder for outputs that goes away."""
    with TemporaryDirectory(prefix="qxmix-bench-") as name:
        folder = Path(name)
        (folder / "out").mkdir()
        if model is None:
            click.echo(f"making a model of {n_layers} layers ...", err=True)
            model, imatrix = make_model(folder / "model.gguf", n_layers), folder / "imatrix.dat"
            make_imatrix(imatrix, model)
        yield Inputs(model, imatrix, folder / "out")


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path), required=False)
@click.option("--imatrix", type=click.Path(exists=True, path_type=Path), help="Importance matrix for MODEL.")
@click.option("--layers", default=12, show_default=True, help="Layers of 134 MB of the model made without MODEL.")
@click.option("--rounds", default=3, show_default=True, help="Turns of each candidate.")
@click.option("--only", type=click.Choice([*JOBS, "copy"]), multiple=True, help="Measure only this; may be repeated.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures to this file, too.")
def main(
    model: Path | None, imatrix: Path | None, layers: int, rounds: int, only: tuple[str, ...], json_path: Path | None
) -> None:
    """Print a Markdown table of wall times in seconds."""
    with prepared(model, imatrix, layers) as inputs:
        click.echo(f"{inputs.model.name}, {inputs.model.stat().st_size / 1e9:.2f} GB; seconds as whole processes\n")
        chosen = [n for n in JOBS if not only or n in only]
        if chosen:
            click.echo(
                "| mix | 1 worker | 2 workers | 1 / 2 | of it sync | llama-quantize, 2 threads | ours / theirs |"
            )
            click.echo("|---|---|---|---|---|---|---|")
        results = []
        for name in chosen:
            results.append(measure(inputs, name, rounds))
            click.echo(row(results[-1]))
        if json_path is not None:
            settings = {"model": inputs.model.name, "nbytes": inputs.model.stat().st_size, "rounds": rounds}
            write_run(json_path, "apply", settings, results, "mix")
        if not only or "copy" in only:
            click.echo("\n" + measure_copy(inputs, rounds))


if __name__ == "__main__":
    main()
