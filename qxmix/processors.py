"""How many processors there are to work with: counted here, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_MEMBERSHIP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def n_processors() -> int:
    """Processors this process may use: by its affinity, and by the share of time its control groups leave it.

    A container with ``--cpus 1.5`` sees all processors of the machine; with a worker for each, they take turns.
    """
    affine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min((affine, *quotas(_MEMBERSHIP, _GROUPS))))


def quotas(membership: Path, groups: Path) -> Iterator[int]:
    """Processors, rounded up, that each control group with a limit leaves to its members.

    Args:
        membership: Which groups the process is in: lines ``0::/path`` (version 2) and ``4:cpu,cpuacct:/path`` (1).
        groups: Where they are mounted.  Inside a container the path may be that of the host, and the mount begins at
            the container's own group; so every folder on the path is looked at, and those that are not there have no
            say.

    """
    for line in _lines(membership):
        _, controllers, path = line.split(":", 2) if line.count(":") > 1 else ("", "none", "")
        if not controllers:
            limits = (_v2(folder) for mount in (groups, groups / "unified") for folder in _upwards(mount, path))
        elif "cpu" in controllers.split(","):
            mounts = dict.fromkeys((groups / controllers, groups / "cpu"))
            limits = (_v1(folder) for mount in mounts for folder in _upwards(mount, path))
        else:
            continue
        yield from (-(-quota // period) for quota, period in limits if quota > 0 and period > 0)


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    parts = [part for part in path.split("/") if part not in {"", ".."}]
    return (mount.joinpath(*parts[:n]) for n in range(len(parts), -1, -1))


def _v2(folder: Path) -> tuple[int, int]:
    """Microseconds of time in each period of so many; 0 where there is no limit: ``150000 100000``, ``max 100000``."""
    words = " ".join(_lines(folder / "cpu.max")).split()
    return (int(words[0]), int(words[1])) if len(words) > 1 and all(map(str.isdecimal, words)) else (0, 0)


def _v1(folder: Path) -> tuple[int, int]:
    quota, period = (" ".join(_lines(folder / f"cpu.cfs_{part}_us")).strip() for part in ("quota", "period"))
    return (int(quota), int(period)) if quota.isdecimal() and period.isdecimal() else (0, 0)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):  # another system, or a file that is not for us
        return []
