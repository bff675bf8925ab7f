"""What one system does otherwise than another: asked here and nowhere else.

Windows keeps what is open: no file can be deleted or get another's place while anybody has it open, and who looks for
viruses or makes an index opens what has just been written, for a moment.  It has other locks, flushes only what was
opened to be written, knows no folder as a file, and fills a file that is made longer with zeros, 4 KB at a time.  macOS
says that a file is on the disk when the disk has been told of it.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

LINUX = sys.platform == "linux"
WINDOWS = sys.platform == "win32"
MACOS = sys.platform == "darwin"

MAX_PROCESSES = 61 if WINDOWS else 1 << 30
"""Most that one executor may have: Windows waits for no more at a time."""
PIPE_ENDED = {errno.EPIPE, errno.EINVAL} if WINDOWS else {errno.EPIPE}
"""Errors of a write to a pipe that nobody reads any more."""

_BINARY = getattr(os, "O_BINARY", 0)
"""Windows would otherwise write CR LF for each LF."""
_TO_SYNC = os.O_RDWR if WINDOWS else os.O_RDONLY
_FAR = 0x7FFF_FFFE
"""Where the byte stands that is locked: nobody reads there, and who reads a byte that another has locked is refused."""
_PATIENCE, _PAUSE = 1.0, 0.02
"""Seconds in which a file that another process has open may become free, and between two tries."""
_NO_LOCKS = {errno.ENOSYS, errno.EINVAL, errno.EBADF}
"""What ``locking`` answers where there are none.  Where another has it that is EACCES, in Wine nothing at all."""
_END_OF_FILE = 6
"""Windows' ``FileEndOfFileInfo``."""
_LOOKED_AT = 1000
"""Names in a folder that are looked at for one with a letter."""
_FAULTS = {
    0xC0000005: "access violation", 0xC0000017: "no memory", 0xC000001D: "illegal instruction",
    0xC00000FD: "stack overflow", 0xC000012D: "no memory", 0xC0000135: "a DLL is missing", 0xC000013A: "Ctrl-C",
    0xC0000142: "a DLL could not begin", 0xC0000374: "broken heap", 0xC0000409: "aborted",
}  # fmt: skip
"""Windows' exit codes of processes that it ends, as few users know them by heart."""


def name_key(path: Path) -> str:
    """What two names of one file have in common, be it there or not: where their folder knows no case, case is none.

    Nor are letters told from their accents there that are two characters elsewhere, as macOS has it.
    """
    if not folds_case(path.parent):
        return str(path)
    from unicodedata import normalize  # noqa: PLC0415 - where it is needed

    return normalize("NFC", normalize("NFC", str(path)).casefold())


def folds_case(folder: Path) -> bool:
    """Whether a folder has each of its files under the name in other letters, too: FAT, NTFS, most of macOS and of SMB.

    Nothing is written to find out: a name that is there is asked for in other letters, in the folder or else in the
    nearest one above.  Where that tells nothing, it is as usual on the system.
    """
    for here in (folder, *folder.parents):
        with suppress(OSError), os.scandir(here) as entries:
            for entry in islice(entries, _LOOKED_AT):
                if (other := entry.name.swapcase()) != entry.name:
                    return _is_one(here / entry.name, here / other)
    return WINDOWS or MACOS


def _is_one(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except OSError:  # one of the two is not there
        return False


def fault(exit_code: int) -> str:
    """What Windows ended a process for; empty where it did not, or for something else."""
    return _FAULTS.get(exit_code & 0xFFFF_FFFF, "")


def open_new(path: Path) -> int:
    """A descriptor of a file that is made; raises FileExistsError where there is one."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)


def open_log(path: Path) -> int:
    """A descriptor of a file that is there or made: reads anywhere, writes at its end."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _BINARY, 0o666)


def lock(descriptor: int) -> None:
    """Lock an open file for this descriptor alone; it is let go by :func:`unlock`, or when the process ends.

    Raises:
        BlockingIOError: another has it.
        OSError: the file system knows no locks.

    """
    fcntl = _module("fcntl")
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    try:
        _lock_byte(descriptor, "LK_NBLCK")
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None


def unlock(descriptor: int) -> None:
    """Let a lock go, which Windows would some time after the file is closed."""
    if _module("fcntl") is None:
        try:
            _lock_byte(descriptor, "LK_UNLCK")
        except OSError:  # it was none
            return


def _lock_byte(descriptor: int, mode: str) -> None:
    windows = _module("msvcrt")
    if windows is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    at = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, _FAR, os.SEEK_SET)
    try:
        windows.locking(descriptor, getattr(windows, mode), 1)
    finally:
        os.lseek(descriptor, at, os.SEEK_SET)


