"""Makes a Python on Linux refuse what Windows refuses: found by it through ``PYTHONPATH`` before anything else runs.

It is no Windows: numpy asks Linux for its name, and paths, kernels and child processes are Linux's.  What is not there
on Windows is not there; a file that any process of the session has open is neither deleted nor replaced; no folder is
opened; what was opened to be read is not synced; what was not opened as binary gets CR LF; standard output is that of a
redirected command (cp1252).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib
import multiprocessing.popen_spawn_posix  # noqa: F401 - uses what is taken away here
import os
import shutil
import signal
import subprocess  # noqa: F401 - the same
import sys
import tempfile  # noqa: F401
from types import ModuleType
from typing import Any

GONE: dict[Any, tuple[str, ...]] = {
    os: (
        "pwrite", "pread", "preadv", "pwritev", "posix_fallocate", "posix_fadvise", "sched_getaffinity", "killpg",
        "fork", "forkpty", "getuid", "geteuid", "sysconf", "statvfs", "fdatasync", "mkfifo", "chown",
        "getpgid", "setsid", "getloadavg", "O_NONBLOCK", "O_DIRECTORY", "O_CLOEXEC", "sync",
    ),
    signal: ("SIGHUP", "SIGUSR1", "SIGALRM", "SIGPIPE", "pthread_sigmask", "SIG_BLOCK", "SIG_SETMASK", "SIG_UNBLOCK"),
}  # fmt: skip
BINARY = 0x8000
_real = {
    name: getattr(os, name) for name in ("open", "close", "write", "fsync", "stat", "replace", "unlink", "statvfs")
}
_as_text: set[int] = set()


class _Status:
    """What ``os.stat`` tells there: no blocks."""

    def __init__(self, told: os.stat_result) -> None:
        self._told = told

    def __getattr__(self, name: str) -> Any:
        if name.startswith("st_bl"):
            raise AttributeError(name)
        return getattr(self._told, name)

    def __getitem__(self, index: int) -> Any:
        return self._told[index]


def _refused(path: object, code: int = errno.EACCES) -> PermissionError:
    return PermissionError(code, "The process cannot access the file because it is being used by another process", path)


def _is_open(path: Any) -> bool:
    """Whether a process of this session has a file open or mapped."""
    try:
        wanted = _real["stat"](path)
    except OSError:
        return False
    session = os.getsid(0)
    for entry in os.scandir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            if os.getsid(int(entry.name)) != session:
                continue
            for kind in ("fd", "map_files"):
                for held in os.scandir(f"/proc/{entry.name}/{kind}"):
                    with contextlib.suppress(OSError):
                        if os.path.samestat(_real["stat"](held.path), wanted):
                            return True
    return False


def _open(path: Any, flags: int, mode: int = 0o777, **keywords: Any) -> int:
    if os.path.isdir(path):  # noqa: PTH112 - a name or a path
        raise PermissionError(errno.EACCES, "Permission denied", path)
    descriptor: int = _real["open"](path, flags & ~BINARY, mode, **keywords)
    if not flags & BINARY:
        _as_text.add(descriptor)
    return descriptor


def _close(descriptor: int) -> None:
    _as_text.discard(descriptor)
    _real["close"](descriptor)


def _write(descriptor: int, data: Any) -> int:
    if descriptor not in _as_text:
        return int(_real["write"](descriptor, data))
    _real["write"](descriptor, bytes(data).replace(b"\n", b"\r\n"))
    return len(data)


def _fsync(descriptor: int) -> None:
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "Bad file descriptor")
    _real["fsync"](descriptor)


def _stat(path: Any, **keywords: Any) -> Any:
    return _Status(_real["stat"](path, **keywords))


def _unlink(path: Any, **keywords: Any) -> None:
    if _is_open(path):
        raise _refused(path)
    _real["unlink"](path, **keywords)


def _replace(path: Any, target: Any, **keywords: Any) -> None:
    for name in (path, target):
        if _is_open(name):
            raise _refused(name)
    _real["replace"](path, target, **keywords)


def _rename(path: Any, target: Any, **keywords: Any) -> None:
    if os.path.exists(target):  # noqa: PTH110 - as above
        raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already exists", target)
    _replace(path, target, **keywords)


def _locking(descriptor: int, mode: int, n_bytes: int) -> None:
    assert n_bytes == 1
    try:
        fcntl.flock(descriptor, mode)
    except BlockingIOError:
        raise PermissionError(errno.EACCES, "Permission denied") from None


def _usage(path: Any) -> tuple[int, int, int]:
    told = _real["statvfs"](path)
    total, free = told.f_blocks * told.f_frsize, told.f_bavail * told.f_frsize
    return shutil._ntuple_diskusage(total, total - free, free)


_INSTEAD = {
    "O_BINARY": BINARY, "open": _open, "close": _close, "write": _write, "fsync": _fsync, "stat": _stat,
    "unlink": _unlink, "remove": _unlink, "replace": _replace, "rename": _rename,
}  # fmt: skip


def _become_windows() -> None:
    locks: Any = ModuleType("msvcrt")
    locks.locking, locks.LK_NBLCK, locks.LK_UNLCK = _locking, fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_UN
    sys.modules["msvcrt"] = locks
    for name in ("fcntl", "resource", "pwd", "grp"):
        sys.modules[name] = None  # type: ignore[assignment]
    for module, names in GONE.items():
        for name in names:
            delattr(module, name)
    for name, call in _INSTEAD.items():
        setattr(os, name, call)
    shutil.disk_usage = _usage  # type: ignore[assignment]
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="cp1252", errors=stream.errors, newline="\r\n")  # type: ignore[union-attr]
    sys.platform, platform = "win32", sys.platform
    try:
        importlib.import_module("qxmix.system")
    finally:
        sys.platform = platform


_become_windows()
