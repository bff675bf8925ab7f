"""How many processors a process may use: what the machine, its affinity and its control groups say."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from qxmix import processors
from qxmix.processors import n_processors, quotas


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


V2 = "0::/a/b\n"
V1 = "9:name=systemd:/a/b\n5:cpu,cpuacct:/a/b\n4:cpuset:/a/b\n"


@pytest.mark.parametrize(
    ("membership", "files", "found"),
    [
        (V2, {"a/b/cpu.max": "150000 100000\n"}, [2]),
        (V2, {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, [3]),
        (V2, {"a/b/cpu.max": "50000 100000\n", "a/cpu.max": "300000 100000\n"}, [1, 3]),
        # The mount of a container begins at its own group, whatever the host calls it.
        (V2, {"cpu.max": "200000 100000\n"}, [2]),
        (V2, {"unified/a/cpu.max": "200000 100000\n"}, [2]),
        ("0::/../../x\n", {"cpu.max": "200000 100000\n"}, [2]),
        (V2, {}, []),
        (V2, {"cpu.max": "max\n"}, []),
        (V2, {"cpu.max": "0 0\n"}, []),
        (V1, {"cpu,cpuacct/a/b/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/a/b/cpu.cfs_period_us": "100000\n"}, [3]),
        (V1, {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "50000\n"}, [2]),
        (V1, {"cpu/a/b/cpu.cfs_quota_us": "-1\n", "cpu/a/b/cpu.cfs_period_us": "100000\n"}, []),
        (V1, {"cpuset/a/b/cpu.cfs_quota_us": "100000\n", "cpuset/a/b/cpu.cfs_period_us": "100000\n"}, []),
        ("", {"cpu.max": "100000 100000\n"}, []),
        ("no such line\n", {"cpu.max": "100000 100000\n"}, []),
    ],
)
def test_limits_of_control_groups(tmp_path: Path, membership: str, files: dict[str, str], found: list[int]) -> None:
    write(tmp_path / "cgroup", membership)
    for name, text in files.items():
        write(tmp_path / "fs" / name, text)
    assert list(quotas(tmp_path / "cgroup", tmp_path / "fs")) == found


def test_the_least_of_affinity_and_limits_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "cgroup", V2)
    monkeypatch.setattr(processors, "_MEMBERSHIP", tmp_path / "cgroup")
    monkeypatch.setattr(processors, "_GROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    assert n_processors() == 8
    write(tmp_path / "cpu.max", "250000 100000\n")
    assert n_processors() == 3
    write(tmp_path / "cpu.max", "1600000 100000\n")
    assert n_processors() == 8
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert n_processors() == 1


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux's")
def test_processors_are_counted_in_one_place() -> None:
    assert 1 <= n_processors() <= len(os.sched_getaffinity(0))
    package = Path(processors.__file__).parent
    counting = [p.name for p in package.rglob("*.py") if re.search("cpu_count|sched_getaffinity", p.read_text())]
    assert counting == ["processors.py"]