def set_length(descriptor: int, nbytes: int) -> None:
    """Give an empty file its length; where no call does, a byte at the end does.

    Raises:
        OSError: nothing does.

    """
    if WINDOWS and _end_set(descriptor, nbytes):
        return
    try:
        os.ftruncate(descriptor, nbytes)
    except OSError:
        if not nbytes or not _written_at_end(descriptor, nbytes):
            raise


def _written_at_end(descriptor: int, nbytes: int) -> bool:
    try:
        os.lseek(descriptor, nbytes - 1, os.SEEK_SET)
        return os.write(descriptor, b"\0") == 1
    except OSError:
        return False


def _end_set(descriptor: int, nbytes: int) -> bool:
    """Whether Windows took the length, and with it the space: ``ftruncate`` writes zeros there, 4 KB at a time."""
    import ctypes  # noqa: PLC0415 - where files are made

    windows, kernel = _module("msvcrt"), getattr(ctypes, "windll", None)
    if windows is None or kernel is None:
        return False
    call = kernel.kernel32.SetFileInformationByHandle
    call.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_int64), ctypes.c_uint32)
    end = ctypes.c_int64(nbytes)
    told = call(windows.get_osfhandle(descriptor), _END_OF_FILE, ctypes.byref(end), ctypes.sizeof(end))
    return bool(told) and os.fstat(descriptor).st_size == nbytes


def memory() -> tuple[int, int] | None:
    """Bytes of memory that Windows has, and those that are free; None elsewhere."""
    import ctypes  # noqa: PLC0415 - as above

    kernel = getattr(ctypes, "windll", None)
    if kernel is None:
        return None
    status = (ctypes.c_uint64 * 8)(64)  # MEMORYSTATUSEX: its own length and the load, total, free, ...
    return (status[1], status[2]) if kernel.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)) else None


def reserve(descriptor: int, nbytes: int) -> None:
    """Reserve the blocks, so that a disk cannot run full after hours of work; on Linux alone.

    Not ``os.posix_fallocate``: where the file system cannot, glibc writes a byte into every block.

    Raises:
        OSError: there is no room, or the file system does not know the call.

    """
    if LINUX and nbytes:
        import ctypes  # noqa: PLC0415 - as above

        libc = ctypes.CDLL(None, use_errno=True)
        libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        if libc.fallocate(descriptor, 0, 0, nbytes) != 0:
            code = ctypes.get_errno()
            if code != errno.EINTR:
                raise OSError(code, os.strerror(code))


def reserved_nbytes(status: os.stat_result) -> int:
    """Bytes of the disk that a file has; where the system does not say, its length."""
    blocks: int | None = getattr(status, "st_blocks", None)
    return status.st_size if blocks is None else 512 * blocks


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; Windows writes names down by itself."""
    if WINDOWS and path.is_dir():
        return
    descriptor = os.open(path, _TO_SYNC | _BINARY)
    try:
        sync_open(descriptor)
    finally:
        os.close(descriptor)


def sync_open(descriptor: int) -> None:
    """Wait until an open file is on the disk."""
    if MACOS:
        fcntl = _module("fcntl")
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except (AttributeError, OSError):  # a file system of a network does not know it
            os.fsync(descriptor)
        return
    os.fsync(descriptor)


def sync_data(path: Path) -> None:
    """Set the disk to work on a file: lengths were set when it was made, so no metadata need be waited for."""
    descriptor = os.open(path, _TO_SYNC | _BINARY)
    try:
        getattr(os, "fdatasync", os.fsync)(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, target: Path) -> None:
    """Give a file a name, whatever has it."""
    _patiently(lambda: path.replace(target))


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    _patiently(lambda: path.unlink(missing_ok=True))


def _patiently(call: Callable[[], T]) -> T:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return call()
        except PermissionError:
            if not WINDOWS or time.monotonic() > end:
                raise
        time.sleep(_PAUSE)


def _module(name: str) -> Any:  # noqa: ANN401 - each system's stubs know their own alone
    """A module that is not on every system, or None."""
    try:
        return import_module(name)
    except ImportError:
        return None
