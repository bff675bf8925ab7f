"""``qxmix inspect`` as a process: facts of models and importance matrices, as text and as JSON."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import gguf
import jsonschema
import numpy as np

from qxmix.container.imatrix_load import load_imatrix
from qxmix.container.moments_load import save_moments
from qxmix.resources import data_dir
from tests.execute.test_feedback import moments_of
from tests.gguf_bytes import F32, dat, dat_entry, dat_trailer, field, small_model, strings_field, tensor, text_field
from tests.gguf_bytes import gguf as gguf_bytes

if TYPE_CHECKING:
    from pathlib import Path


def inspect(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "qxmix", "inspect", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    return done


def inspect_json(*arguments: object) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(inspect(*arguments, "--json").stdout)
    return facts


def test_a_model_as_json(demo_model: Path) -> None:
    facts = inspect_json(demo_model)
    reader = gguf.GGUFReader(demo_model)
    assert facts["kind"] == "model"
    assert facts["files"] == [{"path": str(demo_model), "nbytes": demo_model.stat().st_size}]
    assert (facts["file_type"], facts["file_type_name"]) == (1, "F16")
    n_weights, nbytes = (sum(int(getattr(t, a)) for t in reader.tensors) for a in ("n_elements", "n_bytes"))
    assert (facts["n_weights"], facts["data_nbytes"]) == (n_weights, nbytes)
    assert abs(facts["bpw"] - 8 * nbytes / n_weights) < 1e-12
    assert [t["name"] for t in facts["tensors"]] == [t.name for t in reader.tensors]
    assert [t["offset"] for t in facts["tensors"]] == [t.data_offset for t in reader.tensors]
    assert sum(t["n_tensors"] for t in facts["types"]) == facts["n_tensors"] == len(reader.tensors)
    assert sum(t["nbytes"] for t in facts["types"]) == nbytes
    assert [f["key"] for f in facts["metadata"]] == [k for k in reader.fields if not k.startswith("GGUF.")]


def test_a_recipe_in_place_of_a_model_is_told_what_it_is_good_for(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("qxmix: 1\nextends: pure/q4_0\n")
    told = inspect(recipe, code=1).stderr
    assert (
        f"{recipe}: is a recipe, not a model; 'qxmix validate {recipe}' checks it, 'qxmix plan {recipe} MODEL'" in told
    )
    told = inspect("pure/q4_0", code=1).stderr
    assert "pure/q4_0: is a shipped recipe, not a model; 'qxmix recipes pure/q4_0' prints it" in told
    assert "no such file" in inspect("pure/q4_9", code=1).stderr


def test_a_model_as_text(demo_model: Path) -> None:
    short = inspect(demo_model).stdout
    assert f"({demo_model.stat().st_size:,} bytes)" in short
    assert "llama, file type 1 F16, aligned to 32" in short
    assert "token_embd.weight" not in short
    assert "\x1b" not in short
    assert "token_embd.weight" in inspect(demo_model, "--all").stdout


def test_long_strings_are_cut_and_arrays_counted(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    fields = [
        text_field("long", "x" * 500 + "\x1b[2J"),
        strings_field("tokens", ["a"] * 1234),
        field("nan", F32, b"\0\0\xc0\x7f"),
    ]
    path.write_bytes(gguf_bytes(fields, [tensor("a", (8,), 600)], bytes(32)))
    text = inspect(path).stdout
    assert "x" * 77 + "...'" in text
    assert "x" * 78 not in text
    assert "1,234 elements" in text
    assert "no architecture" in text
    assert "Types that neither engine writes, their tensors can only be copied: UNKNOWN_600" in text
    whole = inspect(path, "--all").stdout
    assert "x" * 500 + "\\x1b[2J" in whole
    assert "\x1b" not in whole
    facts = inspect_json(path)
    assert [f.get("value", f.get("count")) for f in facts["metadata"]] == ["x" * 500 + "\x1b[2J", 1234, "nan"]


def test_a_file_type_that_is_no_integer(tmp_path: Path) -> None:
    """NaN is no JSON; found by fuzzing."""
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf_bytes([field("general.file_type", F32, b"\0\0\xc0\x7f")]))
    facts = inspect_json(path)
    assert (facts["file_type"], facts["file_type_name"]) == (None, None)
    assert facts["metadata"] == [{"key": "general.file_type", "type": "float32", "value": "nan"}]


def test_shards_are_listed(tmp_path: Path) -> None:
    for i in range(2):
        (tmp_path / f"m-0000{i + 1}-of-00002.gguf").write_bytes(small_model(split=(i, 2, 2), names=(str(i),)))
    text = inspect(tmp_path / "m-00001-of-00002.gguf").stdout
    assert "m-00001-of-00002.gguf (first of 2 shards)" in text
    assert str(tmp_path / "m-00002-of-00002.gguf") in text


def test_a_vocabulary_without_tensors(tmp_path: Path) -> None:
    path = tmp_path / "vocab.gguf"
    path.write_bytes(small_model(names=()))
    assert "0 tensors, 0 weights, 0.000 bpw" in inspect(path).stdout


def test_an_imatrix(tmp_path: Path) -> None:
    path = tmp_path / "m.dat"
    entries = [dat_entry("blk.0.ffn_up.weight", [0.0, 2.0, 4.0], 2), dat_entry("blk.0.attn_q.weight", [1.0])]
    path.write_bytes(dat(entries, dat_trailer(60, "calib.txt")))
    text = inspect(path).stdout
    assert "2 entries, 4 values, 60 chunks\nmeasured on 'calib.txt'\n" in text
    assert "values from 0 to 2; entries with columns of importance 0: 1" in text
    assert "blk.0.ffn_up.weight" not in text
    assert "blk.0.ffn_up.weight       3    0     1    2      1       2" in inspect(path, "--all").stdout
    facts = inspect_json(path)
    assert facts["sha256"] == load_imatrix(path).sha256
    assert facts["entries"][0] == {
        "name": "blk.0.ffn_up.weight", "n_values": 3, "min": 0.0, "mean": 1.0, "max": 2.0, "n_zeros": 1,
        "counts": [2.0],
    }  # fmt: skip


def test_a_gguf_imatrix(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["a.txt", "b.txt"])
    writer.add_uint32("imatrix.chunk_count", 3)
    writer.add_uint32("imatrix.chunk_size", 512)
    writer.add_tensor("w.in_sum2", np.ones((1, 4), np.float32))
    writer.add_tensor("w.counts", np.ones((1, 1), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert "1 entries, 4 values, 3 chunks\nmeasured on 'a.txt', 'b.txt'" in inspect(path).stdout


def test_second_moments(tmp_path: Path) -> None:
    path = tmp_path / "mo.gguf"
    shapes = {"blk.0.attn_q.weight": (320, 8), "blk.0.ffn_up_exps.weight": (64, 8, 3), "blk.1.attn_q.weight": (320, 8)}
    entries = {name: moments_of(shape, i) for i, (name, shape) in enumerate(shapes.items())}
    entries["blk.0.ffn_up_exps.weight"].counts[:] = [7, 0, 1500]
    save_moments(path, entries, datasets=("a.txt",), n_chunks=3, chunk_size=512)
    text = inspect(path).stdout
    assert "mo.gguf: second moments of what enters tensors, for feedback (--moments)" in text
    assert "3 entries, 7 blocks of 256 columns or fewer, 3 chunks of 512 tokens, 1,536 in all" in text
    assert "measured on 'a.txt'\n" in text
    assert "'blk.0.ffn_up_exps.weight': 1 of 3 matrices saw no token" in text
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert {"64 1 3 1 of 64", "320 2 1 1 of 256, 1 of 64"} <= set(rows)
    assert "attn_q" not in text
    rows = [" ".join(line.split()) for line in inspect(path, "--all").stdout.splitlines()]
    assert "blk.0.ffn_up_exps.weight 64 3 3 0 to 1,500" in rows
    facts = inspect_json(path)
    schema = json.loads((data_dir("schemas") / "inspect.schema.json").read_text())
    assert {"$ref": "#/$defs/moments"} in schema["oneOf"]
    jsonschema.validate(facts, {"$ref": "#/$defs/moments", "$defs": schema["$defs"]})
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts["entries"][1]["counts"] == [7, 0, 1500]
    assert "is a file of second moments; --lattice is for models" in inspect(path, "--lattice", code=2).stderr
    save_moments(path, entries)
    text = inspect(path).stdout
    assert "columns or fewer, 0 chunks\nmeasured on texts it does not name\n" in text
    path.write_bytes(path.read_bytes()[:-2000])
    assert "make it again with 'qxmix imatrix make --moments'" in " ".join(inspect(path, code=1).stderr.split())


def test_what_an_interrupted_apply_left_is_told(tmp_path: Path) -> None:
    partial = tmp_path / "m.gguf.partial"
    partial.write_bytes(bytes(4096))
    done = inspect(partial, code=1)
    assert done.stderr == (
        f"Error: {partial}: is what an apply has made so far; wait for it, or if it was "
        "interrupted give the same command --resume\n"
    )
    done = inspect(tmp_path / "m.gguf", code=1)
    told = "no such file yet; an apply is at it, or was interrupted and goes on with --resume"
    assert done.stderr == f"Error: {tmp_path}/m.gguf: {told}\n"


def test_errors_have_one_line_and_code_1(tmp_path: Path) -> None:
    done = inspect(tmp_path / "none.gguf", code=1)
    assert done.stderr == f"Error: {tmp_path}/none.gguf: no such file; check the path of the model\n"
    assert done.stdout == ""
    inspect(code=2)


def test_it_draws_on_a_terminal(demo_model: Path) -> None:
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "150"}
    command = [sys.executable, "-m", "qxmix", "inspect", str(demo_model)]
    with subprocess.Popen(command, stdout=child, env=environment) as process:
        os.close(child)
        drawn = b""
        while True:
            try:
                drawn += (piece := os.read(parent, 4096))
            except OSError:  # the other end is closed
                break
            if not piece:
                break
    os.close(parent)
    assert process.returncode == 0
    assert b"\xe2\x94\x80" in drawn
    assert b"general.architecture" in drawn


def test_it_is_light() -> None:
    code = (
        "import sys, qxmix.cli.inspect\n"
        "heavy = {'numpy', 'numba', 'gguf', 'rich', 'yaml', 'jsonschema'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
