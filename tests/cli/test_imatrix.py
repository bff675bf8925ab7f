"""``qxmix imatrix`` as a process."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from click.testing import CliRunner

from qxmix.cli.interrupt import Interrupted
from qxmix.cli.main import main
from qxmix.container.imatrix_load import load_imatrix
from qxmix.container.imatrix_write import write_imatrix
from qxmix.container.moments_load import load_moments
from qxmix.resources import data_dir
from tests.importance.activations import dense_tokens, measured, routed_tokens

if TYPE_CHECKING:
    from pathlib import Path


def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "qxmix", "imatrix", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done


@pytest.mark.parametrize(
    ("gathered", "told"),
    [
        (True, "what is gathered is kept. Go on with:\n  qxmix imatrix make {model} --text {text} -o {out} --resume\n"),
        (False, "before anything was gathered.\n"),
    ],
)
def test_told_to_stop_a_make_says_how_it_goes_on(
    demo_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gathered: bool, told: str
) -> None:
    (text := tmp_path / "t.txt").write_text("a text")
    out = tmp_path / "i.gguf"

    def stop_midway(*_: object, **__: object) -> None:
        if gathered:
            out.with_name("i.gguf.partial").touch()
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr("qxmix.engines.calibrate.calibrate", stop_midway)
    done = CliRunner().invoke(main, ["imatrix", "make", str(demo_model), "--text", str(text), "-o", str(out)])
    assert done.exit_code == 143
    assert done.stderr.endswith(told.format(model=demo_model, text=text, out=out))


def checked_json(text: str, schema: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(text)
    jsonschema.validate(facts, json.loads((data_dir("schemas") / schema).read_text()))
    return facts


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """Three experts, of which the second saw nothing."""
    path = tmp_path / "toy.gguf"
    name = "blk.0.ffn_up_exps.weight"
    dense = {"blk.0.attn_q.weight": dense_tokens(1, 20, 8)}
    write_imatrix(measured(dense, {name: routed_tokens(2, 20, 6, [0, 2])}, 3), path)
    return path


def test_merge_and_convert(toy: Path, tmp_path: Path) -> None:
    twice = tmp_path / "twice.gguf"
    assert run("merge", toy, toy, "-o", twice).stdout == f"{twice}: 2 entries, 10 chunks\n"
    assert load_imatrix(twice).counts["blk.0.attn_q.weight"].tolist() == [40.0]
    run("diff", toy, twice)
    legacy = tmp_path / "toy.dat"
    told = run("convert", twice, "-o", legacy).stderr
    assert "Note: a .dat has no counts per expert: those of 1 tensors are lost, and that 1 of them saw nothing" in told
    assert "already; give --overwrite" in run("convert", twice, "-o", legacy, code=1).stderr
    run("convert", twice, "-o", legacy, "--overwrite")
    back = tmp_path / "back.gguf"
    assert "taken as 64 tokens per chunk" in run("convert", legacy, "-o", back, "--chunk-size", 64).stderr
    assert load_imatrix(back).chunk_size == 64
    assert "name it .gguf" in run("merge", toy, "-o", tmp_path / "x", code=1).stderr


def test_stats(toy: Path) -> None:
    text = run("stats", toy).stdout
    assert text.endswith("blk.0.ffn_up_exps.weight: 1 of 3 experts saw no text: 1\n")
    facts = checked_json(run("stats", toy, "--json").stdout, "imatrix-stats.schema.json")
    assert facts["coverage"] == [
        {"entry": "blk.0.ffn_up_exps.weight", "n_matrices": 3, "mean": 20 / 3, "unseen": [1], "thin": []}
    ]
    assert [e["n_matrices"] for e in facts["entries"]] == [1, 3]


def test_stats_go_from_layer_to_layer(tmp_path: Path) -> None:
    """Files are often in the order of the names as text, where 10 stands before 2."""
    path = tmp_path / "l.gguf"
    names = [f"blk.{i}.attn_q.weight" for i in (1, 10, 2)] + ["output.weight"]
    write_imatrix(measured({name: dense_tokens(3, 20, 8) for name in names}, {}, 3), path)
    lines = run("stats", path).stdout.splitlines()[1:5]
    assert [line.split()[0] for line in lines] == [names[3], names[0], names[2], names[1]]


def test_diff(toy: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    write_imatrix(measured({"blk.0.attn_q.weight": dense_tokens(3, 20, 8)}, {}, 3), other)
    text = run("diff", toy, other, code=1).stdout
    assert text.startswith(f"1 entries only in {toy}: blk.0.ffn_up_exps.weight\n")
    assert "\nattn_q " in text
    assert "\n0 " in text
    assert "blk.0.attn_q.weight  " in run("diff", toy, other, "--all", code=1).stdout
    facts = checked_json(run("diff", toy, other, "--json", code=1).stdout, "imatrix-diff.schema.json")
    assert (facts["same"], facts["only_a"]) == (False, ["blk.0.ffn_up_exps.weight"])
    assert run("diff", toy, toy).stdout == "The same: 2 entries, every value equal.\n"


def test_a_model_is_no_matrix(demo_model: Path, tmp_path: Path) -> None:
    assert "is a model, not an importance matrix" in run("stats", demo_model, code=1).stderr
    assert "No such command 'steal'" in run("steal", code=2).stderr
    run("merge", "-o", tmp_path / "m.gguf", code=2)


def test_make(demo_moe_model: Path, demo_text: bytes, tmp_path: Path) -> None:
    text, out, moments = tmp_path / "t.txt", tmp_path / "m.gguf", tmp_path / "m.moments.gguf"
    text.write_bytes(demo_text)
    options = ("--text", text, "--ctx", 32, "--first-chunk", 2, "--chunks", 2, "-j", 1)
    done = run("make", demo_moe_model, *options, "-o", out, "--moments", moments)
    assert done.stdout.splitlines() == [
        f"{moments}: second moments of 14 tensors",
        f"{out}: 14 entries, 2 chunks",
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.gguf", "m.moments.gguf", "t.txt"]
    imatrix, second = load_imatrix(out), load_moments(moments)
    assert (imatrix.datasets, imatrix.n_chunks, imatrix.chunk_size) == (("t.txt",), 2, 32)
    assert list(second.entries) == list(imatrix.entries)
    assert imatrix.counts["blk.0.ffn_up_exps.weight"].sum() == 2 * 64  # two experts per token
    assert second.entries["blk.0.ffn_up_exps.weight"].n_correlations == 1
    assert second.entries["blk.0.ffn_down_exps.weight"].n_correlations == 4


def test_make_refuses_before_it_runs(demo_model: Path, demo_text: bytes, tmp_path: Path) -> None:
    text, out = tmp_path / "t.txt", tmp_path / "m.gguf"
    text.write_bytes(demo_text)
    make = ("make", demo_model, "--text", text)
    assert "name it .gguf" in run(*make, "-o", tmp_path / "m.imatrix", code=1).stderr
    dat = tmp_path / "m.dat"
    assert "second moments are a GGUF file of their own" in run(*make, "-o", out, "--moments", dat, code=1).stderr
    assert "would be written by -o and by --moments" in run(*make, "-o", out, "--moments", out, code=1).stderr
    out.with_name("m.gguf.partial").write_bytes(b"")
    assert "go on with --resume, or start over with --overwrite" in run(*make, "-o", out, code=1).stderr
    assert "start over with --overwrite" in run(*make, "-o", out, "--resume", code=1).stderr
    assert not out.exists()
    missing = run("make", demo_model, "--text", tmp_path / "none", "-o", tmp_path / "n.gguf", code=1).stderr
    assert "none: the text cannot be read: No such file or directory" in missing


@pytest.fixture(scope="module")
def finished(demo_model: Path, demo_text: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a make has written, in both formats: m.gguf with m.moments.gguf, and m.dat; and other files."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "t.txt").write_bytes(demo_text)
    (folder / "other.txt").write_text("Another text. " * 90)
    (folder / "other.dat").write_text("notes")
    write_imatrix(measured({"blk.0.attn_q.weight": dense_tokens(3, 20, 8)}, {}, 3), folder / "other.gguf")
    make = ("make", demo_model, "--text", folder / "t.txt", *RUN)
    run(*make, "-o", folder / "m.gguf", "--moments", folder / "m.moments.gguf")
    run(*make, "-o", folder / "m.dat")
    return folder


@pytest.fixture
def made(finished: Path, demo_model: Path, tmp_path: Path) -> tuple[object, ...]:
    """Arguments of the make that has finished, and its files in the test's folder, as old as they are."""
    for path in finished.iterdir():
        shutil.copy2(path, tmp_path)
    return ("make", demo_model, "--text", tmp_path / "t.txt", *RUN)


