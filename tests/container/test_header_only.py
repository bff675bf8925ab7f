"""Header files: all that plans need, the same hash and plan as the model's, and refused where weights are read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from qxmix import ModelFileError, QxmixError, RunError, apply, load_recipe, make_plan, read_header
from qxmix.cli.main import main
from qxmix.container.fields import make_field
from qxmix.container.gguf_format import ValueType
from qxmix.container.header import read_shards
from qxmix.container.header_only import KEY
from qxmix.container.header_write import write_header
from qxmix.container.identity import header_sha256
from qxmix.engines.session import Session
from qxmix.planning.lock import check_lock, write_lock
from qxmix.planning.model import Split
from tests.gguf_bytes import gguf, small_model, tensor, text_field

if TYPE_CHECKING:
    from qxmix.quants import Engine

ROOT = Path(__file__).parents[2]


@pytest.fixture
def header_file(demo_model: Path, tmp_path: Path) -> Path:
    path = tmp_path / "h.gguf"
    write_header(read_shards(demo_model), path)
    return path


def test_plans_and_locks_are_the_same(demo_model: Path, header_file: Path, tmp_path: Path) -> None:
    model, header = read_header(demo_model), read_header(header_file)
    assert header.weights == "absent"
    assert header_file.stat().st_size < demo_model.stat().st_size // 10
    assert header_sha256(header) == header_sha256(model)
    assert (header.tensors, header.file_nbytes) == (model.tensors, model.file_nbytes)
    recipe = load_recipe("llama.cpp/q4_k_m")
    plans = [make_plan(recipe, h, None) for h in (model, header)]
    assert plans[0].files == plans[1].files
    assert not any(KEY.encode() in f.header for f in plans[1].files)
    for one, other in (plans, plans[::-1]):
        write_lock(one, tmp_path / "lock.json")
        check_lock(other, tmp_path / "lock.json")


def test_a_split_model_has_one_header_file_and_keeps_its_split(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"m-{i + 1:05d}-of-00003.gguf").write_bytes(small_model(split=(i, 3, 3), names=(f"t{i}.weight",)))
    first = tmp_path / "m-00001-of-00003.gguf"
    write_header(read_shards(first), tmp_path / "h.gguf")
    model, header = read_header(first), read_header(tmp_path / "h.gguf")
    assert header.file_nbytes == model.file_nbytes
    assert header.tensors == model.tensors
    assert header_sha256(header) == header_sha256(model)
    recipe = load_recipe("pure/q8_0")
    plans = [make_plan(recipe, h, None, Split(keep=True)) for h in (model, header)]
    assert plans[0].files == plans[1].files


def test_a_header_of_a_header_is_itself(header_file: Path, tmp_path: Path) -> None:
    write_header(read_shards(header_file), tmp_path / "again.gguf")
    assert read_header(tmp_path / "again.gguf").tensors == read_header(header_file).tensors
    assert read_header(tmp_path / "again.gguf").weights == "absent"


def test_apply_refuses_it_and_says_why(header_file: Path, tmp_path: Path) -> None:
    plan = make_plan(load_recipe("pure/q4_0"), read_header(header_file), None)
    with pytest.raises(ModelFileError, match=r"h\.gguf: holds the header of a model and none of its weights"):
        apply(plan, tmp_path / "o.gguf")
    assert not list(tmp_path.glob("o.gguf*"))


@pytest.mark.parametrize(
    "command",
    [
        "eval {h} --text {t}",
        "eval {m} --base {h} --text {t}",
        "compare {h} {m} --text {t} --base {m}",
        "compare-search {h} --text {t}",
        "imatrix make {h} --text {t} -o {t}.gguf",
        "measure {h} -o {t}.json",
        "inspect {h} --lattice",
        "deviation {h} {m}",
    ],
)
def test_commands_that_need_weights_say_so(
    command: str, header_file: Path, demo_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine would call it corrupted."""
    text = tmp_path / "t.txt"
    text.write_text("the world " * 2000)
    monkeypatch.chdir(tmp_path)
    arguments = command.format(h=header_file, m=demo_model, t=text).split()
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1
    assert "h.gguf: holds the header of a model and none of its weights, enough to plan; give the model" in done.output


@pytest.mark.parametrize("engine", ["ik_llama.cpp", "llama.cpp"])
def test_the_engines_refuse_it(engine: Engine, header_file: Path) -> None:
    with pytest.raises(RunError, match=r"not within the file bounds|corrupted|incomplete"), Session(
        engine, header_file, n_ctx=64
    ):  # fmt: skip
        pass


def test_nothing_is_lost(header_file: Path, demo_model: Path, tmp_path: Path) -> None:
    before = header_file.read_bytes()
    with pytest.raises(RunError, match="exists already; give --overwrite to replace it, or another -o"):
        write_header(read_shards(demo_model), header_file)
    with pytest.raises(RunError, match="cannot be written: File name too long"):
        write_header(read_shards(demo_model), tmp_path / f"{'h' * 300}.gguf")
    assert header_file.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["h.gguf"]


@pytest.mark.parametrize(
    "numbers",
    [[], [1, 2], [5000, 100, 2], [50, 100, 1], [1 << 63, 100, 1], [5000, 100, 1, 5000, 100, 1], [150, 100, 1]],
)
def test_a_mark_that_lies_is_told(numbers: list[int], tmp_path: Path) -> None:
    field = make_field(KEY, numbers, ValueType.ARRAY, ValueType.UINT64).raw
    path = tmp_path / "bad.gguf"
    path.write_bytes(gguf([text_field("general.architecture", "llama"), field], [tensor("a", (32, 4), 0)], b""))
    with pytest.raises(QxmixError, match=r"does not describe its tensors|is cut off"):
        read_header(path)


def test_the_command(demo_model: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "qxmix", *map(str, arguments)],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    done = run("header", demo_model)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("demo-f16-header.gguf: ")
    assert run("plan", "pure/q4_0", "demo-f16-header.gguf").returncode == 0
    assert run("header", demo_model).returncode == 1
    assert run("header", demo_model, "--overwrite").returncode == 0
    assert run("header", demo_model, "-o", "headers/of/demo.gguf").returncode == 0
    assert "is a shipped recipe" in run("header", "pure/q4_0").stderr


def test_a_file_in_the_place_of_a_folder_is_told(demo_model: Path, tmp_path: Path) -> None:
    """And not the name of the file that was to become it, which cannot be removed either."""
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "h.gguf"
    with pytest.raises(RunError, match=r"h\.gguf: .*file is no folder, and this would be inside it"):
        write_header(read_shards(demo_model), target)
