"""The files of an output, from the first byte reserved to the last rename.

Work goes to ``NAME.partial`` beside the final name, at its full size from the start; the final name appears by a
rename, after the check and the sync, or not at all.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qxmix.container.layout import output_path
from qxmix.container.parse import parse_gguf
from qxmix.errors import Problem, RunError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qxmix.container.layout import OutputFile
    from qxmix.plan import Plan


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
        RunError: links lead in a circle, or a name is too long.

    """
    given = str(output)
    try:
        output = output.resolve()
        finals = tuple(output_path(output, file.suffix).resolve() for file in plan.files)
    except OSError as error:
        raise RunError(Problem(given, explain(error))) from error
    except RuntimeError as error:  # what Python before 3.13 makes of ELOOP
        raise RunError(Problem(given, explain(OSError(errno.ELOOP, os.strerror(errno.ELOOP))))) from error
    partials = tuple(final.with_name(final.name + ".partial") for final in finals)
    return Output(finals, partials, output.with_name(output.name + ".journal"))


def reserve(path: Path, nbytes: int) -> None:
    """Create ``path`` anew at ``nbytes``, with the space reserved where the file system can.

    Raises:
        RunError: there is no room for it.

    """
    path.unlink(missing_ok=True)
    with file_errors(path, nbytes):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            _allocate(descriptor, nbytes)
            os.ftruncate(descriptor, nbytes)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(descriptor)


def discard(output: Output) -> None:
    """Remove everything unfinished."""
    for path in (*output.partials, output.journal):
        path.unlink(missing_ok=True)


def write_header(path: Path, header: bytes) -> None:
    """Put the header in place, once all tensors are."""
    with file_errors(path), path.open("r+b") as file:
        file.write(header)


def check(path: Path, planned: OutputFile, header: bytes, shard: int) -> None:
    """Read a finished file's header again and compare it with the plan.

    Raises:
        RunError: length, header or an offset is not what was planned.

    """
    nbytes = path.stat().st_size
    if nbytes != planned.nbytes:
        raise RunError(Problem(str(path), f"has {nbytes:,} bytes where {planned.nbytes:,} were planned"))
    with path.open("rb") as file:
        if file.read(len(header)) != header:
            raise RunError(Problem(str(path), "the header is not the one that was written; check the disk"))
    parse_gguf(path, shard)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    with file_errors(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Open the journal for this apply alone; yields its descriptor, positioned at the start.

    Raises:
        RunError: another apply has it.

    """
    import fcntl  # noqa: PLC0415  # not on every system, and needed nowhere else

    while True:
        with file_errors(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                text = "another apply is writing this output now; wait for it, or give another -o"
                raise RunError(Problem(str(path).removesuffix(".journal"), text)) from None
            if _is_still(descriptor, path):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _is_still(descriptor: int, path: Path) -> bool:
    # Whoever held the lock may have finished and removed the journal between our open and our lock.
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def file_errors(path: Path, nbytes: int = 0) -> Iterator[None]:
    """Turn what the system refuses into a message that says what to do."""
    try:
        yield
    except OSError as error:
        raise RunError(Problem(str(path), explain(error, nbytes))) from error


def explain(error: OSError, nbytes: int = 0) -> str:
    """The system's reason, and what to do about it."""
    need = f" for {nbytes:,} bytes" if nbytes else ""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return f"no space left{need}; free some, or give a folder on another disk"
        case errno.EFBIG:
            return f"the file would be larger than is allowed here{need} (ulimit -f, or the file system's bound)"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"{error.strerror}; give a folder that may be written"
        case errno.ENAMETOOLONG:
            return "the name is too long, or becomes so with .partial at its end; give a shorter one"
        case errno.ELOOP:
            return "the symbolic links on this path lead in a circle; give another one"
        case _:
            return error.strerror or str(error)


def decimal(nbytes: int) -> str:
    """``5.35 GB`` or ``4.6 MB``, as disks are sold."""
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 10**9 else f"{nbytes / 1e6:.1f} MB"


def _allocate(descriptor: int, nbytes: int) -> None:
    """Reserve the blocks, so that a disk cannot run full after hours of work.

    Not ``os.posix_fallocate``: where the file system cannot, glibc writes a byte into every block.
    """
    if sys.platform != "linux" or not nbytes:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if libc.fallocate(descriptor, 0, 0, nbytes) != 0:
        code = ctypes.get_errno()
        if code not in {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINTR}:
            raise OSError(code, os.strerror(code))
