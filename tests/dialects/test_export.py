"""Exported command lines decide like the plan, under the engine's rules and in the engine itself."""

from __future__ import annotations

import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

from qxmix.dialects.export import export
from qxmix.dialects.parse import parse_source
from qxmix.dialects.proof.decide import source_types
from qxmix.dialects.prove import prove
from qxmix.dialects.write import recipe_text
from qxmix.errors import PlanError
from qxmix.plan import make_plan
from qxmix.recipe import load_recipe
from tests.dialects.test_import import PATH, qxmix, types
from tests.planning.models import header, write
from tests.planning.test_mixes import llama_quantize, printed_types
from tests.planning.zoo import MODELS, MORE

if TYPE_CHECKING:
    from pathlib import Path

    from qxmix.plan import Plan
    from tests.planning.models import Model

CASES = [
    ("llama.cpp/q4_k_m", "llama-quantize"),
    ("llama.cpp/iq3_xs", "llama-quantize"),
    ("ik_llama.cpp/iq4_ks", "ik"),
    ("ik_llama.cpp/iq4_k_r4", "ik"),
    ("pure/q8_0", "llama-quantize"),
]


def plan_of(recipe: str, model: Model) -> Plan:
    return make_plan(load_recipe(recipe), header(model))


@pytest.mark.parametrize(("recipe", "to"), CASES)
@pytest.mark.parametrize("model", ["gemma2-tied", "granite-moe-2", "qwen3-next", "mamba"])
def test_the_printed_command_is_read_back_to_the_same_types(recipe: str, to: str, model: str) -> None:
    plan = plan_of(recipe, MORE[model])
    command = export(plan, "ik_llama.cpp" if to == "ik" else "llama.cpp").command("m.gguf", "o.gguf", None, None)
    mix = parse_source(command, PATH, None, None)
    assert mix.notes == ()
    assert source_types(mix.reading, plan.header) == types(plan)
    assert prove(mix, recipe_text(mix, "again", mix.engine), plan.header).different == ()


def test_what_an_engine_cannot_be_told_is_named(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "qxmix: 1\ntarget: ik_llama.cpp\ndefault: iq4_k\nrules: [{match: norm, type: f16, force: true}]\n"
    )
    with pytest.raises(PlanError) as caught:
        export(plan_of(str(recipe), MODELS["llama1-7b"]), "llama.cpp")
    texts = [str(p) for p in caught.value.problems]
    assert "output_norm.weight (and 64 more): cannot become F16 with llama-quantize: it has one dimension" in texts
    assert "token_embd.weight (and 225 more): IQ4_K is not a type of llama.cpp" in texts


def test_kept_tensors_are_told_as_the_type_they_have(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("qxmix: 1\ntarget: llama.cpp\ndefault: q4_k\nkeep: ['attn_v']\n")
    exported = export(plan_of(str(recipe), MODELS["llama1-7b"]), "llama.cpp")
    assert ("^blk\\.([0-9]|[1-2][0-9]|3[0-1])\\.attn_v\\.weight$", "f16") in exported.items


def test_a_rule_that_wants_no_importance_is_told(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("qxmix: 1\ntarget: llama.cpp\ndefault: q4_k\nrules: [{match: attn_v, type: q6_k, imatrix: no}]\n")
    exported = export(plan_of(str(recipe), MODELS["llama1-7b"]), "llama.cpp")
    assert any(note.startswith("'imatrix: false' of 32 tensors is lost") for note in exported.notes)


def test_command(tmp_path: Path) -> None:
    model, listed = tmp_path / "m.gguf", tmp_path / "types.txt"
    write(MODELS["smollm-576"], model)
    done = qxmix("export", "llama.cpp/q4_k_m", model, "--to", "llama-quantize", "-o", listed)
    assert f"--tensor-type-file {listed}" in done.stdout
    assert "Proved: all" in done.stderr
    script = tmp_path / "again.sh"
    script.write_text(done.stdout)
    assert "Proved: all" in qxmix("import", script, "--model", model).stderr
    assert "exists" in qxmix("export", "llama.cpp/q4_k_m", model, "--to", "llama-quantize", "-o", listed, code=1).stderr
    assert "reads no file of types" in qxmix("export", "pure/q4_0", model, "--to", "ik", "-o", "x", code=2).stderr
    assert "is not a type of llama.cpp" in qxmix(
        "export", "ik_llama.cpp/iq4_k", model, "--to", "llama-quantize", code=3
    ).stderr  # fmt: skip


ENGINE_CASES = [
    "--custom-q 'blk\\.[0-2]\\.attn_k=q8_0,attn=iq4_k,output.weight=q6_K' Q4_K_M",
    "--custom-q 'ffn_down=q6_K' --token-embedding-type q8_0 --output-tensor-type q5_K Q4_K_S",
    "--pure --custom-q attn=q8_0 --output-tensor-type q6_K IQ4_K",
    (
        "--attn-q-type q8_0 --attn-k-type iq5_k --attn-v-type q8_0 --attn-output-type q6_K --ffn-down-type q5_K "
        "--ffn-gate-type iq4_k --ffn-up-type iq3_k Q4_K_M"
    ),
    "--attn-qkv-type q8_0 --leave-output-tensor Q5_K_M",
    "--custom-q 'token_embd=q4_k_r4,ffn=iq4_ks_r4,.*=q6_0' IQ4_KS",
    "--custom-q attn=q8_0 --token-embedding-type q8_0 F16",
    "--ffn-gate-inp-type q8_0 Q4_K_M",
    "--output-tensor-type q8_0 Q2_K",
    "--ignore-imatrix-rules --ffn-down-type q8_0 --attn-output-type q8_0 IQ2_KT",
    "--ignore-imatrix-rules --ffn-down-type q8_0 --attn-output-type q8_0 --attn-v-type q8_0 IQ2_M",
]


def dry_run(model: Path, options: list[str], mix: str) -> dict[str, str]:
    command = [str(llama_quantize()), "--dry-run", *options, str(model), str(model.with_suffix(".out")), mix, "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return printed_types(done.stdout + done.stderr)


@pytest.mark.slow
@pytest.mark.skipif(llama_quantize() is None, reason="ik_llama.cpp's wheel is not installed")
@pytest.mark.parametrize("model", ["gemma2-tied", "granite-moe-2", "qwen3-next", "mamba"])
def test_the_engine_itself_says_the_same(tmp_path: Path, model: str) -> None:
    path = write(MORE[model], tmp_path / "m.gguf")
    head = header(MORE[model])
    for case in ENGINE_CASES:
        *options, mix = shlex.split(case)
        read = parse_source(shlex.join(["llama-quantize", *options, "in.gguf", mix]), PATH, "ik_llama.cpp", None)
        assert source_types(read.reading, head) == dry_run(path, options, mix), case
        assert prove(read, recipe_text(read, "r", "ik_llama.cpp"), head).different == (), case
    plan = plan_of("ik_llama.cpp/iq4_k", MORE[model])
    exported = export(plan, "ik_llama.cpp")
    pairs = [part for pattern, kind in exported.items for part in ("--custom-q", f"{pattern}={kind}")]
    assert dry_run(path, pairs, exported.base) == types(plan)
