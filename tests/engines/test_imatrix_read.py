"""The matrix that qxmix makes, read by ik_llama.cpp's own ``llama-quantize``."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pytest

from qxmix import apply, load_imatrix, load_recipe, make_plan, read_header
from qxmix.container.imatrix_write import write_imatrix
from qxmix.engines.calibrate import Settings, calibrate
from qxmix.engines.library import library_path
from qxmix.importance.convert import as_chunks
from qxmix.quants import get

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def blocks(path: Path) -> dict[str, NDArray[np.uint8]]:
    """The blocks of each Q4_0 tensor of the layers."""
    data = np.fromfile(path, np.uint8)
    nbytes = get("Q4_0").nbytes((32,))
    return {
        t.name: data[t.offset : t.offset + t.nbytes].reshape(-1, nbytes)
        for t in read_header(path).tensors
        if t.type == "Q4_0" and t.name.startswith("blk.")
    }


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_llama_quantize_makes_the_same_tensors_of_the_dat(
    kind: str, demo_model: Path, demo_moe_model: Path, demo_text: bytes, tmp_path: Path
) -> None:
    """But for one block in a thousand: the wheel is compiled with contraction, which rounds otherwise."""
    model = demo_model if kind == "dense" else demo_moe_model
    header = read_header(model)
    done = calibrate(header, demo_text, "t.txt", tmp_path / "state", Settings(n_ctx=128, n_chunks=2, n_threads=1))
    matrix = tmp_path / "m.dat"
    write_imatrix(as_chunks(done.imatrix(matrix)), matrix)
    library = library_path("ik_llama.cpp")
    theirs, ours = tmp_path / "theirs.gguf", tmp_path / "ours.gguf"
    command = [library.parents[1] / "bin" / "llama-quantize", "--pure", "--imatrix", matrix, model, theirs, "Q4_0", "1"]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library.parent)}
    subprocess.run([str(part) for part in command], check=True, capture_output=True, env=environment)
    recipe = tmp_path / "r.yaml"
    recipe.write_text("qxmix: 1\nname: r\ntarget: ik_llama.cpp\ndefault: q4_0\n")
    apply(make_plan(load_recipe(recipe), header, load_imatrix(matrix)), ours, executor="serial")
    here, there = blocks(ours), blocks(theirs)
    assert set(here) == set(there) == set(done.imatrix(matrix).entries)
    same = [float((here[name] == there[name]).all(axis=1).mean()) for name in here]
    assert np.mean(same) > 0.998
    assert min(same) > 0.99
