"""Compiling kernels for levels of processors, to be shipped: what a maintainer does once for everybody.

Each is compiled in a process of its own that numba compiles for the level in, be it of this family or not (``cross``).
Which kernels a type has follows from calling it, and some are called with what others found: where this processor
cannot run a level's code, that of one it can, compiled before, stands in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path

from qxmix.errors import RunError
from qxmix.processors import n_processors
from qxmix.quants import get
from qxmix.quants.kernels import entry, machine_code, shipped, supply
from qxmix.quants.kernels.elsewhere import Outcome, Work, work_on
from qxmix.quants.kernels.kernel import Kernel, record
from qxmix.quants.kernels.processor_levels import LEVELS, ProcessorLevel, machine, supported
from qxmix.quants.kernels.stamp import cache_dir
from qxmix.quants.kernels.warmup import run

_CODE = (
    "import sys; from qxmix.quants.kernels import elsewhere; from qxmix.quants.kernels.shipping import compile_for; "
    "elsewhere.serve(lambda kernel: compile_for(kernel, *sys.argv[1:]))"
)


def root() -> Path:
    """Where shipped kernels are compiled into; what is there is not compiled again."""
    return cache_dir() / "shipped"


def missing(kernels: Iterable[Kernel], level: ProcessorLevel) -> tuple[Kernel, ...]:
    """Those that have not been compiled for a level; encoders first, which take longest."""
    found = sorted(k for k in set(kernels) if not _files(k, level))
    return tuple(sorted(found, key=lambda k: k.direction == "decode"))


def compile_missing(kernels: Iterable[Kernel], level: ProcessorLevel, on_done: Callable[[Kernel], None]) -> None:
    """Compile for a level what is missing; ``on_done`` is told of each in turn.

    Raises:
        RunError: a kernel cannot be compiled, or not be used without numba.

    """
    failed: list[Outcome] = []

    def told(outcome: Outcome) -> None:
        if outcome.failed:
            failed.append(outcome)
        on_done(outcome.kernel)

    todo = missing(kernels, level)
    root().mkdir(parents=True, exist_ok=True)
    if todo:
        # A process for each: it is asked for each kernel once, and a record needs all of them.
        work_on(todo, Work(_CODE, (level.name,), _environment(level), root()), min(n_processors(), len(todo)), told)
    if failed:
        kernel, why = failed[0]
        first = f"{kernel}: {why}"
        raise RunError(f"{len(failed)} of {len(todo)} kernels could not be compiled for {level.name}; {first}")


def files(kernels: Iterable[Kernel], levels: Iterable[ProcessorLevel]) -> dict[str, Path]:
    """What goes into the package, by its name there."""
    every = (file for kernel, level in product(kernels, levels) for file in _files(kernel, level))
    return {file.relative_to(root()).as_posix(): file for file in every}


def compile_for(kernel: Kernel, name: str) -> None:
    """Compile one kernel for a level: of this family by the settings of numba that are in the environment.

    Raises:
        RunError: it cannot be kept, or the code that is to stand in for it is not there.

    """
    level = next(x for x in LEVELS if x.name == name)
    assert os.environ.get("NUMBA_CPU_NAME") == (level.cpu if level.machine == machine() else None)
    assert entry.arrays_are_as_drawn()
    if level.machine != machine():
        from qxmix.quants.compiling import cross  # noqa: PLC0415 - numba

        cross.compile_for(level)
    runs = level if level in supported() else supported()[0]
    made: list[Path] = []

    def make(stand_in: supply.Kernel, kinds: supply.Kinds, arguments: tuple[object, ...]) -> Callable[..., object]:
        path = shipped.path_in(root(), stand_in.py_func, kinds, level)
        if machine_code.read(path) is None:
            _compile(path, stand_in, kinds, arguments, level)
        made.append(path)
        found = machine_code.load(shipped.path_in(root(), stand_in.py_func, kinds, runs), kinds)
        if found is None:
            raise RunError(
                f"{stand_in.py_func.__qualname__} has not been compiled for {runs.name}, which this machine has"
            )
        return found

    supply.SOURCE.set(make)
    machine_code.kinds = _no_others
    run(kernel)
    at = shipped.folder(root(), get(kernel.type).codec, level)
    at.mkdir(parents=True, exist_ok=True)
    shipped.write_record(at / record(kernel), made)


_kinds = machine_code.kinds


def _no_others(arguments: tuple[object, ...]) -> supply.Kinds:
    """``machine_code.kinds`` where numba must not run a kernel, whose code may not be this processor's."""
    found = _kinds(arguments)
    if found is None:
        raise RunError(
            f"a kernel is given {', '.join(type(a).__name__ for a in arguments)}, and one of these needs numba"
        )
    return found


def _compile(
    path: Path, stand_in: supply.Kernel, kinds: supply.Kinds, arguments: tuple[object, ...], level: ProcessorLevel
) -> None:
    from qxmix.quants.compiling import compiler  # noqa: PLC0415 - numba, in the processes that compile

    result = compiler.compiled(stand_in.made, arguments)
    if result is not None:
        machine_code.write(path, kinds, result, level.triple if level.machine != machine() else "")
    if machine_code.read(path) is None:
        raise RunError(f"{stand_in.py_func.__qualname__} could not be written to {path.parent} as code without numba")


def _files(kernel: Kernel, level: ProcessorLevel) -> tuple[Path, ...]:
    return shipped.files(root(), get(kernel.type).codec, record(kernel), level)


def _environment(level: ProcessorLevel) -> dict[str, str]:
    """That of this process without settings of numba that change code, and with those of the level."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    told = {"NUMBA_CPU_NAME": level.cpu, "NUMBA_CPU_FEATURES": level.flags} if level.machine == machine() else {}
    return kept | told | {"NUMBA_CACHE_DIR": str(cache_dir())}
