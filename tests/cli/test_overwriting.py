"""Outputs that would take the place of what a command reads, of a model or a recipe, and those that cannot be whole."""

from __future__ import annotations

import os
import re
import shlex
import stat
from pathlib import Path
from typing import cast

import click
import pytest
from click.testing import CliRunner

from qxmix.cli.main import main
from qxmix.cli.overwriting import PICTURE, RESULTS, refuse_foreign
from qxmix.container.whole_file import refuse_unwritable, whole_file, write_whole
from qxmix.errors import RunError
from qxmix.measure.journal import key_of, open_journal
from qxmix.report.look import pyplot, save_picture
from tests.execute.test_feedback import write_moments
from tests.planning.models import Model, facts, write

SHAPES = {"token_embd.weight": (256, 64), **{f"blk.{i}.attn_q.weight": (256, 64) for i in range(2)}}
RECIPE = "qxmix: 1\nname: r\ntarget: any\nfallback: error\ndefault: q8_0\n"
INPUTS = ("m.gguf", "r.yaml", "i.dat", "t.txt", "mm.json", "l.json", "mo.gguf")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Model("llama", facts(2, 256, 8, 2), SHAPES), tmp_path / "m.gguf")
    Path("r.yaml").write_text(RECIPE)
    for name in INPUTS[2:]:
        Path(name).write_text("what is here is read, not written")
    Path("hard.gguf").hardlink_to("m.gguf")
    Path("soft.gguf").symlink_to("m.gguf")


def run(command: str, code: int) -> str:
    done = CliRunner().invoke(main, shlex.split(command))
    assert done.exit_code == code, done.output
    return done.output


@pytest.mark.parametrize("model", ["m.gguf", "hard.gguf", "soft.gguf", "./m.gguf"])
@pytest.mark.parametrize(
    "command",
    [
        "plan r.yaml m.gguf --lock {}", "plan r.yaml m.gguf --html {}", "solve m.gguf --bpw 9 -o {}",
        "solve m.gguf --bpw 9 --html {}", "inspect m.gguf --lattice -o {}", "measure m.gguf -o {}",
        "measure m.gguf -o x.json --cache {}", "header m.gguf -o {} --overwrite",
        "apply r.yaml m.gguf --card {}", "compare r.yaml pure/q4_0 --model m.gguf --html {}",
        "compare r.yaml pure/q4_0 --model m.gguf --plot {}", "eval m.gguf --text t.txt --plot {}",
        "imatrix make m.gguf --text t.txt -o {} --overwrite",
        "imatrix make m.gguf --text t.txt -o x.gguf --moments {} --overwrite",
        "export r.yaml m.gguf --to llama.cpp -o {}", "import r.yaml --model m.gguf -o {}",
    ],
)  # fmt: skip
def test_a_model_that_is_read_is_not_written(command: str, model: str) -> None:
    before = Path("m.gguf").read_bytes()
    assert re.search("would be (destroyed|lost); give -", run(command.format(model), 1))
    assert Path("m.gguf").read_bytes() == before


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("plan r.yaml m.gguf --lock r.yaml", "r.yaml: is a recipe, which would be lost; give --lock another name"),
        ("plan --lock i.dat --imatrix i.dat r.yaml m.gguf", "i.dat: is no lock that qxmix wrote, and would be lost"),
        ("plan r.yaml m.gguf --moments mo.gguf --html mo.gguf", "is what --moments names"),
        ("plan r.yaml m.gguf --measure mm.json --lock mm.json", "is what --measure names"),
        ("plan r.yaml m.gguf --lattice l.json --lock l.json", "is what --lattice names"),
        ("apply r.yaml m.gguf --locked l.json --card l.json", "is what --locked names"),
        ("measure m.gguf --text t.txt -o t.txt", "t.txt: is what --text names"),
        ("solve m.gguf -m mm.json --bpw 9 -o mm.json", "is what -m names"),
        ("solve m.gguf --base r.yaml --bpw 9 -o r.yaml", "is what --base names"),
        ("plan r.yaml m.gguf --lock x --html ./x", "x: would be written by --lock and by --html; give two names"),
        ("measure m.gguf -o x.json --cache x.json", "would be written by -o and by --cache"),
        ("imatrix make m.gguf --text t.txt -o x.gguf --moments ./x.gguf", "would be written by -o and by --moments"),
    ],
)
def test_nor_is_anything_else(command: str, told: str) -> None:
    before = {name: Path(name).read_bytes() for name in INPUTS}
    assert told in run(command, 1)
    assert {name: Path(name).read_bytes() for name in INPUTS} == before


def test_nor_are_moments_by_apply() -> None:
    Path("fb.yaml").write_text(RECIPE.replace("q8_0", "q4_0") + "feedback: true\n")
    moments = write_moments(Path("mo.gguf"), {"blk.0.attn_q.weight": (256, 40)})
    before = moments.read_bytes()
    told = run("apply fb.yaml m.gguf --moments mo.gguf -o mo.gguf --overwrite", 1)
    assert "mo.gguf: is the moments file itself (mo.gguf), and would be destroyed" in told
    assert moments.read_bytes() == before


