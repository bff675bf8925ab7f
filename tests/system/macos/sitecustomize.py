"""Makes a Python on Linux lack what macOS lacks: found by it through ``PYTHONPATH`` before anything else runs.

It is no macOS: folders tell names by their case, and kernels and child processes are Linux's.  Calls and files that are
Linux's alone are not there; whether a file is on the disk is told by a call of its own, which notes in the file that
``$SYNCED`` names that it was asked.
"""

from __future__ import annotations

import builtins
import fcntl
import importlib
import io
import os
import platform
import sys
from pathlib import Path
from typing import Any

GONE = (
    "sched_getaffinity",
    "posix_fallocate",
    "posix_fadvise",
    "fdatasync",
    "copy_file_range",
    "memfd_create",
    "pipe2",
)
FULLSYNC = 51
_open, _control = io.open, fcntl.fcntl


def _opened(file: Any, *arguments: Any, **keywords: Any) -> Any:
    if str(file).startswith(("/proc/", "/sys/")):
        raise FileNotFoundError(2, "No such file or directory", file)
    return _open(file, *arguments, **keywords)


def _controlled(descriptor: Any, call: int, *arguments: Any) -> Any:
    if call != FULLSYNC:
        return _control(descriptor, call, *arguments)
    if note := os.environ.get("SYNCED"):
        with Path(note).open("a", encoding="utf-8") as file:
            file.write(f"{os.readlink(f'/proc/self/fd/{descriptor}')}\n")  # noqa: PTH115 - the stand-in's own look
    os.fsync(descriptor)
    return 0


def _become_macos() -> None:
    for name in GONE:
        if hasattr(os, name):
            delattr(os, name)
    builtins.open = io.open = _opened
    fcntl.fcntl, fcntl.F_FULLFSYNC = _controlled, FULLSYNC  # type: ignore[attr-defined]
    importlib.import_module("subprocess")
    importlib.import_module("numpy")  # both ask what system this is when they are imported
    platform.machine = lambda: "arm64"
    sys.platform, before = "darwin", sys.platform
    try:
        importlib.import_module("qxmix.system")
    finally:
        sys.platform = before


_become_macos()
