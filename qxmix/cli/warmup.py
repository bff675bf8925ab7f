"""``qxmix warmup``: compile kernels ahead of their first use."""

from __future__ import annotations

import time
from difflib import get_close_matches
from itertools import count

import click

from qxmix.cli.complete import complete_types
from qxmix.quants import QUANT_TYPES, find


@click.command()
@click.argument("names", metavar="[TYPE]...", nargs=-1, shell_complete=complete_types)
@click.option("--all", "every", is_flag=True, help="All types, and error feedback and the exhaustive search, too.")
def command(names: tuple[str, ...], *, every: bool) -> None:
    """Compile the kernels of TYPEs (default: all types) into the cache, so that the first apply need not wait.

    Error feedback and the exhaustive search have kernels of their own, which only --all compiles.

    Compiled kernels are kept in $NUMBA_CACHE_DIR, else in the user's cache folder, else in a temporary folder.
    """
    from qxmix.quants.stamp import cache_dir  # noqa: PLC0415 - LLVM, not needed for --help
    from qxmix.quants.warmup import Kernel, every_kernel, pending, warm  # noqa: PLC0415

    if every and names:
        raise click.UsageError("--all is of all types: leave out the TYPEs, or --all")
    chosen = [_known(name) for name in names] or [t.name for t in QUANT_TYPES if t.codec]
    plain = (Kernel(name, way) for way in ("decode", "encode") for name in chosen)
    kernels = every_kernel() if every else tuple(plain)
    todo = pending(kernels)
    if not todo:
        click.echo(f"All {len(kernels)} kernels are compiled already, in {cache_dir()}")
        return
    click.echo(f"Compiling {len(todo)} of {len(kernels)} kernels into {cache_dir()}")
    start, done = time.perf_counter(), count(1)
    warm(
        todo,
        on_done=lambda k: click.echo(
            f"  {next(done):3} of {len(todo)}  {time.perf_counter() - start:5.1f} s  {k.type} {k.direction}"
        ),
    )


def _known(name: str) -> str:
    quant_type = find(name)
    if quant_type is None:
        near = get_close_matches(name.upper(), [t.name for t in QUANT_TYPES], n=1)
        raise click.UsageError(f"unknown type {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    if not quant_type.codec:
        raise click.UsageError(f"qxmix can size and copy {quant_type.name}, but has no kernels for it")
    return quant_type.name