def test_nor_another_shard_of_the_model() -> None:
    names = [f"s-{i:05d}-of-00002.gguf" for i in (1, 2)]
    for name in names:
        Path(name).write_bytes(Path("m.gguf").read_bytes())
    assert "is what MODEL names" in run(f"header {names[0]} -o {names[1]} --overwrite", 1)


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("plan r.yaml m.gguf --lock other.gguf", "a GGUF file"), ("solve m.gguf --bpw 9 -o other.gguf", "a GGUF file"),
        ("inspect m.gguf --lattice -o other.gguf", "a GGUF file"), ("measure m.gguf -o other.yaml", "a recipe"),
        ("plan r.yaml m.gguf --html other.yaml", "a recipe"),
    ],
)  # fmt: skip
def test_a_text_takes_the_place_of_no_model_and_no_recipe(command: str, kind: str) -> None:
    Path("other.gguf").write_bytes(Path("m.gguf").read_bytes())
    Path("other.yaml").write_text(RECIPE)
    assert f"is {kind}, which would be lost; give -" in run(command, 1)


WRITERS = (
    "plan r.yaml m.gguf --lock {}", "plan r.yaml m.gguf --html {}", "solve m.gguf --bpw 9 -o {}",
    "solve m.gguf --bpw 9 --html {}", "inspect m.gguf --lattice -o {}", "measure m.gguf -o {}",
    "measure m.gguf -o x.json --cache {}", "header m.gguf -o {}", "apply r.yaml m.gguf -o o.gguf --card {}",
    "compare r.yaml pure/q4_0 --model m.gguf --html {}", "compare r.yaml pure/q4_0 --model m.gguf --plot {}.png",
    "eval m.gguf --text t.txt --plot {}.png", "imatrix make m.gguf --text t.txt -o {}.dat",
    "imatrix make m.gguf --text t.txt -o x.gguf --moments {}.gguf", "imatrix convert i.dat -o {}.gguf",
    "imatrix merge i.dat i.dat -o {}.gguf", "export r.yaml m.gguf --to llama.cpp -o {}",
    "import r.yaml --model m.gguf -o {}", "sphere q4_0 -W 8 -o {}.png",
)  # fmt: skip
KEPT = tuple(command for command in WRITERS if not re.search("--(lock|html|plot|card|cache) ", command))
BESIDE = tuple(command for command in WRITERS if command not in KEPT)


@pytest.mark.parametrize("command", [*KEPT, "apply r.yaml m.gguf -o {}"])
def test_what_is_asked_for_replaces_nothing_unasked(command: str) -> None:
    names = ["kept", *(f"kept{suffix}" for suffix in (".png", ".dat", ".gguf"))]
    for name in names:
        Path(name).write_text("of a week's work")
    assert "exists already; give --overwrite to replace it, or " in run(command.format("kept"), 1)
    assert all(Path(name).read_text() == "of a week's work" for name in names)
    done = CliRunner().invoke(main, shlex.split(f"{command.format('kept')} --overwrite"))
    assert "exists already" not in done.output


def test_solved_and_imported_recipes_replace_one_when_asked_to() -> None:
    Path("s.yaml").write_text(RECIPE)
    assert "exists already" in run("solve m.gguf --bpw 9 -o s.yaml", 1)
    run("solve m.gguf --bpw 9 -o s.yaml --overwrite", 0)
    assert "Solved" in Path("s.yaml").read_text()
    assert "--overwrite" not in Path("s.yaml").read_text()  # the same recipe as without
    Path("new-random-2.yaml").write_text(RECIPE)
    told = run("solve m.gguf --bpw 9 -o new.yaml --against random:2", 1)
    assert "new-random-2.yaml: exists already" in told
    assert not Path("new.yaml").exists()


@pytest.mark.parametrize("command", BESIDE)
def test_what_tells_of_a_run_replaces_what_told_of_one(command: str) -> None:
    """And nothing that somebody else wrote."""
    notes = "# notes of mine\n"
    for name in ("notes", "notes.png"):
        Path(name).write_text(notes)
    told = run(command.format("notes"), 1)
    assert re.search("notes.*: is no [a-z ]+ that qxmix wrote, and would be lost; give --[a-z]+ another name", told)
    assert [Path(name).read_text() for name in ("notes", "notes.png")] == [notes] * 2


@pytest.mark.parametrize(
    ("command", "files"),
    [
        ("plan r.yaml m.gguf --lock l.lock --html page.html", ("l.lock", "page.html")),
        ("compare r.yaml pure/q4_0 --model m.gguf --html page.html", ("page.html",)),
        ("apply r.yaml m.gguf -o o.gguf --dry-run --card card.md", ("card.md",)),
    ],
)
def test_which_is_told_by_what_is_in_it(command: str, files: tuple[str, ...]) -> None:
    for name in files:
        Path(name).touch()  # an empty one is nobody's
    run(command, 0)
    before = [Path(name).read_bytes() for name in files]
    run(command, 0)
    assert [Path(name).read_bytes() for name in files] == before
    assert all(before)


