"""How much memory this machine has left, so that what cannot fit is refused before it is loaded."""

from __future__ import annotations

import os
import re
from pathlib import Path

from qxmix import system


def available_nbytes() -> int | None:
    """Bytes that can be used without swapping; None where the system does not say."""
    if told := system.memory():
        return told[1]
    try:
        found = re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
        if found:
            return int(found[1]) << 10
    except OSError:
        pass
    return memory_nbytes() or None  # not what is free, but the most there can be


def memory_nbytes() -> int:
    """Memory of this machine, 0 where the system does not say."""
    if told := system.memory():
        return told[0]
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):
        return 0
