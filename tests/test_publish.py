"""What is said of a file that is to be published: its name, and its size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from qxmix.cli.main import main
from qxmix.publish import name_faults

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "name",
    [
        "SmolLM2-135M-Q4_K_M.gguf", "Mixtral-8x7B-v0.1-IQ2_XXS.gguf", "Qwen3-30B-A3B-UD-Q4_K_XL.gguf",
        "GLM-4.6-355B-A32B-IQ4_KSS-00001-of-00003.gguf", "Llama-3.1-8B.Q8_0.gguf", "gpt-oss-120b-MXFP4.gguf",
        "Qwen3-0.6B-BF16.gguf", "m-1.5T-iq3_xxs.gguf", "m-7B-Q3_K_S.gguf", "m-7B-IQ4_K.gguf", "m-7B-IQ3_M.gguf",
    ],
)  # fmt: skip
def test_names_as_publishers_write_them(name: str) -> None:
    assert not list(name_faults(name))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("my model-7B-Q4_0.gguf", "has ' ' in it"), ("modèle-7B-Q4_0.gguf", "has 'è' in it"),
        ("m-7B-Q4_0 (1).gguf", "has ' ', '(', ')' in it"), ("model-Q4_K_M.gguf", "has no size in it"),
        ("m-7B-my-mix.gguf", "has no type in it"), ("m-7B-Q9_0.gguf", "has no type in it"),
        ("m-7B-Q4_K_M-0001-of-3.gguf", ""),
    ],
)  # fmt: skip
def test_names_that_others_do_not_read(name: str, told: str) -> None:
    faults = list(name_faults(name))
    assert faults[0].startswith(told) if told else not faults


def test_the_command(demo_model: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"

    def lint(text: str, *options: str) -> tuple[int, str]:
        recipe.write_text(f"qxmix: 1\nextends: [pure/q8_0]\n{text}")
        done = CliRunner().invoke(main, ["lint", str(recipe), str(demo_model), *options])
        return done.exit_code, " ".join(done.output.split())

    assert "publish" not in lint("name: my-mix\n", "--strict")[1]
    code, said = lint("name: my-mix\n", "--strict", "--publish")
    assert code == 3
    assert "demo-my-mix.gguf: has no size in it" in said
    assert "has no type in it" in said
    assert lint("name: 1M-Q8_0\n", "--strict", "--publish")[0] == 0
    assert lint("name: my-mix\nsilence: {publish-name: private}\n", "--strict", "--publish")[0] == 0


def test_a_file_is_split_for_the_hub(demo_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qxmix.cli.sizes.HUB_NBYTES", 1 << 20)
    done = CliRunner().invoke(main, ["plan", "pure/q8_0", str(demo_model), "--split-max-size", "hub"])
    assert done.exit_code == 0, done.output
    assert "00002-of-00003" in done.output
    monkeypatch.setattr("qxmix.publish.HUB_NBYTES", 1 << 20)
    told = CliRunner().invoke(main, ["lint", "pure/q8_0", str(demo_model), "--publish"]).output
    assert "and the hub asks for at most 1,048,576 a file; split it with --split-max-size hub" in " ".join(told.split())
