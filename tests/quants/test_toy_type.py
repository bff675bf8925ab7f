"""Adding a type is one file with its codec and one row of the table; everything else follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from qxmix import quants
from qxmix.container.header import read_header
from qxmix.execute import apply
from qxmix.plan import make_plan
from qxmix.quants.quant_type import QuantType
from qxmix.recipe import load_recipe

if TYPE_CHECKING:
    from pathlib import Path

FILE = '''
"""TOY8: 8-bit codes -127..127 of 64 weights and a float32 scale in front of them."""

import numpy as np

from qxmix.quants.codec import Codec


def _encode(rows, columns, packed, search):
    blocks = rows.reshape(len(rows), -1, 64)
    scale = (np.abs(blocks).max(axis=2) / np.float32(127)).astype(np.float32)
    codes = np.rint(blocks / np.where(scale == 0, np.float32(1), scale)[..., None]).astype(np.int8)
    out = packed.reshape(len(rows), -1, 68)
    out[:, :, :4] = scale[..., None].view(np.uint8)
    out[:, :, 4:] = codes.view(np.uint8)


def _decode(packed, rows):
    blocks = packed.reshape(len(packed), -1, 68)
    scale = np.ascontiguousarray(blocks[:, :, :4]).view(np.float32)
    rows[:] = (np.ascontiguousarray(blocks[:, :, 4:]).view(np.int8) * scale).reshape(rows.shape)


CODECS = {"TOY8": Codec(decode=_decode, encode=_encode)}
'''
ROW = QuantType("TOY8", 9001, 64, 68, ftype=(9001, 9001), codec="toy8", fallbacks=("Q8_0", "Q8_0"))


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> QuantType:
    (tmp_path / "toy8.py").write_text(FILE)
    monkeypatch.setattr(quants, "__path__", [*quants.__path__, str(tmp_path)])
    monkeypatch.setitem(quants._BY_NAME, ROW.name, ROW)
    monkeypatch.setitem(quants._BY_ID, ROW.id, ROW)
    return ROW


def test_a_toy_type_is_planned_written_and_read(toy: QuantType, tmp_path: Path, demo_model: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("{qxmix: 1, name: toy, target: llama.cpp, default: toy8}")
    header = read_header(demo_model)
    plan = make_plan(load_recipe(recipe), header)
    assert {t.type for t in plan.tensors if not t.kept} == {"TOY8"}
    assert plan.file_type == 9001
    apply(plan, tmp_path / "o.gguf", n_workers=1)
    written = read_header(tmp_path / "o.gguf")
    tensor = next(t for t in written.tensors if t.name == "blk.0.attn_q.weight")
    source = next(t for t in header.tensors if t.name == tensor.name)
    assert tensor.quant_type is toy
    packed = np.fromfile(tmp_path / "o.gguf", np.uint8, tensor.nbytes, offset=tensor.offset)
    rows = np.empty((tensor.n_rows, tensor.n_cols), np.float32)
    quants.codec_of("TOY8").decode(packed.reshape(tensor.n_rows, -1), rows)
    weights = np.fromfile(demo_model, np.float16, source.n_weights, offset=source.offset).reshape(rows.shape)
    assert np.abs(rows - weights).max() <= np.abs(weights).max() / 250
    # The file that it wrote is a source as well.
    recipe.write_text("{qxmix: 1, name: back, target: llama.cpp, default: f16, allow_requantize: true}")
    apply(make_plan(load_recipe(recipe), written), tmp_path / "back.gguf", n_workers=1)
    # Rows that are no whole blocks fall back as the row says.
    odd = tmp_path / "odd.yaml"
    odd.write_text("{qxmix: 1, name: toy, target: llama.cpp, default: f16, rules: [{category: ffn_down, type: toy8}]}")
    assert make_plan(load_recipe(odd), header).tensors
