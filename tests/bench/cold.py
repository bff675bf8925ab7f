"""What the first use costs with an empty kernel cache: ``python -m tests.bench.cold [TYPE...] [--beside TREE]``.

Processor time and wall time of a new process that encodes one block of each type, and of the demo, in turns with
another checkout of qxmix, and (``--kernels WHEEL``) with shipped kernels installed.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import click

from tests.bench.machine import write_run

HERE = Path(__file__).parents[2]
CALL = """
import sys, numpy as np, qxmix
qxmix.quantize(np.ones((16, 256), np.float32), sys.argv[1], np.ones(256, np.float32))
"""
DEMO = "demo"


def first_use(path: tuple[Path, ...], what: str) -> dict[str, float]:
    """Seconds of a process and its children that import from ``path``, nothing being compiled."""
    with TemporaryDirectory(prefix="qxmix-cold-") as folder:
        imported = os.pathsep.join(map(str, path))
        environment = {**os.environ, "NUMBA_CACHE_DIR": f"{folder}/kernels", "PYTHONPATH": imported}
        call = ["-c", CALL, what] if what != DEMO else ["-m", "qxmix", "demo", f"{folder}/demo"]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, *call], env=environment, cwd=folder, check=True, capture_output=True)
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"processor": round(processor, 2), "wall": round(wall, 2)}


@click.command()
@click.argument("names", metavar="[TYPE]...", nargs=-1)
@click.option("--beside", type=click.Path(exists=True, path_type=Path), help="Another checkout.")
@click.option(
    "--kernels",
    type=click.Path(exists=True, path_type=Path),
    help="A wheel of qxmix-kernels (qxmix warmup --wheel), with which this checkout is measured once more.",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures to this file, too.")
def main(names: tuple[str, ...], beside: Path | None, kernels: Path | None, json_path: Path | None) -> None:
    """Print a Markdown table of seconds for TYPEs, or for four that stand for the others and the demo."""
    paths: dict[str, tuple[Path, ...]] = {"here": (HERE,)}
    if beside:
        paths["beside"] = (beside.absolute(),)
    results = []
    with TemporaryDirectory(prefix="qxmix-cold-") as installed:
        if kernels:
            ZipFile(kernels).extractall(installed)
            paths["with shipped kernels"] = HERE, Path(installed)
        click.echo(f"| first use of | {' | '.join(f'processor s, {t} | wall s, {t}' for t in paths)} |")
        for name in names or ("Q8_0", "Q4_K", "Q4_0", "IQ4_NL", DEMO):
            found = {label: first_use(path, name) for label, path in paths.items()}
            results.append({"first": name, "seconds": found})
            cells = [f"{seconds['processor']} | {seconds['wall']}" for seconds in found.values()]
            click.echo(f"| {name} | {' | '.join(cells)} |")
    if json_path is not None:
        write_run(json_path, "cold", {}, results, "first")


if __name__ == "__main__":
    main()
