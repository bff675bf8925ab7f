"""Integers that were stored as floats: found, told with the rule that keeps them, and kept by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner

from qxmix.cli.main import main
from qxmix.container.header import read_header
from qxmix.measure.lattice import ROUNDING, bits_of, fit
from qxmix.measurement.lattice import VERSION
from qxmix.quants.api import dequantize, quantize
from tests.execute.plans import write_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA = json.loads((Path(__file__).parents[2] / "schemas" / "lattice.schema.json").read_text())
Q, UP, OUT = "blk.0.attn_q.weight", "blk.1.attn_q.weight", "output.weight"


def stored(x: NDArray[np.floating], as_type: str) -> NDArray[np.float32]:
    """The weights as the float type holds them."""
    if as_type == "F16":
        return x.astype(np.float16).astype(np.float32)
    bits = x.astype(np.float32).view(np.uint32)
    rounded: NDArray[np.float32] = (
        ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    )
    return rounded


def integers(
    bits: int, group: int, seed: int = 0, *, even: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(64, 512) whole numbers, -8..7 or where ``even`` -7..7, and heavy-tailed scales; some groups zero or constant."""
    rng = np.random.default_rng(seed)
    n = 2 ** (bits - 1)
    q = rng.integers(-n + even, n, (64, 512 // group, group))
    q[3, 0], q[5, -1] = 0, 3 % n
    return q, 0.01 * np.exp(rng.standard_t(4, (64, 512 // group, 1)).clip(-4, 4))


@pytest.mark.parametrize("as_type", ["BF16", "F16"])
@pytest.mark.parametrize("group", [32, 64, 128, 256, 512])
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
def test_scales_and_bits_are_found(bits: int, group: int, as_type: str) -> None:
    q, scales = integers(bits, group)
    found = fit(stored(q * scales, as_type).reshape(-1, group), ROUNDING[as_type], minimum=False)
    assert found is not None
    assert bits_of(found) == bits
    assert found.chance < -10_000


@pytest.mark.parametrize("as_type", ["BF16", "F16"])
@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("group", [32, 64, 128, 512])
def test_every_integer_comes_back(group: int, even: bool, as_type: str) -> None:
    q, scales = integers(4, group, 1, even=even)
    x = stored(q * scales, as_type).reshape(64, 512)
    back = dequantize(quantize(x, "Q4_0", search="exhaustive"), "Q4_0", 512).reshape(q.shape)
    np.testing.assert_array_equal(np.rint(back / scales), q)


def in_units(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n_blocks,) largest distance of each block of 32, in units in the last place of the weight as a BF16."""
    unit = 2.0 ** (np.floor(np.log2(np.maximum(np.abs(x), 2.0**-126).astype(np.float64))) - 7)
    distance: NDArray[np.float64] = (np.abs(x.astype(np.float64) - y) / unit).reshape(-1, 32).max(axis=1)
    return distance


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("group", [32, 64, 128, 512])
def test_what_is_decoded_is_nearest_to_the_source(group: int, even: bool, weighted: bool) -> None:
    """Within half a unit where any half does that, within 0.57 of one elsewhere."""
    q, scales = integers(4, group, 7, even=even)
    x = stored(q * scales, "BF16").reshape(64, 512)
    importance = np.random.default_rng(8).gamma(0.5, 1, 512).astype(np.float32) + np.float32(1e-3) if weighted else None
    packed = quantize(x, "Q4_0", importance, search="exhaustive")
    distance = in_units(x, dequantize(packed, "Q4_0", 512))
    assert distance.max() <= 0.57
    blocks = packed.reshape(-1, 18)
    possible = np.full(len(blocks), np.inf)
    for step in range(-8, 9):
        moved = blocks.copy()
        halves = moved[:, :2].copy().view(np.uint16)
        moved[:, :2] = (halves + np.uint16(step & 0xFFFF)).view(np.uint8)
        tried = np.nan_to_num(dequantize(moved, "Q4_0", 32), nan=np.inf)
        possible = np.minimum(possible, in_units(x.reshape(-1, 32), tried))
    assert (distance[possible <= 0.5] <= 0.5).all()
    assert (possible <= 0.5).mean() > 0.3


def test_ordinary_blocks_keep_the_scale_of_the_search() -> None:
    x = stored(np.random.default_rng(9).standard_t(4, (64, 512)), "BF16")
    y = dequantize(quantize(x, "Q6_0", np.ones(512, np.float32), search="exhaustive"), "Q6_0", 512)
    assert in_units(x, y).min() > 0.6


@pytest.mark.parametrize("as_type", ["BF16", "F16"])
def test_a_minimum_is_found(as_type: str) -> None:
    q, scales = integers(4, 32)
    minima = scales * np.random.default_rng(2).uniform(-9, -6, scales.shape)
    x = stored((q + 8) * scales + minima, as_type).reshape(-1, 32)
    assert fit(x, ROUNDING[as_type], minimum=False) is None
    found = fit(x, ROUNDING[as_type], minimum=True)
    assert found is not None
    assert bits_of(found) == 4
    assert found.chance < -1000


@pytest.mark.parametrize("as_type", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("minimum", [False, True])
def test_ordinary_weights_are_no_lattice(as_type: str, minimum: bool) -> None:
    rng = np.random.default_rng(4)
    for x in (rng.standard_normal((64, 32)), rng.standard_t(3, (64, 32)), rng.laplace(size=(64, 32))):
        rounded = x.astype(np.float32) if as_type == "F32" else stored(x, as_type)
        assert fit(rounded, ROUNDING[as_type], minimum=minimum) is None


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, [str(a) for a in arguments])
    return done.exit_code, done.output


def model(folder: Path) -> Path:
    q, scales = integers(4, 64)
    on = (q * scales).reshape(64, 512).astype(np.float16)
    off = np.random.default_rng(3).standard_normal((64, 512)).astype(np.float16)
    write_model(folder / "m.gguf", {Q: on, UP: on[::-1].copy(), OUT: off})
    return folder / "m.gguf"


def test_from_the_model_to_a_recipe_that_keeps_it(tmp_path: Path) -> None:
    gguf, found, recipe = model(tmp_path), tmp_path / "l.json", tmp_path / "r.yaml"
    code, shown = run("inspect", gguf, "--lattice", "-o", found)
    assert code == 0
    assert "2 of 3 matrices" in shown
    assert "4 bits per 64 weights" in shown
    data = json.loads(found.read_text())
    jsonschema.validate(data, SCHEMA)
    assert [(t["tensor"], t["type"]) for t in data["tensors"]] == [(Q, "Q4_0"), (UP, "Q4_0")]

    head = "qxmix: 1\ntarget: any\nfallback: error\ndefault: q4_0\n"
    recipe.write_text(head)
    for command in ("plan", "lint"):
        code, shown_plan = run(command, recipe, gguf, "--lattice", found, "--strict")
        assert code == 3
        assert "lattice-lost" in shown_plan
        assert "lattice-lost" not in run(command, recipe, gguf)[1]
    rule = next(line for line in shown.splitlines() if line.startswith("  - {"))
    recipe.write_text(f"{head}rules:\n{rule}\n")
    code, shown_plan = run("plan", recipe, gguf, "--lattice", found, "--strict")
    assert (code, "lattice-lost" in shown_plan) == (0, False)
    recipe.write_text(f"{head}rules: [{{match: attn_q, type: q4_0, silence: {{lattice-lost: meant}}}}]\n")
    assert "lattice-lost" not in run("plan", recipe, gguf, "--lattice", found)[1]


def test_the_type_is_one_that_the_target_loads(tmp_path: Path) -> None:
    """6 bits are whole in Q6_0, which ik_llama.cpp alone has; what keeps them for both is larger, or nothing."""
    q, scales = integers(6, 32)
    write_model(tmp_path / "m.gguf", {Q: (q * scales).reshape(64, 512).astype(np.float16)})

    def types(*options: str) -> list[str | None]:
        found = tmp_path / "l.json"
        assert run("inspect", tmp_path / "m.gguf", "--lattice", "--overwrite", "-o", found, *options)[0] == 0
        return [t["type"] for t in json.loads(found.read_text())["tensors"]]

    assert types() == types("--target", "ik_llama.cpp") == ["Q6_0"]
    assert "Q6_0" not in types("--target", "llama.cpp")
    assert types("--target", "any") == types("--target", "llama.cpp")
    assert run("inspect", tmp_path / "m.gguf", "--target", "any")[0] == 2


def test_larger_types_of_the_same_kind_keep_it_too(tmp_path: Path) -> None:
    q, scales = integers(3, 512)
    write_model(tmp_path / "m.gguf", {Q: (q * scales).reshape(64, 512).astype(np.float16)})
    found, recipe = tmp_path / "l.json", tmp_path / "r.yaml"
    assert run("inspect", tmp_path / "m.gguf", "--lattice", "-o", found)[0] == 0
    assert json.loads(found.read_text())["tensors"][0]["type"] == "Q3_K"
    kept = ("q3_k", "q3_k_r4", "q4_0", "q4_0_r8", "q5_0", "q6_0", "q8_0")
    for name in (*kept, "q2_k", "q4_1", "q4_k", "iq4_nl", "q6_k"):
        for search in ("gradient", "exhaustive"):
            recipe.write_text(f"qxmix: 1\ntarget: ik_llama.cpp\nfallback: error\ndefault: {name}\nsearch: {search}\n")
            code, shown = run("plan", recipe, tmp_path / "m.gguf", "--lattice", found)
            assert code == 0
            assert ("lattice-lost" not in shown) == (name in kept and search == "exhaustive"), name


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"qxmix_lattice": 1, "header_sha256": "", "tensors": []}', None])
def test_files_that_are_none_are_refused(text: str | None, tmp_path: Path) -> None:
    gguf, found = model(tmp_path), tmp_path / "l.json"
    other = json.dumps({"qxmix_lattice": VERSION, "header_sha256": "0" * 64, "tensors": []})
    found.write_text(other if text is None else text)
    code, shown = run("plan", "pure/q4_0", gguf, "--lattice", found)
    assert code == 1
    assert "--lattice" in shown
    assert str(found) in shown


@pytest.mark.parametrize(
    "edit",
    [{"bits": 1}, {"bits": 9}, {"bits": True}, {"group": 7}, {"group": -32}, {"group": 512}, {"group": False},
     {"why": 3}, {"type": None, "why": None}, {"minimum": 1}, {}],
    ids=str,
)  # fmt: skip
def test_files_that_were_edited_are_refused(edit: dict[str, object], tmp_path: Path) -> None:
    """What no model has; without a change a tensor is named twice."""
    gguf, found = model(tmp_path), tmp_path / "l.json"
    assert run("inspect", gguf, "--lattice", "-o", found)[0] == 0
    data = json.loads(found.read_text())
    first = data["tensors"][0]
    data["tensors"] = [first | edit, *([] if edit else [first])]
    found.write_text(json.dumps(data))
    code, shown = run("plan", "pure/q4_0", gguf, "--lattice", found)
    told = f"Error: {found}: is no file of lattices; make one with 'qxmix inspect MODEL --lattice -o L.json'"
    assert (code, " ".join(shown.split())) == (1, told)


@pytest.mark.parametrize("command", ["plan", "lint"])
def test_lattices_of_other_weights_are_refused(command: str, tmp_path: Path) -> None:
    """The header is the same, as that of a fine-tune; what is not named may differ."""
    gguf, found = model(tmp_path), tmp_path / "l.json"
    assert run("inspect", gguf, "--lattice", "-o", found)[0] == 0
    tensors = {t.name: t for t in read_header(gguf).tensors}
    data = bytearray(gguf.read_bytes())
    data[tensors[OUT].offset] ^= 1
    gguf.write_bytes(data)
    assert "lattice-lost" in run(command, "pure/q5_0", gguf, "--lattice", found)[1]
    for at in (0, tensors[UP].nbytes - 1):
        data[tensors[UP].offset + at] ^= 1
        gguf.write_bytes(data)
        code, shown = run(command, "pure/q5_0", gguf, "--lattice", found)
        assert code == 1
        told = f"Error: {found}: was made of other weights than m.gguf has in {UP}; make one of it"
        assert " ".join(shown.split()) == f"{told} (qxmix inspect MODEL --lattice -o L.json)"
        data[tensors[UP].offset + at] ^= 1


@pytest.mark.parametrize("resumed", [False, True])
def test_an_apply_compares_all_weights(resumed: bool, tmp_path: Path) -> None:
    """A weight between the spots that a plan looks at is another one."""
    gguf, found, out = model(tmp_path), tmp_path / "l.json", tmp_path / "o.gguf"
    assert run("inspect", gguf, "--lattice", "-o", found)[0] == 0
    arguments = ("apply", "pure/q4_0", gguf, "-o", out, "--lattice", found)
    code, shown = run(*arguments)
    assert code == 0
    assert "sit on a lattice" in shown
    made = out.read_bytes()
    out.unlink()
    tensor = next(t for t in read_header(gguf).tensors if t.name == UP)
    data = bytearray(gguf.read_bytes())
    data[tensor.offset + 3000] ^= 1
    gguf.write_bytes(data)
    assert run("plan", "pure/q4_0", gguf, "--lattice", found)[0] == 0
    code, shown = run(*arguments, *(["--resume"] if resumed else []))
    assert code == 1
    assert f"Error: {found}: was made of other weights than m.gguf has in {UP}" in " ".join(shown.split())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["l.json", "m.gguf"]
    data[tensor.offset + 3000] ^= 1
    gguf.write_bytes(data)
    assert run(*arguments)[0] == 0
    assert out.read_bytes() == made


def test_a_header_alone_cannot_be_compared(tmp_path: Path) -> None:
    gguf, found, header = model(tmp_path), tmp_path / "l.json", tmp_path / "h.gguf"
    assert run("inspect", gguf, "--lattice", "-o", found)[0] == 0
    assert run("header", gguf, "-o", header)[0] == 0
    for named, told in ((header, True), (gguf, False)):
        code, shown = run("plan", "pure/q5_0", named, "--lattice", found)
        assert code == 0
        assert ("is told by its header alone" in shown) == told
        assert ("lattice-unchecked" in shown) == told
        assert "lattice-lost" in shown


def test_o_alone_is_refused(tmp_path: Path) -> None:
    assert run("inspect", model(tmp_path), "-o", tmp_path / "l.json")[0] == 2


def test_measure_tells_of_a_lattice_that_none_of_its_types_keeps(tmp_path: Path) -> None:
    q, scales = integers(4, 64)
    on = (q * scales).reshape(64, 512).astype(np.float16)
    tensors: dict[str, NDArray[Any]] = {
        Q: on,
        UP: on[::-1].copy(),
        OUT: np.random.default_rng(3).standard_normal((128, 512), np.float32),
    }
    arguments = [str(tmp_path / "m.gguf"), "-o", str(tmp_path / "m.json"), "--rows", "8", "--overwrite"]
    for more, told in ((OUT, False), ("blk.1.attn_k.weight", True)):
        write_model(tmp_path / "m.gguf", {**tensors, more: tensors[OUT] if more == OUT else on})
        done = CliRunner().invoke(main, ["measure", *arguments, "--types", "Q8_0"])
        assert done.exit_code == 0, done.output
        assert ("the weights sit on a lattice, which Q4_0 would keep" in done.stderr) == told
        assert ("--types Q8_0,Q4_0 tries it, too" in done.stderr) == told
    done = CliRunner().invoke(main, ["measure", *arguments, "--types", "Q8_0,Q4_0"])
    assert "lattice" not in done.stderr
