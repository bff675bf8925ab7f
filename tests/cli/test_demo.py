"""``qxmix demo`` in a real process."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from qxmix.cli.interrupt import Interrupted
from qxmix.cli.main import main
from qxmix.container.header import read_header
from qxmix.demo.text import make_demo_text
from qxmix.engines.session import Session
from qxmix.quants import ENGINES

if TYPE_CHECKING:
    from qxmix.cli.apply import Outputs


def _run(*args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "qxmix", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _commands(output: str) -> list[str]:
    return [line.removeprefix("$ ") for line in output.splitlines() if line.startswith("$ ")]


@pytest.mark.parametrize("moe", [False, True])
def test_plans_and_applies(tmp_path: Path, *, moe: bool) -> None:
    folder, stem = tmp_path / "new" / "demo", "demo-moe" if moe else "demo"
    done = _run("demo", folder, *(["--moe"] if moe else []))
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    plan, apply = _commands(done.stdout)
    assert plan.startswith(f"qxmix plan {folder / stem}.yaml {folder / stem}-F16.gguf --imatrix")
    assert apply.startswith(f"qxmix apply {folder / stem}.yaml")
    # Each command is printed before what it prints.
    assert done.stdout.index(f"$ {plan}") < done.stdout.index("Bits/weight") < done.stdout.index(f"$ {apply}")
    assert "Next:" in done.stdout
    output = folder / f"{stem}-quantized.gguf"
    assert f"{output.stat().st_size:,} bytes" in done.stdout[: done.stdout.index(f"$ {apply}")]
    assert {t.type for t in read_header(output).tensors} == {"IQ4_NL", "Q8_0", "Q6_K", "F32"}
    for engine in ENGINES:
        with Session(engine, output, n_threads=1) as session:
            assert len(session.generate("The world", 8).tokens) == 8


def test_printed_commands_can_be_typed(tmp_path: Path) -> None:
    folder = tmp_path / "it's a demo"
    done = _run("demo", folder)
    assert done.returncode == 0
    plan, _apply = _commands(done.stdout)
    again = subprocess.run(["sh", "-c", f"{sys.executable} -m {plan}"], capture_output=True, text=True, check=False)
    assert again.returncode == 0
    assert again.stdout in done.stdout


def test_interrupted_it_says_how_its_apply_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop_midway(outputs: Outputs, *_: object) -> None:
        Path(f"{outputs[0][1]}.journal").touch()
        raise Interrupted(signal.SIGINT)

    monkeypatch.setattr("qxmix.cli.apply.apply_all", stop_midway)
    monkeypatch.setattr(sys, "argv", ["qxmix", "demo", str(tmp_path)])
    done = CliRunner().invoke(main, ["demo", str(tmp_path)])
    assert done.exit_code == 130
    apply = _commands(done.stdout)[1]
    assert apply.startswith(f"qxmix apply {tmp_path}")
    assert done.stderr.endswith(f"Go on with:\n  {apply} --resume\n")


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    assert _run("demo", tmp_path).returncode == 0
    recipe = tmp_path / "demo.yaml"
    output = tmp_path / "demo-quantized.gguf"
    first = output.read_bytes()
    recipe.write_text("mine")
    refused = _run("demo", tmp_path)
    assert refused.returncode == 1
    assert refused.stderr == (
        f"Error: {tmp_path}: has demo-F16.gguf and 4 more already; "
        "give another folder, or --overwrite to make the demo again\n"
    )
    assert recipe.read_text() == "mine"
    assert _run("demo", tmp_path, "--moe").returncode == 0  # files of its own
    assert recipe.read_text() == "mine"
    assert _run("demo", tmp_path, "--overwrite").returncode == 0
    assert recipe.read_text() != "mine"
    assert output.read_bytes() == first  # the same bytes every time
    assert _run("demo", tmp_path, "--overwrite", "--seed", "3").returncode == 0
    assert output.read_bytes() != first


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for folder in (file, file / "below"):
        done = _run("demo", folder)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"Error: {file}")
        assert "give another folder: qxmix demo DIR" in done.stderr


def test_the_text_makes_three_chunks(demo_model: Path) -> None:
    with Session("llama.cpp", demo_model, n_threads=1) as session:
        n_tokens = session.tokenize(make_demo_text().encode()).size
    assert 3 * 512 <= n_tokens < 4 * 512
