"""The commands where Windows' calls are missing or refuse: on Linux, by a stand-in (``windows/sitecustomize.py``)."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qxmix import apply, load_recipe, make_plan, read_header

ROOT = Path(__file__).parents[2]
STAND_IN = Path(__file__).parent / "windows"
STILL_OPEN = ", or close what has it open"
RECIPE = "qxmix: 1\nname: größe-→\ntarget: ik_llama.cpp\ndefault: q8_0\nrules: [{category: attn_v, type: f16}]\n"
INTERRUPTED = """
import sys
from qxmix import apply, load_recipe, make_plan, read_header

def stop(progress):
    if progress.phase == "work" and progress.done_nbytes > 1 << 19:
        raise KeyboardInterrupt

recipe, model, output = sys.argv[1:]
try:
    apply(make_plan(load_recipe(recipe), read_header(model)), output, n_workers=1, on_progress=stop)
except KeyboardInterrupt:
    print("interrupted")
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux stands in for it")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("windows")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def expected(demo_model: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """SHA-256 of what Linux writes."""
    plan = make_plan(load_recipe(folder / "recipe.yaml"), read_header(demo_model))
    (path,) = apply(plan, tmp_path_factory.mktemp("linux") / "out.gguf").paths
    return sha256_of(path)


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def python(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the stand-in's Python in a session of its own, so that it looks at its own processes alone."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(STAND_IN), str(ROOT)])}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=folder, env=environment, capture_output=True, encoding="utf-8",
        errors="strict", check=False, start_new_session=True,
    )  # fmt: skip


def qxmix(folder: Path, *arguments: str | Path, exit_code: int = 0) -> str:
    done = python(folder, "-m", "qxmix", *arguments)
    assert done.returncode == exit_code, done.stderr
    assert "Traceback" not in done.stderr
    assert "refuses" not in done.stdout + done.stderr, "a note on every apply tells nobody anything"
    return done.stdout


REFUSED = {
    "os.unlink('held')": "with open('held', 'wb'):",
    "os.replace('other', 'held')": "with open('held', 'rb'):",
    "os.replace('held', 'free')": "with open('held', 'rb'):",
    "os.unlink('held') ": "mapped = mmap.mmap(os.open('held', os.O_RDWR), 0)\nif True:",
    "os.rename('other', 'held')": "if True:",
    "os.open('.', os.O_RDONLY)": "if True:",
    "os.fsync(os.open('held', os.O_RDONLY))": "if True:",
    "import fcntl": "if True:",
    "os.pwrite": "if True:",
    "os.stat('held').st_blocks": "if True:",
    "print(chr(0x2192))": "if True:",
}


@pytest.mark.parametrize("call", REFUSED)
def test_the_stand_in_refuses(tmp_path: Path, call: str) -> None:
    for name in ("held", "other"):
        (tmp_path / name).write_text(name)
    code = f"import mmap, os\n{REFUSED[call]}\n    try:\n        {call}\n"
    code += "    except (OSError, ImportError, AttributeError, ValueError): print('refused')"
    done = python(tmp_path, "-c", code)
    assert done.stdout.strip() == "refused", done.stderr


def test_plan_and_apply(folder: Path, demo_model: Path, expected: str) -> None:
    planned = json.loads(qxmix(folder, "plan", "recipe.yaml", demo_model, "--json"))
    qxmix(folder, "apply", "recipe.yaml", demo_model, "-o", "applied/out.gguf")
    (path,) = (folder / "applied").iterdir()
    assert sha256_of(path) == expected
    assert path.stat().st_size == planned["file_nbytes"]
    again = ["--overwrite", "--executor", "processes"]
    qxmix(folder, "apply", "recipe.yaml", demo_model, "-o", "applied/out.gguf", *again)
    assert [p.name for p in path.parent.iterdir()] == ["out.gguf"]
    assert sha256_of(path) == expected
    assert "39 tensors as they were written" in qxmix(folder, "verify", path)
    qxmix(folder, "verify", path, "--source", demo_model)


def test_an_interrupted_apply_goes_on(folder: Path, demo_model: Path, expected: str) -> None:
    (folder / "stopped").mkdir()
    done = python(folder, "-c", INTERRUPTED, "recipe.yaml", demo_model, "stopped/out.gguf")
    assert done.stdout.strip() == "interrupted", done.stderr
    journal = folder / "stopped/out.gguf.journal"
    assert b"\r" not in journal.read_bytes()
    command = ["apply", "recipe.yaml", str(demo_model), "-o", "stopped/out.gguf"]
    assert "go on with --resume" in python(folder, "-m", "qxmix", *command).stderr
    told = qxmix(folder, *command, "--resume", "--json")
    assert json.loads(told)["n_resumed"] > 0
    assert [p.name for p in journal.parent.iterdir()] == ["out.gguf"]
    assert sha256_of(folder / "stopped/out.gguf") == expected


HOLDING = """
import subprocess, sys
from qxmix import apply, load_recipe, make_plan, read_header
from qxmix.execute import Progress

