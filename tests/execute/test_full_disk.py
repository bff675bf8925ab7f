"""Disks that run full: before the work where space can be reserved, in its middle where it cannot."""

from __future__ import annotations

import hashlib
import random
import subprocess
from typing import TYPE_CHECKING

import pytest

from qxmix import system
from qxmix.errors import RunError
from qxmix.execute import apply, preflight
from tests.execute.plans import SHAPES, f16_model, plan_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qxmix.plan import Plan

N_SIZES = 20
PAGE = 4096


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Plan an output of some 5 MB in 20 leaves."""
    shapes = {**SHAPES, **{f"blk.{i}.ffn_up.weight": (512, 4100) for i in range(4)}}
    return plan_for(f16_model(tmp_path_factory.mktemp("models") / "model.gguf", shapes), {})


@pytest.fixture(scope="module")
def expected(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> str:
    """SHA-256 of the output on a disk with room."""
    return sha256_of(apply(plan, tmp_path_factory.mktemp("expected") / "out.gguf").paths[0])


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system in memory whose size a test sets."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "qxmix", path], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a file system of its own cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def resize(disk: Path, nbytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={-(-nbytes // PAGE) * PAGE}", disk], check=True)


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sizes(plan: Plan) -> list[int]:
    rng = random.Random(5)  # noqa: S311
    return sorted(rng.randrange(2 * PAGE, plan.file_nbytes) for _ in range(N_SIZES))


def test_what_does_not_fit_is_refused_before_any_work(
    plan: Plan, expected: str, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for told_by_reserving in (False, True):
        if told_by_reserving:
            # As when somebody else fills the disk between the look at the free space and the reservation.
            monkeypatch.setattr(preflight, "_refuse_full", lambda *_: None)
        for nbytes in sizes(plan):
            resize(disk, nbytes)
            with pytest.raises(RunError, match=r"no space left for|B are free"):
                apply(plan, disk / "out.gguf")
            assert not list(disk.iterdir())
    resize(disk, 2 * plan.file_nbytes)
    apply(plan, disk / "out.gguf")
    assert sha256_of(disk / "out.gguf") == expected


def test_a_disk_that_fills_up_in_the_middle_can_be_resumed(
    plan: Plan, expected: str, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "_refuse_full", lambda *_: None)
    # A file system that reserves nothing.
    monkeypatch.setattr(system, "reserve", lambda *_: None)
    n_resumed = []
    for nbytes in sizes(plan):
        resize(disk, nbytes)
        with pytest.raises(RunError, match=r"no space left; .* --resume"):
            apply(plan, disk / "out.gguf", n_workers=2)
        assert not (disk / "out.gguf").exists()
        resize(disk, 2 * plan.file_nbytes)
        n_resumed.append(apply(plan, disk / "out.gguf", resume=True).n_resumed)
        assert sha256_of(disk / "out.gguf") == expected
        assert [p.name for p in disk.iterdir()] == ["out.gguf"]
        (disk / "out.gguf").unlink()
    assert n_resumed[-1] > n_resumed[0]