RUN = ("--ctx", 32, "--chunks", 2, "-j", 1)


def refused(*arguments: object) -> str:
    """What a command in this process says that fails."""
    done = CliRunner().invoke(main, ["imatrix", *map(str, arguments)])
    assert done.exit_code == 1, done.output
    return done.stderr


def test_a_make_that_is_complete_stays_when_it_is_resumed(made: tuple[object, ...], tmp_path: Path) -> None:
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    out, moments = tmp_path / "m.gguf", tmp_path / "m.moments.gguf"
    done = run(*made, "-o", out, "--moments", moments, "--resume")
    assert done.stdout == ""
    assert done.stderr.splitlines() == [f"{p} is complete already, and stays as it is" for p in (out, moments)]
    told = run(*made, "-o", tmp_path / "m.dat", "--resume").stderr
    assert told.startswith(f"{tmp_path / 'm.dat'} is complete already, and stays as it is\nNote: a .dat does not say")
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before
    # Of two outputs one is there, and one is another, which may go.
    shutil.copyfile(tmp_path / "other.gguf", moments)
    done = run(*made, "-o", out, "--moments", moments, "--resume", "--overwrite")
    assert done.stdout == f"{moments}: second moments of 28 tensors\n"
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "options", "differs"),
    [
        ("m.gguf", ["--chunks", 1], "other chunks (--chunks, --first-chunk or --ctx)"),
        ("m.gguf", ["--first-chunk", 1], "other chunks (--chunks, --first-chunk or --ctx)"),
        ("m.gguf", ["--ctx", 64], "other chunks (--chunks, --first-chunk or --ctx)"),
        ("m.gguf", ["--process-output"], "a make without --process-output"),
        ("m.gguf", ["--text", "other.txt", "--chunks", 1],
         "another text and other chunks (--chunks, --first-chunk or --ctx)"),
        ("m.moments.gguf", [], "another program, or a file of another kind"),
        ("m.dat", ["--chunks", 1], "other chunks (--chunks)"),
        ("m.dat", ["--text", "other.txt"], "another text"),
        ("other.dat", [], "another program, or a file of another kind"),
        ("other.gguf", [], "another program, or a file of another kind"),
    ],
)  # fmt: skip
def test_a_resume_of_another_make_says_what_differs(
    made: tuple[object, ...], tmp_path: Path, name: str, options: list[object], differs: str
) -> None:
    out = tmp_path / name
    before = out.read_bytes()
    options = [tmp_path / o if o == "other.txt" else o for o in options]
    told = refused(*made, *options, "-o", out, "--resume")
    expected = f"is finished, and not what this make writes: it is of {differs}; give --overwrite to replace it, or"
    assert told == f"Error: {out}: {expected} another -o\n"
    assert out.read_bytes() == before


