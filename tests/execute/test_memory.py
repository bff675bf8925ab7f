"""The memory an apply takes: what the plan says at most, and the same for a larger model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

from qxmix.plan import peak_nbytes
from tests.execute.plans import plan_for

ROOT = Path(__file__).parents[2]
CODE = """
import re, sys
from pathlib import Path
from qxmix.execute import apply
from tests.execute.plans import plan_for
apply(plan_for(Path(sys.argv[1]), {}), sys.argv[2], n_workers=2, overwrite=True)
# Not ru_maxrss: it starts at what the process that forked this one held.
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


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


def peak_of(model: Path) -> int:
    command = [sys.executable, "-c", CODE, str(model), str(model.with_suffix(".out"))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout) * 1024


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_memory_is_bounded_by_the_plan_and_not_by_the_model(tmp_path: Path) -> None:
    small, large = hollow_model(tmp_path / "small.gguf", 4), hollow_model(tmp_path / "large.gguf", 32)
    # The first run may compile, which takes memory of its own.
    peak_of(small)
    peaks = peak_of(small), peak_of(large)
    assert max(peaks) <= min(peak_nbytes(plan_for(large, {}), 2), 350 << 20)
    assert abs(peaks[1] - peaks[0]) < 20 << 20
