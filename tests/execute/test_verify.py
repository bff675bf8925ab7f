"""``qxmix verify`` and ``qxmix recipe-of``: damage, other models and other recipes are told, and nothing else is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qxmix import load_imatrix, load_recipe, make_plan, read_header
from qxmix.container.fields import make_field
from qxmix.container.gguf_format import ValueType
from qxmix.errors import ModelFileError, Problem
from qxmix.execute import apply
from qxmix.execute.verify import Verification, recipe_of, verify
from qxmix.plan import Split
from qxmix.report.result import verification_text
from tests.execute.plans import f16_model

if TYPE_CHECKING:
    from qxmix import Plan
    from qxmix.container.model import MetadataField, ModelHeader

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def plan(demo_model: Path, demo_imatrix: Path) -> Plan:
    """Plan the demo model with a recipe that extends others."""
    return make_plan(load_recipe("ik_llama.cpp/q4_k_m"), read_header(demo_model), load_imatrix(demo_imatrix))


@pytest.fixture
def output(plan: Plan, tmp_path: Path) -> Path:
    """Apply it."""
    return apply(plan, tmp_path / "out.gguf").paths[0]


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 4
    path.write_bytes(data)


def test_an_output_holds(output: Path, demo_model: Path, demo_imatrix: Path) -> None:
    found = verify(read_header(output))
    assert not found.problems
    assert (found.n_tensors, found.n_leaves) == (len(read_header(output).tensors), 0)
    for every in (False, True):
        found = verify(read_header(output), read_header(demo_model), demo_imatrix, every=every)
        assert not found.problems
        assert found.n_leaves == found.n_all_leaves


def test_one_flipped_bit_anywhere_is_found(plan: Plan, output: Path) -> None:
    for tensor in (plan.tensors[0], plan.tensors[7], plan.tensors[-1]):
        flip(output, tensor.offset + tensor.nbytes - 1)
        problems = verify(read_header(output)).problems
        assert [p.where for p in problems] == [tensor.name]
        flip(output, tensor.offset + tensor.nbytes - 1)


def test_a_digest_that_was_changed_with_the_data_is_found(output: Path) -> None:
    header = read_header(output)
    digest = str(header.get("qxmix.tensor.sha256")).split()[3].encode()
    data = output.read_bytes()
    output.write_bytes(data.replace(digest, b"0" * 64))
    assert "contradict each other" in str(verify(read_header(output)).problems[-1])


def test_other_weights_are_found(output: Path, demo_model: Path, demo_imatrix: Path, tmp_path: Path) -> None:
    model = tmp_path / "other.gguf"
    model.write_bytes(demo_model.read_bytes())
    tensor = next(t for t in read_header(model).tensors if t.name == "blk.1.ffn_up.weight")
    data = bytearray(model.read_bytes())
    data[tensor.offset + 1] ^= 0x40
    model.write_bytes(data)
    found = verify(read_header(output), read_header(model), demo_imatrix, every=True)
    assert [p.where for p in found.problems] == [tensor.name]
    assert "from row 0 on the recipe makes other bytes" in found.problems[0].text


def test_the_same_of_many_tensors_is_one_line() -> None:
    text = "is another"
    many = Verification(9, 9, 9, (*(Problem(f"t{i}", text) for i in range(5)), Problem("x", "is gone")))
    assert verification_text(many).splitlines() == [
        "Error: t0, t1, t2 and 2 more: is another",
        "Error: x: is gone",
        "9 tensors compared",
        "9 of 9 pieces made from the model again and compared",
    ]


def test_another_model_or_importance_is_refused(
    output: Path, demo_model: Path, demo_moe_model: Path, demo_moe_imatrix: Path, demo_imatrix: Path, tmp_path: Path
) -> None:
    header = read_header(output)
    with pytest.raises(ModelFileError, match=re.escape(f"importance matrix {demo_imatrix.name}; give it: --imatrix")):
        verify(header, read_header(demo_model))
    with pytest.raises(ModelFileError, match="is another importance matrix"):
        verify(header, read_header(demo_model), demo_moe_imatrix)
    with pytest.raises(
        ModelFileError, match=r"(?s)was not made from this model.*the output has Q4_K 256 x 448, the plan none"
    ):
        verify(header, read_header(demo_moe_model), demo_imatrix)
    with pytest.raises(ModelFileError, match="carries no digests"):
        verify(read_header(demo_model))
    plain = apply(make_plan(load_recipe("pure/q4_0"), read_header(demo_model)), tmp_path / "plain.gguf").paths[0]
    with pytest.raises(ModelFileError, match="was not used for this output; leave out --imatrix"):
        verify(read_header(plain), read_header(demo_model), demo_imatrix)


@pytest.mark.parametrize("bare", [False, True])
def test_shards_are_verified(demo_model: Path, tmp_path: Path, bare: bool) -> None:
    split = Split(max_tensors=5, bare_first=bare)
    plan = make_plan(load_recipe("pure/q4_0"), read_header(demo_model), split=split)
    first = apply(plan, tmp_path / "out.gguf").paths[0]
    assert any(t.shard == 0 for t in read_header(first).tensors) != bare
    assert not verify(read_header(first), read_header(demo_model)).problems


def test_a_split_output_of_a_split_model_is_made_again(demo_model: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.yaml").write_text("qxmix: 1\ntarget: any\ndefault: keep\nfallback: error\n")
    copied = make_plan(load_recipe(tmp_path / "copy.yaml"), read_header(demo_model), split=Split(max_tensors=15))
    source = read_header(apply(copied, tmp_path / "m.gguf").paths[0])
    plan = make_plan(load_recipe("pure/q8_0"), source, split=Split(max_tensors=20))
    paths = apply(plan, tmp_path / "o.gguf").paths
    assert (len(source.paths), len(paths)) == (3, 2)
    for model in source, read_header(demo_model):
        found = verify(read_header(paths[0]), model, every=True)
        assert (found.problems, found.n_leaves) == ((), found.n_all_leaves)
    data = bytearray(paths[1].read_bytes())
    data[-40] ^= 1
    paths[1].write_bytes(data)
    told = [p.text for p in verify(read_header(paths[0]), source).problems]
    assert any(f"its data in {paths[1].name}" in text for text in told)
    assert any("the recipe makes other bytes" in text for text in told)


def test_damage_is_told_of_the_shard_that_has_it(demo_model: Path, tmp_path: Path) -> None:
    plan = make_plan(load_recipe("pure/q8_0"), read_header(demo_model), split=Split(max_tensors=20))
    second = apply(plan, tmp_path / "x.gguf").paths[1]
    data = bytearray(second.read_bytes())
    data[-40] ^= 1
    second.write_bytes(data)
    (problem,) = verify(read_header(tmp_path / "x-00001-of-00002.gguf")).problems
    assert f"its data in {second.name} are not what was written" in problem.text


def test_the_recipe_makes_the_same_file_again(
    output: Path, demo_model: Path, demo_imatrix: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(read_header(output))
    (tmp_path / "again.yaml").write_text(recipe.text)
    loaded = load_recipe(tmp_path / "again.yaml")
    again = make_plan(loaded, read_header(demo_model), load_imatrix(demo_imatrix))
    assert apply(again, tmp_path / "again.gguf").paths[0].read_bytes() == output.read_bytes()


def qxmix(cwd: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "qxmix", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_the_commands(output: Path, plan: Plan, demo_model: Path, tmp_path: Path) -> None:
    printed = qxmix(tmp_path, "recipe-of", "out.gguf")
    assert (printed.returncode, printed.stdout) == (0, plan.recipe.text)
    nothing = qxmix(tmp_path, "recipe-of", demo_model)
    assert nothing.returncode == 1
    assert "carries no recipe" in nothing.stderr
    assert "as they were written" in qxmix(tmp_path, "verify", "out.gguf").stdout
    flip(output, plan.tensors[2].offset)
    bad = qxmix(tmp_path, "verify", "out.gguf", "--json")
    assert bad.returncode == 1
    assert json.loads(bad.stdout)["problems"][0]["where"] == plan.tensors[2].name
    assert qxmix(tmp_path, "verify", "out.gguf", "--all").returncode == 2


def test_verify_writes_nothing(tmp_path: Path) -> None:
    model = f16_model(tmp_path / "m.gguf")
    apply(make_plan(load_recipe("pure/q8_0"), read_header(model)), tmp_path / "out.gguf")
    (tmp_path / "out.gguf").chmod(0o400)
    before = (tmp_path / "out.gguf").stat().st_mtime_ns
    verify(read_header(tmp_path / "out.gguf"), read_header(model), every=True)
    assert (tmp_path / "out.gguf").stat().st_mtime_ns == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.gguf", "out.gguf"]


@pytest.fixture
def plain(demo_model: Path, tmp_path: Path) -> ModelHeader:
    """Q8_0, without an importance matrix."""
    plan = make_plan(load_recipe("pure/q8_0"), read_header(demo_model))
    return read_header(apply(plan, tmp_path / "plain.gguf").paths[0])


def with_field(header: ModelHeader, field: MetadataField) -> ModelHeader:
    return replace(header, metadata=(*(f for f in header.metadata if f.key != field.key), field))


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        ("zz", ValueType.STRING, r"qxmix\.tensor\.sha256 is no list of SHA-256 in hex"),
        ("AB" * 32, ValueType.STRING, r"is no list of SHA-256 in hex"),
        (5, ValueType.UINT32, r"is no list of SHA-256 in hex"),
        ("0" * 64, ValueType.STRING, r"carries digests of 1 tensors and has \d+; another tool wrote it"),
    ],
)
def test_digests_that_are_none(plain: ModelHeader, value: str | int, kind: ValueType, text: str) -> None:
    header = with_field(plain, make_field("qxmix.tensor.sha256", value, kind))
    with pytest.raises(ModelFileError, match=text):
        verify(header)
    with pytest.raises(ModelFileError, match=text):
        recipe_of(header)


def test_a_file_without_tensors_carries_no_digests(plain: ModelHeader) -> None:
    bare = replace(plain, tensors=(), metadata=tuple(f for f in plain.metadata if not f.key.startswith("qxmix.")))
    with pytest.raises(ModelFileError, match="carries no digests; it was not written by `qxmix apply`"):
        verify(bare)


def test_metadata_that_another_tool_carried_over_say_nothing(plain: ModelHeader) -> None:
    """As `llama-quantize --allow-requantize` does with an output: all keys are there, the weights are others."""
    assert "Q8_0" in recipe_of(plain).name
    data = bytearray(plain.path.read_bytes())
    for tensor in plain.tensors:
        if tensor.type == "Q8_0":
            data[tensor.offset : tensor.offset + tensor.nbytes] = bytes(tensor.nbytes)
    plain.path.write_bytes(data)
    (problem,) = verify(plain).problems
    assert re.match(r"none of its \d+ quantized tensors is what its qxmix\.\* metadata say; another", problem.text)
    with pytest.raises(ModelFileError, match=r"is not what its qxmix\.\* metadata say; another tool wrote it"):
        recipe_of(plain)


def test_metadata_are_compared_with_the_plan(plain: ModelHeader, demo_model: Path) -> None:
    model = read_header(demo_model)
    phases: list[str] = []
    assert not verify(plain, model, on_progress=lambda p: phases.append(p.phase)).problems
    assert set(phases) == {"hash", "derive"}
    changed = with_field(plain, make_field("general.file_type", 2, ValueType.UINT32))
    added = with_field(changed, make_field("general.author", "me", ValueType.STRING))
    lacking = replace(added, metadata=tuple(f for f in added.metadata if f.key != "general.architecture"))
    found = {str(p.where): p.text.partition(":")[0] for p in verify(lacking, model).problems}
    assert found == {
        "general.file_type": "has another value",
        "general.author": "is not planned",
        "general.architecture": "is not there",
    }
