"""The memory an apply takes: what the plan says at most, and the same for a larger model."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest

from qxmix.container.header import read_header
from qxmix.container.moments import SecondMoments
from qxmix.container.moments_load import load_moments, save_moments
from qxmix.errors import PlanError
from qxmix.execute import Options, apply_all
from qxmix.execute.tasks import refuse_too_little_memory
from qxmix.plan import make_plan, peak_nbytes
from qxmix.planning.memory import BASE_NBYTES, CHUNK_NBYTES, Chunking
from qxmix.quants.feedback.correlations import pack_correlations
from qxmix.recipe import load_recipe
from tests.execute.plans import f16_model, plan_for, uniform_imatrix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qxmix.plan import Plan

ROOT = Path(__file__).parents[2]
CODE = """
import sys
from tests.execute.test_memory import measure
if __name__ == "__main__":
    print(measure(*sys.argv[1:]))
"""


def measure(model: str, *words: str) -> int:
    """Bytes that this process and its workers held at most while the model was applied."""
    outputs = [(plan, Path(f"{model}.{i}.out")) for i, plan in enumerate(plans_of(Path(model), words))]
    executor = "processes" if "processes" in words else "threads"
    with ExitStack() as stack:
        workers = None
        if "dask" in words:
            workers = stack.enter_context(cluster())
            executor = f"dask:{workers.scheduler_address}"
        apply_all(outputs, Options(executor=executor, n_workers=2, overwrite=True, report="report" in words))
        theirs = [] if workers is None else stack.enter_context(workers.get_client()).run(peak_of_this).values()
    own = peak_of_this()
    # Not ru_maxrss of the process itself: it starts at what the process that forked this one held.
    children = 2 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 if executor == "processes" else 0
    return own + children + sum(int(peak) for peak in theirs)


def cluster() -> Any:
    """Start two workers of one thread each."""
    return import_module("distributed").LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
    )


def peak_of_this() -> int:
    """Most bytes that this process held."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return 1024 * int(found[1])


def chunking_of(words: Sequence[str]) -> Chunking:
    """How the work of these options is cut up."""
    return Chunking(n_workers=2, measure="report" in words, processes="processes" in words or "dask" in words)


def plans_of(model: Path, words: Sequence[str]) -> list[Plan]:
    """What these options make of the model."""
    if "feedback" in words:
        return [feeding_plan(model)]
    return [plan_for(model, {}), plan_for(model, {}, "Q8_0")] if "several" in words else [plan_for(model, {})]


