"""``qxmix compare``: entrants of every kind in one table, evaluated in one run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import jsonschema
import pytest
from click.testing import CliRunner, Result

import qxmix
from qxmix.cli.main import main
from qxmix.measurement.file import save_measurement
from qxmix.plan import make_plan
from qxmix.planning.lock import write_lock
from qxmix.recipe import load_recipe
from qxmix.resources import data_dir
from tests.engines.bert import make_bert
from tests.execute.test_feedback import write_moments
from tests.planning.models import write
from tests.planning.zoo import dense
from tests.solve.measured import measurement_of

if TYPE_CHECKING:
    from pathlib import Path

    from qxmix.plan import Plan


def run(*args: object) -> Result:
    done = CliRunner().invoke(main, ["compare", *map(str, args)])
    assert done.exception is None or done.exit_code, done.exception
    return done


def objects(*args: object) -> list[dict[str, object]]:
    done = run(*args, "--json")
    assert done.exit_code == 0, done.output
    found: list[dict[str, object]] = json.loads(done.stdout)
    jsonschema.validate(found, json.loads((data_dir("schemas") / "compare.schema.json").read_text()))
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_told_to_stop_it_leaves_no_models(
    demo_model: Path, demo_text: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def stop(_plan: Plan, folder: Path, _index: int) -> None:
        (folder / "0.gguf").touch()
        os.kill(os.getpid(), number)

    (text := tmp_path / "t.txt").write_bytes(demo_text)
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr("qxmix.solve.lineup._written", stop)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(n, signal.default_int_handler) for n in numbers]
    try:
        done = run("pure/q4_0", "--model", demo_model, "--text", text, "--text-ctx", "64")
    finally:
        for n, handler in zip(numbers, before, strict=True):
            signal.signal(n, handler)
    assert done.exit_code == 128 + number
    assert "the models that were written to be run are removed" in done.stderr
    assert not list(temporary.iterdir())


def test_recipes_plans_locks_and_models_in_one_table(demo_model: Path, tmp_path: Path) -> None:
    plan = make_plan(load_recipe("pure/q5_0"), qxmix.read_header(demo_model))
    lock, planned = tmp_path / "q5.lock", tmp_path / "q5.json"
    write_lock(plan, lock)
    shown = CliRunner().invoke(main, ["plan", "pure/q5_0", str(demo_model), "--json"])
    planned.write_text(shown.stdout)
    found = objects(demo_model, "pure/q4_0", planned, lock, "--model", demo_model)
    by_name = {str(o["name"]): o for o in found}
    assert [o["nbytes"] for o in found] == sorted(o["nbytes"] for o in found)  # type: ignore[type-var]
    assert by_name[str(lock)]["nbytes"] == by_name[str(planned)]["nbytes"] == plan.file_nbytes
    assert by_name[str(demo_model)]["nbytes"] == demo_model.stat().st_size
    assert by_name["pure/q4_0"]["n_fallbacks"] == 0
    markdown = run(demo_model, "pure/q4_0", "--markdown").stdout.splitlines()
    assert markdown[0].startswith("| name | bytes |")
    assert markdown[1].startswith("| --- | ---: |")
    assert len(markdown) == 4


def test_predicted_divergence_and_a_picture(tmp_path: Path) -> None:
    model = dense("llama", 6, 512, 1024, 8, 2, head=64, n_vocab=2048)
    path, measured, picture = write(model, tmp_path / "m.gguf"), tmp_path / "m.json", tmp_path / "p.svg"
    save_measurement(measurement_of(model), measured)
    args = ("pure/q4_k", "pure/q8_0", "pure/q5_k", "--model", path, "--measure", measured)
    found = objects(*args, "--plot", picture, "--sort", "divergence")
    values = [o["predicted"]["value"] for o in found]  # type: ignore[index]
    assert [o["name"] for o in found] == ["pure/q8_0", "pure/q5_k", "pure/q4_k"]
    assert values == sorted(values)
    assert picture.read_text().startswith("<?xml")


def test_measured_by_the_engine_in_one_run(
    demo_model: Path, demo_imatrix: Path, demo_text: bytes, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes(demo_text)
    args = ("pure/q4_0", "pure/q8_0", demo_model, "--model", demo_model, "--imatrix", demo_imatrix, "--text", text)
    found = {str(o["name"]): o for o in objects(*args, "--chunks", 1, "--text-ctx", 64)}
    klds = {name: o["measured"]["mean_kld"] for name, o in found.items()}  # type: ignore[index]
    assert klds["pure/q4_0"] > klds["pure/q8_0"] > klds[str(demo_model)] == pytest.approx(0, abs=1e-6)
    assert "write_seconds" in found["pure/q4_0"]
    assert "write_seconds" not in found[str(demo_model)]
    assert not list(tmp_path.glob("*.gguf"))


def test_a_recipe_of_a_revision_is_run_as_it_was(
    demo_model: Path, demo_text: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_bytes(demo_text)
    recipe = tmp_path / "r.yaml"
    for type_name in ("q8_0", "q4_0"):
        recipe.write_text(f"qxmix: 1\nextends: [pure/{type_name}]\n")
        if type_name == "q8_0":
            for line in ("init -q", "add r.yaml", "-c user.name=a -c user.email=a@b.c commit -qm 1"):
                subprocess.run(["git", *line.split()], check=True)
    args = ("HEAD:r.yaml", "r.yaml", "--model", demo_model, "--text", "text.txt", "--chunks", 1, "--text-ctx", 64)
    found = {str(o["name"]): o["measured"]["mean_kld"] for o in objects(*args)}  # type: ignore[index]
    assert found["r.yaml"] > 3 * found["HEAD:r.yaml"] > 0


def test_recipes_with_feedback_are_run_with_the_moments(demo_model: Path, demo_text: bytes, tmp_path: Path) -> None:
    text, recipe, moments = tmp_path / "text.txt", tmp_path / "fed.yaml", tmp_path / "m.gguf"
    text.write_bytes(demo_text)
    recipe.write_text("qxmix: 1\nextends: [pure/q4_0]\nfeedback: true\n")
    model = qxmix.read_header(demo_model)
    shapes = {t.name: t.shape for t in model.tensors if t.name.startswith("blk.") and len(t.shape) > 1}
    write_moments(moments, shapes)
    args = (recipe, "pure/q4_0", "--model", demo_model, "--text", text, "--chunks", 1, "--text-ctx", 64)
    assert f"Warning: {recipe}: no moments are given (--moments), so " in " ".join(run(*args).stderr.split())
    without, fed = (
        {str(o["name"]): o["measured"]["mean_kld"] for o in objects(*args, *more)}  # type: ignore[index]
        for more in ((), ("--moments", moments))
    )
    assert without[str(recipe)] == without["pure/q4_0"] == fed["pure/q4_0"] != fed[str(recipe)]


def test_a_text_that_is_too_short_is_refused_before_files_are_written(
    demo_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qxmix.solve.lineup._written", lambda *_: pytest.fail("a file is written"))
    (text := tmp_path / "text.txt").write_text("the world of a game")
    done = run("pure/q4_0", "--model", demo_model, "--text", text)
    assert done.exit_code == 1
    assert "needs at least 1024" in done.output


def test_what_running_takes_is_a_column(demo_model: Path) -> None:
    machine = ("--model", demo_model, "--ctx", 4096, "--vram", "5MiB", "--ram", "12MiB")
    found = {str(o["name"]): o["running"] for o in objects(demo_model, "pure/q4_0", "pure/q8_0", *machine)}
    assert [r["kv_type"] for r in found.values()] == ["F16"] * 3  # type: ignore[index]
    sums = {name: sum(d["nbytes"] for d in r["devices"]) for name, r in found.items()}  # type: ignore[index]
    assert sums["pure/q4_0"] < sums["pure/q8_0"] < sums[str(demo_model)]
    shown = run("pure/q4_0", "pure/q8_0", *machine[:-1], "1MiB", "--markdown").stdout
    assert "| on GPUs | in memory | fits |" in shown
    assert "of RAM |" in shown


def test_encoders_are_measured_by_their_embeddings(tmp_path: Path) -> None:
    model, text, page = tmp_path / "bert.gguf", tmp_path / "text.txt", tmp_path / "c.html"
    make_bert(model)
    text.write_text("the world of a game\nmade by two people\nin the city .\n")
    args = ("pure/q4_0", "pure/q8_0", model, "--model", model, "--text", text, "--text-ctx", 64)
    found = {str(o["name"]): o["measured"]["mean_distance"] for o in objects(*args, "--html", page)}  # type: ignore[index]
    assert found["pure/q4_0"] > found["pure/q8_0"] > found[str(model)] == pytest.approx(0, abs=1e-6)
    assert "1 - cosine" in page.read_text()
    assert "| mean 1 - cosine | +- |" in run(*args, "--markdown").stdout


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("pure/q4_0", "--plot", "x.png"), "--plot draws divergence"),
        (("pure/q4_0", "--measure", "x.json"), "give that with --model"),
        (("pure/q4_0", "--json", "--markdown"), "exclude each other"),
        (("pure/q4_0",), "depends on the model; give"),
        ((), "Missing argument"),
    ],
)
def test_usage(args: tuple[str, ...], told: str) -> None:
    done = run(*args)
    assert done.exit_code == 2
    assert told in done.output


def test_a_picture_that_cannot_be_drawn_is_told_first(demo_model: Path, tmp_path: Path) -> None:
    done = run("pure/q4_0", "--model", demo_model, "--text", tmp_path / "none.txt", "--plot", tmp_path / "x.bmp")
    assert done.exit_code == 1
    assert "a picture ends in" in done.output
