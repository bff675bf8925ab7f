"""``qxmix warmup``: compile kernels ahead of their first use."""

from __future__ import annotations

import time
from collections.abc import Callable
from difflib import get_close_matches
from itertools import count
from pathlib import Path

import click

import qxmix
from qxmix import system
from qxmix.cli.complete import complete_types
from qxmix.errors import RunError
from qxmix.quants import QUANT_TYPES, find
from qxmix.quants.kernels.kernel import Kernel, every_kernel
from qxmix.quants.kernels.processor_levels import LEVELS, can_compile, machine, supported


@click.command()
@click.argument("names", metavar="[TYPE]...", nargs=-1, shell_complete=complete_types)
@click.option("--all", "every", is_flag=True, help="All types, and error feedback and the exhaustive search, too.")
@click.option("--native", is_flag=True, help="For exactly this processor even what qxmix-kernels has for its level.")
@click.option(
    "--wheel",
    "wheel",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Compile for other machines instead, and pack the code as a wheel of qxmix-kernels into FOLDER.",
)
@click.option(
    "--level",
    "level_names",
    type=click.Choice([level.name for level in LEVELS]),
    multiple=True,
    help="With --wheel, processors to compile for, as often as wanted: a wheel for each family"
    " (default: x86-64-v3 and -v4; on ARM64 armv8).",
)
def command(
    names: tuple[str, ...], *, every: bool, native: bool, wheel: Path | None, level_names: tuple[str, ...]
) -> None:
    """Compile the kernels of TYPEs (default: all types) into the cache, so that the first apply need not wait.

    Error feedback and the exhaustive search have kernels of their own, which only --all compiles.

    Compiled kernels are kept in $NUMBA_CACHE_DIR, else in the user's cache folder, else in a temporary folder. Those
    that an installed wheel of qxmix-kernels has are compiled only with --native: such code is up to a tenth faster.
    """
    if every and names:
        raise click.UsageError("--all is of all types: leave out the TYPEs, or --all")
    if level_names and wheel is None:
        raise click.UsageError("--level is for what is shipped: give --wheel FOLDER, too")
    if native and wheel is not None:
        raise click.UsageError("--native is for this machine and --wheel for others: leave out either")
    chosen = [_known(name) for name in names] or [t.name for t in QUANT_TYPES if t.codec]
    plain = (Kernel(name, way) for way in ("decode", "encode") for name in chosen)
    kernels = every_kernel() if every else tuple(plain)
    if wheel is None:
        _warm(kernels, native=native)
    else:
        _ship(kernels, wheel, level_names)


def _warm(kernels: tuple[Kernel, ...], *, native: bool) -> None:
    from qxmix.quants.kernels.stamp import cache_dir  # noqa: PLC0415 - LLVM
    from qxmix.quants.kernels.warmup import pending, warm  # noqa: PLC0415

    todo = pending(kernels, native=native)
    _tell_shipped(kernels)
    if not todo:
        click.echo(f"All {len(kernels)} kernels are compiled already, in {cache_dir()}")
        return
    click.echo(f"Compiling {len(todo)} of {len(kernels)} kernels into {cache_dir()}")
    warm(todo, native=native, on_done=_counter(len(todo)))


def _tell_shipped(kernels: tuple[Kernel, ...]) -> None:
    """How many of the kernels an installed wheel has, and for what."""
    from qxmix.quants.kernels.shipped import DISTRIBUTION, package  # noqa: PLC0415 - LLVM
    from qxmix.quants.kernels.warmup import shipped_level  # noqa: PLC0415

    if package() is None:
        return
    levels = [level.name for level in map(shipped_level, kernels) if level]
    fits = f", for {' and '.join(sorted(set(levels)))}" if levels else ": it is for other processors or another qxmix"
    click.echo(f"{DISTRIBUTION} has {len(levels)} of {len(kernels)} kernels{fits}")


def _ship(kernels: tuple[Kernel, ...], folder: Path, level_names: tuple[str, ...]) -> None:
    from qxmix.quants.kernels.shipping import compile_missing, files, missing, root  # noqa: PLC0415
    from qxmix.quants.kernels.wheel import refuse_folder, write_wheel  # noqa: PLC0415 - LLVM

    if not system.LINUX:
        raise RunError("kernels are compiled for other machines on Linux alone, whose object files qxmix can read")
    levels = [level for level in LEVELS if level.name in level_names]
    levels = levels or [level for level in LEVELS if level.machine == machine() and level.usual]
    for level in levels:
        if not can_compile(level):
            why = f"the LLVM of this llvmlite makes no code for {level.machine}"
            raise RunError(f"{level.name}: {why}; leave it out, or give it on {level.machine}")
    if not set(levels) & set(supported()):
        names = " and ".join(level.name for level in levels)
        why = f"this machine does not run {names}, and what kernels a type has is found by running one's code"
        more = f"; give --level {supported()[0].name}, too" if supported() else ""
        raise RunError(f"{why}{more}")
    refuse_folder(folder)
    # The code of those that this machine runs stands in for the others.
    for level in sorted(levels, key=lambda level: level not in supported()):
        todo = missing(kernels, level)
        click.echo(f"Compiling {len(todo)} of {len(kernels)} kernels for {level.name} into {root()}")
        compile_missing(kernels, level, _counter(len(todo)))
    for family in dict.fromkeys(level.machine for level in levels):
        alike = [level for level in levels if level.machine == family]
        path = write_wheel(folder, qxmix.__version__, alike, files(kernels, alike))
        click.echo(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


def _counter(n: int) -> Callable[[Kernel], None]:
    """Tells of each of ``n`` kernels that is done."""
    start, done = time.perf_counter(), count(1)

    def tell(kernel: Kernel) -> None:
        click.echo(f"  {next(done):3} of {n}  {time.perf_counter() - start:5.1f} s  {kernel}")

    return tell


def _known(name: str) -> str:
    quant_type = find(name)
    if quant_type is None:
        near = get_close_matches(name.upper(), [t.name for t in QUANT_TYPES], n=1)
        raise click.UsageError(f"unknown type {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    if not quant_type.codec:
        raise click.UsageError(f"qxmix can size and copy {quant_type.name}, but has no kernels for it")
    return quant_type.name
