"""Work in other processes: what they go on with, what becomes of one that fails or ends, and that none is left."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from qxmix.quants.kernels.elsewhere import Outcome, Work, work_on
from qxmix.quants.kernels.kernel import Kernel

if TYPE_CHECKING:
    from pathlib import Path

KERNELS = [Kernel(name, "encode") for name in ("Q4_0", "Q5_0", "Q6_0", "Q8_0")]
CODE = """
import os, sys
from qxmix.quants.kernels.elsewhere import serve

def work(kernel):
    name = kernel.type
    print("what a kernel prints is no answer")
    with open(f"{name}-{kernel.direction}", "x") as file:
        file.write(f"{os.getpid()} {sys.argv[1]}")
    if name == sys.argv[1]:
        raise ValueError("two\\nlines")
    if name == sys.argv[2]:
        sys.exit(7)

serve(work)
"""


def worked(folder: Path, n_kernels: int, n_processes: int = 1, *, fails: str = "-", ends: str = "-") -> list[Outcome]:
    told: list[Outcome] = []
    work_on(KERNELS, Work(CODE, (fails, ends), os.environ, folder, n_kernels), n_processes, told.append)
    assert [outcome.kernel for outcome in told] == KERNELS
    return told


def processes(folder: Path) -> list[str]:
    return [(folder / f"{kernel.type}-encode").read_text().split()[0] for kernel in KERNELS]


@pytest.mark.parametrize(("n_kernels", "alike"), [(1, (1, 1, 1, 1)), (3, (3, 1)), (16, (4,))])
def test_a_process_works_on_so_many_kernels(tmp_path: Path, n_kernels: int, alike: tuple[int, ...]) -> None:
    assert not any(outcome.failed for outcome in worked(tmp_path, n_kernels))
    found = processes(tmp_path)
    assert tuple(found.count(one) for one in dict.fromkeys(found)) == alike
    for one in found:  # each has ended, and its end has been waited for
        with pytest.raises(ProcessLookupError):
            os.kill(int(one), 0)


def test_several_work_side_by_side(tmp_path: Path) -> None:
    assert not any(outcome.failed for outcome in worked(tmp_path, 16, 4))
    assert len(processes(tmp_path)) == len(KERNELS)


def test_what_fails_is_told_and_the_rest_is_done_by_another(tmp_path: Path) -> None:
    assert [outcome.failed for outcome in worked(tmp_path, 16, fails="Q5_0")] == ["", "ValueError: two lines", "", ""]
    first, second, third, fourth = processes(tmp_path)
    assert first == second != third == fourth


def test_a_process_that_ends_takes_nothing_along(tmp_path: Path) -> None:
    assert [outcome.failed for outcome in worked(tmp_path, 16, ends="Q6_0")] == ["", "", "exit status 7", ""]
    first, second, third, fourth = processes(tmp_path)
    assert first == second == third != fourth


def test_what_is_raised_here_ends_them(tmp_path: Path) -> None:
    def stop(_outcome: Outcome) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work_on(KERNELS, Work(CODE, ("-", "-"), os.environ, tmp_path, 16), 2, stop)
    for written in [file.read_text() for file in tmp_path.iterdir()]:
        if written:  # it may have ended before
            with pytest.raises(ProcessLookupError):
                os.kill(int(written.split()[0]), 0)
