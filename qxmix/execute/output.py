"""The files of an output, from the first byte reserved to the last rename.

Work goes to ``NAME.partial`` beside the final name, at its full size from the start; the final name appears by a
rename, after the check and the sync, or not at all.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from qxmix import system
from qxmix.container.layout import OutputFile, output_path
from qxmix.container.recognize import PARTIAL
from qxmix.container.whole_file import is_stream
from qxmix.errors import RunError
from qxmix.execute.aids import Aids
from qxmix.plan import Plan

FOLDER = "is a folder; give the name of a file"
DEVICE = "is a device, pipe or socket; give the name of a file"
_LOCK_ATTEMPTS = 50
"""How often the journal may vanish between being opened and being locked."""


@dataclass(frozen=True, slots=True)
class Output:
    """Where an apply writes."""

    finals: tuple[Path, ...]
    """The output files, one per shard."""
    partials: tuple[Path, ...]
    """The same while they are unfinished."""
    journal: Path
    """What is done so far; also the lock."""


def name_output(plan: Plan, output: Path) -> Output:
    """All paths of an output; a symbolic link is followed, so that its target is replaced and not the link.

    Raises:
        RunError: links lead in a circle, a name is too long, or it is none of a file.

    """
    given = str(output)
    try:
        opened, output = is_stream(output), output.resolve()
        if not output.name or opened:  # a root, or on Windows NUL
            raise RunError.at(given, FOLDER if output.is_dir() else DEVICE)
        finals = tuple(output_path(output, file.suffix).resolve() for file in plan.files)
    except OSError as error:
        raise RunError.at(given, explain(error)) from error
    except RuntimeError as error:  # what Python before 3.13 makes of ELOOP
        raise RunError.at(given, explain(OSError(errno.ELOOP, os.strerror(errno.ELOOP)))) from error
    partials = tuple(final.with_name(final.name + PARTIAL) for final in finals)
    return Output(finals, partials, output.with_name(output.name + ".journal"))


@contextmanager
def folder_of(path: Path) -> Iterator[None]:
    """Have the folders that a file lies in; those made for it go again when an error leaves nothing in them."""
    with file_errors(path.parent):
        made = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise


def reserve(path: Path, nbytes: int, aids: Aids) -> None:
    """Create ``path`` anew at ``nbytes``, with the space reserved where the file system can.

    Raises:
        RunError: there is no room for it.

    """
    with file_errors(path, nbytes):
        path.unlink(missing_ok=True)
        descriptor = system.open_new(path)
    try:
        without = "no space is reserved, so the disk may run full in the middle"
        with file_errors(path, nbytes, call="fallocate"), aids.allow("fallocate", path, without):
            system.reserve(descriptor, nbytes)
        with file_errors(path, nbytes, call="ftruncate"):
            system.set_length(descriptor, nbytes)
    except RunError:
        _remove(path)
        raise
    finally:
        os.close(descriptor)


def discard(output: Output, descriptor: int) -> None:
    """Remove everything unfinished, as far as the system lets it go; the journal is open."""
    for path in output.partials:
        _remove(path)
    with suppress(OSError):
        drop_journal(descriptor, output.journal)


def drop_journal(descriptor: int, path: Path) -> None:
    """Remove an open journal; where what is open cannot be, it is empty now, and goes once it is closed."""
    if system.WINDOWS:
        os.ftruncate(descriptor, 0)
    else:
        path.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    with suppress(OSError):
        system.remove(path)


def write_header(path: Path, header: bytes) -> None:
    """Put the header in place, once all tensors are."""
    with file_errors(path), path.open("r+b") as file:
        file.write(header)


def check(path: Path, planned: OutputFile, header: bytes) -> None:
    """Read a finished file's header again and compare it with the one that was written.

    Raises:
        RunError: length or header is not what was planned.

    """
    nbytes = path.stat().st_size
    if nbytes != planned.nbytes:
        raise RunError.at(path, f"has {nbytes:,} bytes where {planned.nbytes:,} were planned")
    with path.open("rb") as file:
        if file.read(len(header)) != header:
            raise RunError.at(path, "the header is not the one that was written; check the disk")


def sync(path: Path, aids: Aids) -> None:
    """Wait until a file, or the names in a folder, are on the disk.

    Raises:
        RunError: the disk failed.

    """
    call = "fsync of a folder" if path.is_dir() else "fsync"
    with _waiting(call, path, aids):
        system.sync(path)


def sync_open(descriptor: int, path: Path, aids: Aids) -> None:
    """Wait until an open file, which may have lost its name, is on the disk; see :func:`sync`."""
    with _waiting("fsync", path, aids):
        system.sync_open(descriptor)


@contextmanager
def _waiting(call: str, path: Path, aids: Aids) -> Iterator[None]:
    with file_errors(path, call=call), aids.allow(call, path, "only the system knows when the output is on the disk"):
        yield


@contextmanager
def locked(path: Path, aids: Aids) -> Iterator[int]:
    """Open the journal for this apply alone; yields its descriptor, positioned at the start.

    Raises:
        RunError: another apply has it.

    """
    for attempt in range(_LOCK_ATTEMPTS):
        with file_errors(path):
            descriptor = system.open_log(path)
        try:
            _lock(descriptor, path, aids)
            # Some file systems give a file another number each time it is asked for.
            if _is_still(descriptor, path) or attempt == _LOCK_ATTEMPTS - 1:
                yield descriptor
                return
        finally:
            _let_go(descriptor, path)


def _let_go(descriptor: int, path: Path) -> None:
    """Close the journal; see :func:`drop_journal`."""
    system.unlock(descriptor)
    emptied = system.WINDOWS and not os.fstat(descriptor).st_size
    os.close(descriptor)
    if emptied:
        with suppress(OSError):  # another apply has begun with it
            path.unlink()


def _lock(descriptor: int, path: Path, aids: Aids) -> None:
    with file_errors(path, call="flock"):
        try:
            # On SMB a lock that another has is EACCES.
            with aids.allow("flock", path, "two applies that write one output are not kept apart", but=errno.EACCES):
                system.lock(descriptor)
        except BlockingIOError:
            text = "another apply is writing this output now; wait for it, or give another -o"
            raise RunError.at(str(path).removesuffix(".journal"), text) from None


def _is_still(descriptor: int, path: Path) -> bool:
    # Whoever held the lock may have finished and removed the journal between our open and our lock.
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def file_errors(path: Path, nbytes: int = 0, *, call: str = "") -> Iterator[None]:
    """Turn what the system refuses into a message that says what to do; see :func:`explain`."""
    try:
        yield
    except OSError as error:
        raise RunError.at(path, explain(error, nbytes, call=call)) from error


def explain(error: OSError, nbytes: int = 0, *, call: str = "") -> str:
    """The system's reason, and what to do about it; ``call`` names what was refused where the reason needs it."""
    need = f" for {nbytes:,} bytes" if nbytes else ""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return f"no space left{need}; free some, or give a folder on another disk"
        case errno.EFBIG:
            return f"the file would be larger than is allowed here{need} (ulimit -f, or the file system's bound)"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            opened = ", or close what has it open" if system.WINDOWS else ""
            return f"{call and call + ': '}{error.strerror}; give a folder that may be written{opened}"
        case errno.ENAMETOOLONG:
            return "the name is too long, or becomes so with .partial at its end; give a shorter one"
        case errno.ELOOP:
            return "the symbolic links on this path lead in a circle; give another one"
        case _:
            return f"{call and call + ': '}{error.strerror or error}"


def decimal(nbytes: int) -> str:
    """``5.35 GB`` or ``4.6 MB``, as disks are sold."""
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 10**9 else f"{nbytes / 1e6:.1f} MB"
