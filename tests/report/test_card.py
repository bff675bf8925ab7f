"""The card of several outputs: sorted by size, with what they lose where that was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

import qxmix
from qxmix.cli.card import card_of
from qxmix.errors import ModelFileError
from qxmix.measurement.file import save_measurement
from qxmix.plan import Split, make_plan
from qxmix.recipe import load_recipe
from tests.planning.models import write
from tests.planning.zoo import dense
from tests.solve.measured import measurement_of


def test_divergence_where_it_was_measured(tmp_path: Path) -> None:
    model = dense("llama", 6, 512, 1024, 8, 2, head=64, n_vocab=2048)
    header = qxmix.read_header(write(model, tmp_path / "m.gguf"))
    outputs = [
        (make_plan(load_recipe(name), header), Path(f"out/{name[5:]}.gguf")) for name in ("pure/q5_k", "pure/q4_k")
    ]
    measured = tmp_path / "m.json"
    save_measurement(measurement_of(model), measured)
    plain = card_of(outputs, None, Split())
    assert "predicted" not in plain
    card = card_of(outputs, measured, Split(max_nbytes=10**6, max_tensors=7))
    titles, _, *rows = (line.strip("| ").split(" | ") for line in card.splitlines() if line.startswith("|"))
    column = titles.index("predicted")
    losses = {row[0]: float(row[column].split()[0]) for row in rows}
    assert list(losses) == ["q4_k.gguf", "q5_k.gguf"]
    assert losses["q4_k.gguf"] > losses["q5_k.gguf"] > 0
    split = "--split-max-size 1000000 --split-max-tensors 7"
    assert f"qxmix apply pure/q4_k m.gguf {split} -o q4_k.gguf" in card
    other = qxmix.read_header(write(dense("llama", 2, 512, 1024, 8, 2, head=64, n_vocab=64), tmp_path / "other.gguf"))
    with pytest.raises(ModelFileError):
        card_of([(make_plan(load_recipe("pure/q4_0"), other), Path("x.gguf"))], measured, Split())
