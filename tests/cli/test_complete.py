"""What a shell completes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from qxmix.cli.main import COMMANDS, main
from qxmix.recipe import shipped_names


def completed(*words: str) -> list[str]:
    """What stands in the place of the last word; files are ``file``."""
    complete = BashComplete(main, {}, "qxmix", "_QXMIX_COMPLETE")
    items = complete.get_completions(list(words[:-1]), words[-1])
    return [item.value if item.type == "plain" else item.type for item in items]


def test_commands() -> None:
    assert completed("ver") == ["verify"]
    assert completed("") == list(COMMANDS)


@pytest.mark.parametrize("command", ["plan", "lint", "apply", "export", "validate", "diff", "compare", "recipes"])
def test_recipes(command: str) -> None:
    found = completed(command, "llama.cpp/q4")
    assert found == [n for n in shipped_names() if n.startswith("llama.cpp/q4")] + ["file"]
    assert "llama.cpp/q4_k_m" in found
    assert completed(command, "LLAMA.CPP/Q4_K_M") == ["llama.cpp/q4_k_m", "file"]
    assert completed(command, "none") == ["file"]


def test_the_second_of_two() -> None:
    assert "pure/q8_0" in completed("diff", "pure/q4_0", "pure/q8")
    assert completed("plan", "pure/q4_0", "m") == ["file"]


@pytest.mark.parametrize("command", ["warmup", "sphere"])
def test_types(command: str) -> None:
    expected = {"IQ4_K", "IQ4_KS", "IQ4_KSS", "IQ4_KT", "IQ4_K_R4", "IQ4_KS_R4"}
    assert set(completed(command, "iq4_k")) == expected


@pytest.mark.parametrize("command", ["solve", "measure", "compare-search"])
def test_the_last_of_several_types(command: str) -> None:
    assert completed(command, "--types", "Q4_0,iq6") == ["Q4_0,IQ6_K"]
    assert "MXFP4" in completed(command, "--types", "mx")


def test_mixes_and_recipes_as_a_base() -> None:
    assert completed("import", "--base", "q4_k") == ["Q4_K_M", "Q4_K_R4", "Q4_K_S"]
    assert "IQ4_KS" in completed("import", "--base", "iq4")
    assert completed("import", "--base", "pure") == []
    assert "pure/q8_0" in completed("solve", "--base", "pure/q8")


def test_as_bash_calls_it(tmp_path: Path) -> None:
    """By the name of the program, as the line in the README sets it up."""
    program = tmp_path / "qxmix"
    program.write_text(f"#!{sys.executable}\nfrom qxmix.cli.main import main\nmain()\n")
    program.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    asked = {**environment, "_QXMIX_COMPLETE": "bash_complete", "COMP_WORDS": "qxmix plan pure/q8_", "COMP_CWORD": "2"}
    done = subprocess.run([program], env=asked, capture_output=True, text=True, check=True)
    assert "plain,pure/q8_0" in done.stdout.split()
    source = subprocess.run(
        [program], env={**environment, "_QXMIX_COMPLETE": "zsh_source"}, capture_output=True, text=True, check=True
    )
    assert "compdef" in source.stdout