def other(progress):
    if progress.phase == "work" and not done:
        done.append(subprocess.run([sys.executable, "-m", "qxmix", "apply", *sys.argv[1:3], "-o", sys.argv[3],
                                    "--overwrite"], capture_output=True, text=True))

recipe, model, output = sys.argv[1:]
done = []
apply(make_plan(load_recipe(recipe), read_header(model)), output, on_progress=other)
print(ascii(done[0].stderr))
"""


def test_two_that_write_one_output_are_kept_apart(folder: Path, demo_model: Path, expected: str) -> None:
    done = python(folder, "-c", HOLDING, "recipe.yaml", demo_model, "held/out.gguf")
    assert "another apply is writing this output now" in done.stdout, done.stderr
    assert [p.name for p in (folder / "held").iterdir()] == ["out.gguf"]
    assert sha256_of(folder / "held/out.gguf") == expected


def test_a_file_that_another_program_has_open_is_told(folder: Path, demo_model: Path, expected: str) -> None:
    """An engine that runs the old output, or who looks for viruses: a moment of it is waited for."""
    output = folder / "open" / "out.gguf"
    command = ["apply", "recipe.yaml", str(demo_model), "-o", str(output)]
    qxmix(folder, *command)
    code = f"import os, sys; from qxmix.cli.main import main; held = open({str(output)!r}); main(sys.argv[1:])"
    done = python(folder, "-c", code, *command, "--overwrite")
    assert done.returncode == 1
    assert STILL_OPEN in " ".join(done.stderr.split())
    qxmix(folder, *command, "--resume")
    assert [p.name for p in output.parent.iterdir()] == ["out.gguf"]
    assert sha256_of(output) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        "inspect {model}", "inspect {model} --json", "inspect {model} --lattice -o l.json", "lint recipe.yaml {model}",
        "validate recipe.yaml", "compare recipe.yaml pure/q8_0 --model {model}", "recipes", "recipes llama.cpp/q4_k_m",
        "types", "plan recipe.yaml {model} --all", "plan recipe.yaml {model} --map",
        "plan recipe.yaml {model} --html page.html --lock a.lock.json", "diff pure/q8_0 pure/q8_0 {model}",
        "export pure/q4_0 {model} --to ik_llama.cpp", "header {model} -o header.gguf", "recipe-of {output}",
        "deviation {output} {model}", "imatrix stats {imatrix}", "measure {model} --types q8_0 --rows 8 -o m.json",
        "apply pure/q8_0 recipe.yaml {model} -o many --card card.md", "warmup q8_0",
    ],
)  # fmt: skip
def test_other_commands(folder: Path, demo_model: Path, demo_imatrix: Path, arguments: str) -> None:
    output = folder / "other.gguf"
    if "{output}" in arguments:
        qxmix(folder, "apply", "recipe.yaml", demo_model, "-o", output, "--overwrite")
    paths = {"model": demo_model, "imatrix": demo_imatrix, "output": output}
    qxmix(folder, *(word.format(**paths) for word in arguments.split()))
    left = [p.name for p in folder.rglob("*") if p.suffix in {".partial", ".journal", ".new"}]
    assert not left


def test_what_is_redirected_is_utf_8(folder: Path, demo_model: Path) -> None:
    assert "größe-→" in qxmix(folder, "plan", "recipe.yaml", demo_model)


def test_a_measurement_that_is_stopped_goes_on(folder: Path, demo_model: Path) -> None:
    command = ["measure", str(demo_model), "--types", "q8_0", "--rows", "8", "-o", "stopped.json"]
    code = """
import sys
from qxmix.cli.main import main
from qxmix.measure import journal

put = journal.Journal.put
def once(self, key, result):
    put(self, key, result)
    raise KeyboardInterrupt
journal.Journal.put = once
main(sys.argv[1:])
"""
    assert python(folder, "-c", code, *command).returncode == 130
    partial = folder / "stopped.json.partial"
    assert partial.read_bytes().count(b"\n") == 1
    assert b"\r" not in partial.read_bytes()
    qxmix(folder, *command)
    assert not partial.exists()
