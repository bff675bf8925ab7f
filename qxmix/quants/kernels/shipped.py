"""Kernels that a package brings, compiled for a level of processors: ``qxmix-kernels``, which ``shipping`` makes.

They lie as in the cache, with sources and level in the name of the folder; a record tells which files a type needs::

    qxmix_kernels/
        block32.q8_0-0f878bf5cbbded17-x86-64-v3/
            9b6f...e1.code
            Q8_0-encode.ready                        lines such as block32.q8_0-0f87...-x86-64-v3/9b6f...e1.code;
                                                     the last is "end"

The version of numba that compiled them is no part of it: their code calls nothing of numba, and its bytes are those of
any other.  The package is found and never imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from qxmix.quants.kernels import machine_code
from qxmix.quants.kernels.processor_levels import ProcessorLevel, supported
from qxmix.quants.kernels.stamp import sources_digest, within_package

DISTRIBUTION = "qxmix-kernels"
PACKAGE = "qxmix_kernels"
_END = "end"


@cache
def package() -> Path | None:
    """Where the package is installed; None where it is not."""
    spec = find_spec(PACKAGE)
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else None


def folder(root: Path, module: str, level: ProcessorLevel) -> Path:
    """Where below ``root`` the kernels of ``qxmix.quants.<module>`` for a level are."""
    return root / f"{module}-{sources_digest(module)}-{level.name}"


def path_in(root: Path, function: Callable[..., object], kinds: tuple[str, ...], level: ProcessorLevel) -> Path:
    """The file of a kernel for such arguments and a level below ``root``."""
    return folder(root, within_package(function), level) / machine_code.file_name(function, kinds)


def paths(function: Callable[..., object], kinds: tuple[str, ...]) -> Iterator[Path]:
    """Files that a kernel may be in, if it is shipped; that of the best level first."""
    root = package()
    if root:
        yield from (path_in(root, function, kinds, level) for level in supported())


def files(root: Path, module: str, record: str, level: ProcessorLevel) -> tuple[Path, ...]:
    """The record and the files it names, all of them whole; none where one is not."""
    path = folder(root, module, level) / record
    try:
        *names, end = path.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return ()
    named = [root / name for name in names]
    return (path, *named) if end == _END and all(machine_code.read(file) is not None for file in named) else ()


def write_record(path: Path, named: Iterable[Path]) -> None:
    """Write a record of files that lie in folders beside its own."""
    lines = [*(f"{file.parent.name}/{file.name}" for file in named), _END]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")


def level_of(module: str, record: str) -> ProcessorLevel | None:
    """The best level for which the package has all that a record names, whole; None where it has it for none."""
    root = package() if machine_code.usable() else None
    return next((level for level in supported() if files(root, module, record, level)), None) if root else None