def test_a_resume_for_another_model_says_so(made: tuple[object, ...], demo_moe_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    shutil.copyfile(str(made[1]), model)  # newer than what was made of it
    given = (*made[:1], model, *made[2:], "--resume", "-o")
    for name in ("m.gguf", "m.dat"):
        assert "it is of an older state of the model; give" in refused(*given, tmp_path / name)
    given = (*made[:1], demo_moe_model, *made[2:], "--resume", "-o")
    assert "it is of another model; give" in refused(*given, tmp_path / "m.gguf")
    assert "it is of another model or other matrices of it; give" in refused(*given, tmp_path / "m.dat")
    alone = (*made[:1], demo_moe_model, *made[2:], "--resume", "-o", tmp_path / "n.gguf", "--moments")
    told = refused(*alone, tmp_path / "m.moments.gguf")
    assert "it is of another model; give --overwrite to replace it, or another --moments\n" in told


def test_a_make_stopped_while_it_replaces_goes_on(
    made: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is told to type, without --overwrite, may replace what stands there: the first command said so."""
    out, moments = tmp_path / "m.gguf", tmp_path / "m.moments.gguf"
    again = ["imatrix", *map(str, made), "--first-chunk", "1", "-o", str(out), "--moments", str(moments)]

    def stop(*_: object, **__: object) -> None:
        raise Interrupted(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr("qxmix.cli.imatrix.make.write_converted", stop)
        done = CliRunner().invoke(main, [*again, "--overwrite"])
    assert (done.exit_code, out.with_name("m.gguf.partial").exists()) == (143, True)
    run(*again[1:], "--resume")
    assert not out.with_name("m.gguf.partial").exists()
    expected = tmp_path / "expected.gguf"
    run(*made, "--first-chunk", 1, "-o", expected)
    assert out.read_bytes() == expected.read_bytes()