def feeding_plan(model: Path) -> Plan:
    """Q4_0 with error feedback; the moments say that columns are independent."""
    recipe, moments = model.with_suffix(".yaml"), model.with_suffix(".moments.gguf")
    header = read_header(model)
    if not moments.exists():
        recipe.write_text("qxmix: 1\ntarget: any\nfallback: error\ndefault: q4_0\nfeedback: true\n")
        n_cols = header.tensors[0].n_cols
        one = SecondMoments(
            np.ones((1, n_cols), np.float32), np.full(1, 900, np.float32),
            pack_correlations(np.stack([np.identity(256, np.float32)] * (n_cols // 256)), n_cols)[None],
            np.full(1, 900, np.float32),
        )  # fmt: skip
        save_moments(moments, {t.name: one for t in header.tensors})
    return make_plan(load_recipe(recipe), header, moments=load_moments(moments))


def hollow_model(path: Path, n_tensors: int) -> Path:
    """Write a model of 34 MB tensors whose data are a hole in the file."""
    shape, nbytes = (4096, 4096), 4096 * 4096 * 2
    writer = gguf.GGUFWriter(path, "llama")
    for i in range(n_tensors):
        writer.add_tensor_info(f"blk.{i}.ffn_up.weight", shape, np.dtype("float16"), nbytes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    os.truncate(path, -(-path.stat().st_size // 32) * 32 + n_tensors * nbytes)
    return path


def peak_of(model: Path, *words: str) -> int:
    """Bytes that an apply with these options really held."""
    command = [sys.executable, "-c", CODE, str(model), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_memory_is_bounded_by_the_plan_and_not_by_the_model(tmp_path: Path) -> None:
    small, large = hollow_model(tmp_path / "small.gguf", 4), hollow_model(tmp_path / "large.gguf", 32)
    # The first run may compile, which takes memory of its own.
    peak_of(small)
    peaks = peak_of(small), peak_of(large)
    assert max(peaks) <= min(peak_nbytes(plan_for(large, {}), Chunking(n_workers=2)), 350 << 20)
    assert abs(peaks[1] - peaks[0]) < 20 << 20


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(
    "words",
    [["report"], ["several"], ["feedback"], ["processes"], ["several", "processes"], ["several", "dask"]],
    ids="-".join,
)
def test_no_option_takes_more_than_the_plan_says(words: list[str], tmp_path: Path) -> None:
    if "dask" in words:
        pytest.importorskip("distributed")
    model = hollow_model(tmp_path / "model.gguf", 2)
    plan, *beside = plans_of(model, words)
    peak_of(model, *words)  # which may compile
    assert peak_of(model, *words) <= peak_nbytes(plan, chunking_of(words), beside=beside)


def test_every_option_that_takes_memory_is_counted(tmp_path: Path) -> None:
    """Figures worked out by hand: F16 rows of 512 columns into Q4_0, or carried over."""
    shapes = {"blk.0.ffn_up.weight": (512, 3000), "blk.1.ffn_up.weight": (512, 3000)}
    model = f16_model(tmp_path / "model.gguf", shapes)
    plan = plan_for(model, {})
    row = 512 * 2 + 512 // 32 * 18 + 4 * 512
    n_rows = CHUNK_NBYTES // (4 * 512)
    step = n_rows * row
    assert peak_nbytes(plan, Chunking()) == BASE_NBYTES + step
    assert peak_nbytes(plan, Chunking(n_workers=3)) == BASE_NBYTES + 3 * step
    assert peak_nbytes(plan, Chunking(n_workers=3, processes=True)) == 4 * BASE_NBYTES + 3 * step
    assert peak_nbytes(plan, Chunking(measure=True)) == BASE_NBYTES + n_rows * (row + 28 * 512)
    assert peak_nbytes(plan, Chunking(BASE_NBYTES + 10 * row)) == BASE_NBYTES + 10 * row
    q8 = plan_for(model, {}, "Q8_0")
    assert peak_nbytes(plan, Chunking(), beside=[q8]) == peak_nbytes(q8, Chunking()) > BASE_NBYTES + step
    assert peak_nbytes(plan_for(model, {}, "keep"), Chunking(n_workers=2)) == BASE_NBYTES + 2 * CHUNK_NBYTES
    imatrix = uniform_imatrix(tmp_path / "i.dat", shapes)
    assert peak_nbytes(plan_for(model, {}, imatrix=imatrix), Chunking()) == BASE_NBYTES + 2 * 4 * 512 + step


def test_feedback_counts_factors_and_two_entries_of_moments_for_each_process(tmp_path: Path) -> None:
    plan = feeding_plan(hollow_model(tmp_path / "model.gguf", 2))
    bare = replace(plan, tensors=tuple(replace(t, feedback=None) for t in plan.tensors))
    factors = 4 * 4 * 256 * 256 * (4096 // 256)
    entry = 4096 * 4 + 4 + 16 * (256 * 255 // 2) * 2 + 4
    for chunking, n in ((Chunking(n_workers=3), 1), (Chunking(n_workers=3, processes=True), 3)):
        assert peak_nbytes(plan, chunking) - peak_nbytes(bare, chunking) == n * (factors + 2 * entry)


@pytest.mark.parametrize("measure", [False, True])
@pytest.mark.parametrize("processes", [False, True])
@pytest.mark.parametrize("n_workers", [1, 5])
def test_no_bound_is_passed(tmp_path: Path, n_workers: int, *, processes: bool, measure: bool) -> None:
    plan = plan_for(f16_model(tmp_path / "model.gguf"), {}, imatrix=uniform_imatrix(tmp_path / "i.dat"))
    n_made = 0
    for bound in range(200 << 20, 1600 << 20, (7 << 20) + 12345):
        chunking = Chunking(bound, n_workers, measure, processes)
        try:
            refuse_too_little_memory([plan], chunking)
        except PlanError:
            assert not n_made
            continue
        n_made += 1
        assert peak_nbytes(plan, chunking) <= bound
    assert n_made
