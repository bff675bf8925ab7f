"""Embeddings of an encoder model: lines, distances, and the command that shows them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import gguf
import jsonschema
import numpy as np
import pytest

from qxmix.container.header import read_header
from qxmix.engines.embed import distances, embed, evaluate_encoders, is_encoder, lines_of
from qxmix.engines.evaluate import Settings
from qxmix.engines.session import Session
from qxmix.errors import ModelFileError
from qxmix.measure.journal import open_journal
from qxmix.measure.model import Settings as MeasureSettings
from qxmix.measure.run import make_job, measure
from qxmix.measure.score import Passage
from qxmix.resources import data_dir
from tests.engines.bert import make_bert

if TYPE_CHECKING:
    from pathlib import Path

LINES = ["the world of a game", "a city was made by two people", "two people in the world", "the game was a game ."]
TEXT = "\n\n".join([*LINES, "the world " * 200]).encode()
SETTINGS = Settings("llama.cpp", n_ctx=64, n_threads=1)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bert") / "bert.gguf"
    make_bert(path)
    return path


def noisy(source: Path, target: Path, size: float) -> Path:
    target.write_bytes(source.read_bytes())
    tensor = next(t for t in gguf.GGUFReader(target, "r+").tensors if t.name == "blk.1.ffn_up.weight")
    rng = np.random.default_rng(1)
    tensor.data[:] = tensor.data * (1 + size * rng.standard_normal(tensor.data.shape)).astype(np.float16)
    assert isinstance(tensor.data.base, np.memmap)
    tensor.data.base.flush()
    return target


def test_lines_that_hold_something_and_fit(bert: Path) -> None:
    with Session("llama.cpp", bert, n_ctx=64, n_threads=1) as session:
        assert lines_of(session, TEXT, 64, 0, None) == tuple(LINES)
        assert lines_of(session, TEXT, 64, 1, 2) == tuple(LINES[1:3])
        for first, n in ((0, 5), (4, None), (3, 2)):
            with pytest.raises(ModelFileError, match=r"has 4 lines of at most 64 tokens, \d are needed"):
                lines_of(session, TEXT, 64, first, n)


def test_more_noise_is_more_distance(bert: Path, tmp_path: Path) -> None:
    assert is_encoder(read_header(bert))
    files = [bert, noisy(bert, tmp_path / "a.gguf", 0.02), noisy(bert, tmp_path / "b.gguf", 0.2)]
    done: list[tuple[int, int]] = []
    found = evaluate_encoders(files, TEXT, base=bert, settings=SETTINGS, on_line=lambda *step: done.append(step))
    assert [f.n_lines for f in found] == [4, 4, 4]
    assert found[0].mean_distance == pytest.approx(0, abs=1e-12)
    assert 1e-8 < found[1].mean_distance < found[2].mean_distance / 10
    assert done == [(i + 1, 16) for i in range(16)]
    with Session("llama.cpp", bert, n_ctx=64, n_threads=1) as session:
        base = np.stack([embed(session, line) for line in LINES])
    with Session("llama.cpp", files[2], n_ctx=64, n_threads=1) as session:
        ours = np.stack([embed(session, line) for line in LINES])
    assert found[2].mean_distance == pytest.approx(distances(base, ours).mean(), rel=1e-9)


def test_eval_shows_them(bert: Path, tmp_path: Path) -> None:
    text, other = tmp_path / "t", noisy(bert, tmp_path / "a.gguf", 0.1)
    text.write_bytes(TEXT)
    command = [sys.executable, "-m", "qxmix", "eval", str(other), "--text", str(text), "--ctx", "64", "-j", "1"]
    done = subprocess.run([*command, "--base", str(bert), "--json"], capture_output=True, text=True, check=True)
    schema = json.loads((data_dir("schemas") / "eval.schema.json").read_text())
    jsonschema.validate(json.loads(done.stdout), schema)
    assert json.loads(done.stdout)[0]["engine"] == "llama.cpp"
    done = subprocess.run([*command, "--base", str(bert)], capture_output=True, text=True, check=True)
    assert "mean 1 - cosine" in done.stdout
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "give --base" in done.stderr


def test_an_encoder_is_measured_by_cosine(bert: Path, tmp_path: Path) -> None:
    passage = Passage(TEXT, 64, 1, 3, 64, 1)
    settings = MeasureSettings(target="llama.cpp", types=("Q4_0", "Q8_0"), n_rows=None, passage=passage)
    job = make_job(read_header(bert), None, settings)
    with open_journal(tmp_path / "j") as journal:
        found = measure(job, journal)
    assert found.metric == "cosine"
    assert found.run is not None
    assert (found.run.engine, found.run.first_chunk, found.run.n_chunks, found.run.n_ubatch) == ("llama.cpp", 1, 3, 64)
    origins = {t.name: t.sensitivity.origin for t in found.tensors if t.sensitivity}
    assert set(origins.values()) == {"measured"}
    assert all(p.loss > found.run.noise_floor for p in found.points)
    assert [p.loss for p in found.joint] == sorted((p.loss for p in found.joint), reverse=True)
    with open_journal(tmp_path / "j") as journal:
        assert measure(job, journal) == found