def test_so_are_results_that_a_measurement_keeps() -> None:
    """What was no such file lost all from its first line on, once."""
    with open_journal(Path("c.jsonl")) as journal:
        journal.put(key_of("a"), 1)
    refuse_foreign("c.jsonl", None, RESULTS)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_and_a_picture_by_whom_it_is_made(suffix: str) -> None:
    figure = pyplot().figure()
    path = Path(f"p{suffix}")
    save_picture(figure, path)
    refuse_foreign(str(path), None, PICTURE)
    figure.savefig(path)
    with pytest.raises(RunError, match="is no picture that qxmix wrote"):
        refuse_foreign(str(path), None, PICTURE)


def test_devices_are_written_to_as_ever() -> None:
    run("plan r.yaml m.gguf --html /dev/null", 0)
    run("solve m.gguf --bpw 9 -o /dev/null", 0)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_whatever_has_an_output_has_the_flag_for_it() -> None:
    """Of commands to come, too."""
    top = cast("click.Group", main)
    groups = [top, cast("click.Group", top.get_command(click.Context(top), "imatrix"))]
    commands = [g.get_command(click.Context(g), n) for g in groups for n in g.list_commands(click.Context(g))]
    flags = {c.name: {o for p in c.params for o in p.opts} for c in commands if c is not None}
    writers = {name for name, options in flags.items() if "-o" in options}
    assert writers >= {"apply", "solve", "import", "export", "header", "inspect", "measure", "sphere", "make", "merge"}
    assert [name for name in writers if "--overwrite" not in flags[name]] == []


@pytest.mark.parametrize("command", [*WRITERS, "apply r.yaml m.gguf -o {}", "imatrix merge i.dat -o {}"])
def test_a_dash_is_no_file(command: str) -> None:
    before = sorted(Path().iterdir())
    told = run(re.sub(r"\{\}\S*", "-", command), 1)
    text = "-: stands for standard output elsewhere and is no name here; give -"
    assert text in told
    prints = command.startswith(("solve", "import")) and "-o" in command
    assert ("or leave it out for standard output" in told) is prints
    assert sorted(Path().iterdir()) == before
    if command.startswith("solve m.gguf --bpw 9 -o"):
        assert "qxmix: 1" in run("solve m.gguf --bpw 9", 0)


@pytest.mark.parametrize("command", [command for command in WRITERS if not command.startswith("header")])
def test_a_folder_that_is_not_there_is_told_before_any_work(command: str) -> None:
    Path("results").mkdir()
    told = run(command.format("result/deep/x"), 1)
    assert "there is no folder result/deep; make it first (mkdir -p result/deep), or give another name" in told
    assert re.search(r"did you mean results/deep/x(\.\w+)?\?", told)
    assert "t.txt is no folder, and this would be inside it" in run(command.format("t.txt/x"), 1)
    Path("folder").mkdir()
    for suffix in (".png", ".dat", ".gguf"):
        Path(f"folder{suffix}").mkdir()
    assert re.search("is a folder; give -[-a-z]+ the name of a file", run(command.format("folder"), 1))
    assert sorted(p.name for p in Path().iterdir() if p.suffix == ".partial") == []


def test_a_folder_that_may_not_be_written_to_is_told_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("theirs").mkdir()
    monkeypatch.setattr("os.access", lambda path, _mode: "theirs" not in str(path))
    assert "theirs: may not be written to; give -o another name" in run("solve m.gguf --bpw 9 -o theirs/x", 1)


def test_a_name_in_no_folder_is_told_by_whatever_writes_it() -> None:
    with pytest.raises(RunError, match=r"there is no folder no; make it first \(mkdir -p no\)"):
        refuse_unwritable(Path("no/x"))
    with (
        pytest.raises(RunError, match=r"t\.txt is no folder, and this"),
        whole_file(Path("t.txt/x")),
    ):
        pass


def test_a_pipe_stays_one() -> None:
    os.mkfifo("pipe")
    with pytest.raises(RunError, match="it is a device, pipe or socket"), whole_file(Path("pipe")):
        pass
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(Path("pipe"), "text")
        assert os.read(reader, 100) == b"text"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(Path("pipe").stat().st_mode)


def test_a_text_that_cannot_be_written_leaves_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    before = '{"qxmix_lock": 1}'
    Path("lock.json").write_text(before)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert "lock.json: cannot be written: No space left on device" in run("plan r.yaml m.gguf --lock lock.json", 1)
    assert Path("lock.json").read_text() == before
    assert not list(Path().glob(".lock*"))


def test_a_file_in_a_place_where_none_can_be_put_beside_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that is mounted into a container."""
    Path("mounted").write_text("before")

    def busy(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(Path, "replace", busy)
    write_whole(Path("mounted"), "text")
    assert Path("mounted").read_text() == "text"
