"""The ``metadata`` of a recipe: what the output's header says, read by llama.cpp's own package, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gguf
import pytest

from qxmix.container.header import read_header
from qxmix.errors import PlanError
from qxmix.execute import apply
from qxmix.execute.verify import verify
from qxmix.lint import examined
from qxmix.plan import Plan, make_plan
from qxmix.planning.lock import check_lock, write_lock
from qxmix.planning.memory import Chunking
from qxmix.recipe import load_recipe
from qxmix.report.plan import plan_text
from tests.execute.plans import finish_model, weights

if TYPE_CHECKING:
    from pathlib import Path

SET = """
  set:
    general.name: New name
    general.quantized_by: me
    general.license: mit
    general.tags: [small, fast]
    general.base_model.count: 1
    llama.rope.freq_base: 20000
    llama.context_length: 4096
    tokenizer.ggml.add_bos_token: false
    my.count: {type: uint64, value: 4}
    my.flag: true
    my.note: 'ä note'
  rename: {general.author: general.organization}
  remove: [general.url]
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Old name")
    writer.add_string("general.author", "somebody")
    writer.add_string("general.url", "https://example.org")
    writer.add_context_length(2048)
    writer.add_rope_freq_base(10000.0)
    writer.add_add_bos_token(True)
    writer.add_array("my.numbers", [1, 2, 3])
    finish_model(writer, weights())
    return path


def plan_of(model: Path, metadata: str) -> Plan:
    path = model.with_name("recipe.yaml")
    text = f"qxmix: 1\ntarget: llama.cpp\ndefault: q8_0\nfallback: [f16]\nmetadata: {metadata}\n"
    path.write_text(text, encoding="utf-8")
    return examined(make_plan(load_recipe(path), read_header(model)))


def problems(model: Path, metadata: str) -> list[tuple[str, str]]:
    found = plan_of(model, metadata).problems
    return [(p.severity, f"{p.where}: {p.text}") for p in found if p.id.startswith("metadata")]


def value(reader: gguf.GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None else field.contents()


def test_the_output_says_what_the_recipe_says(model: Path, tmp_path: Path) -> None:
    plan = plan_of(model, SET)
    out = tmp_path / "out.gguf"
    write_lock(plan, tmp_path / "lock.json")
    check_lock(plan_of(model, SET), tmp_path / "lock.json")
    assert apply(plan, out).nbytes == plan.file_nbytes == out.stat().st_size
    assert not verify(read_header(out), read_header(model)).problems
    reader = gguf.GGUFReader(out)
    expected = {
        "general.name": "New name", "general.quantized_by": "me", "general.license": "mit",
        "general.tags": ["small", "fast"], "general.base_model.count": 1, "llama.rope.freq_base": 20000.0,
        "llama.context_length": 4096, "tokenizer.ggml.add_bos_token": False, "my.count": 4, "my.flag": True,
        "my.note": "ä note", "general.organization": "somebody", "general.author": None, "general.url": None,
        "my.numbers": [1, 2, 3], "general.architecture": "llama",
    }  # fmt: skip
    assert {key: value(reader, key) for key in expected} == expected
    types = {key: reader.get_field(key).types[-1].name for key in ("my.count", "llama.rope.freq_base", "my.flag")}
    assert types == {"my.count": "UINT64", "llama.rope.freq_base": "FLOAT32", "my.flag": "BOOL"}


def test_the_plan_shows_what_changes_and_only_that(model: Path) -> None:
    shown = plan_text(plan_of(model, "{set: {general.name: New name, llama.context_length: 2048}}"), Chunking())
    assert "general.name" in shown
    assert "'Old name'" in shown
    assert "'New name'" in shown
    assert "llama.context_length" not in shown, "it is that already"


def test_another_recipe_is_another_lock(model: Path, tmp_path: Path) -> None:
    write_lock(plan_of(model, "{set: {general.license: mit}}"), tmp_path / "lock.json")
    with pytest.raises(PlanError, match="the recipe is another one"):
        check_lock(plan_of(model, "{set: {general.license: gpl}}"), tmp_path / "lock.json")


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ("{set: {general.name: 1.5}}", "'general.name' holds a string, not 1.5; quote it: '1.5'"),
        ("{set: {general.license: true}}", "'general.license' holds a string, not true"),
        ("{set: {llama.context_length: '4096'}}", "'llama.context_length' holds a number (uint32), not '4096'"),
        ("{set: {llama.context_length: 4096.5}}", "'llama.context_length' holds a number (uint32), not 4096.5"),
        ("{set: {llama.context_length: -1}}", "-1 is out of the range of a number (uint32)"),
        ("{set: {llama.context_length: true}}", "holds a number (uint32), not true"),
        ("{set: {tokenizer.ggml.add_bos_token: 1}}", "holds true or false, not 1"),
        ("{set: {my.new: 3}}", "say which number 'my.new' is: my.new: {type: uint32, value: 3}"),
        (f"{{set: {{llama.rope.freq_base: 1{'0' * 400}}}}}", "is out of the range of a number (float32)"),
        ("{set: {my.new: {type: uint8, value: 256}}}", "256 is out of the range of a number (uint8)"),
        ("{set: {general.name: {type: uint8, value: 2}}}", "'general.name' is a string in the model"),
        ("{set: {my.numbers: [a]}}", "'my.numbers' holds an array, not a list"),
        ("{set: {my.numbers: 4}}", "'my.numbers' holds an array, not 4"),
        ("{set: {llama.block_count: 3}}", "'llama.block_count' cannot be changed: it says how the tensors are"),
        ("{remove: [llama.embedding_length]}", "'llama.embedding_length' cannot be changed"),
        ("{rename: {general.author: general.name}}", "the model has 'general.name' already"),
        ("{rename: {general.author: llama.vocab_size}}", "'llama.vocab_size' cannot be changed"),
    ],
)
def test_what_cannot_be_is_an_error_of_the_plan(model: Path, metadata: str, text: str) -> None:
    [(severity, told)] = problems(model, metadata)
    assert severity == "error"
    assert text in told
    assert "recipe.yaml:5: metadata." in told


def test_what_is_not_there_is_a_warning(model: Path) -> None:
    found = problems(model, "{remove: [my.thing], rename: {my.other: my.new}}")
    where = f"{model.parent}/recipe.yaml:5: metadata"
    assert found == [
        (
            "warning",
            f"{where}.rename.my.other: the model has no key 'my.other' to rename",
        ),
        ("warning", f"{where}.remove[0]: the model has no key 'my.thing' to remove"),
    ]
