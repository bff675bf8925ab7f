"""The demo model: what it holds, and that it is the same everywhere."""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from qxmix.demo import make_demo_imatrix, make_demo_model
from qxmix.demo.numbers import heavy_tailed, uniform
from qxmix.demo.shapes import DENSE, MOE
from qxmix.demo.vocabulary import make_vocabulary

if TYPE_CHECKING:
    from pathlib import Path


def _weights_digest(path: Path) -> str:
    digest = hashlib.sha256()
    for tensor in gguf.GGUFReader(path).tensors:
        digest.update(tensor.name.encode() + bytes(tensor.data.tobytes()))
    return digest.hexdigest()[:16]


@pytest.mark.parametrize(("moe", "digest"), [(False, "20044a65ab16667d"), (True, "47fcdb80898af82f")])
def test_weights_are_the_same_on_every_machine(tmp_path: Path, digest: str, *, moe: bool) -> None:
    path = tmp_path / "demo.gguf"
    make_demo_model(path, moe=moe)
    assert _weights_digest(path) == digest


def test_other_seed_other_weights(tmp_path: Path, demo_model: Path) -> None:
    path = tmp_path / "other.gguf"
    make_demo_model(path, seed=1)
    assert _weights_digest(path) != _weights_digest(demo_model)


def test_size_and_rows(demo_model: Path, demo_moe_model: Path) -> None:
    for path, odd in ((demo_model, 448), (demo_moe_model, 192)):
        assert path.stat().st_size < 6_000_000
        widths = {int(t.shape[0]) for t in gguf.GGUFReader(path).tensors if t.n_elements > t.shape[0]}
        assert widths == {256, odd}


def test_imatrix_covers_every_block_matrix(demo_imatrix: Path, demo_moe_imatrix: Path) -> None:
    for path, shape in ((demo_imatrix, DENSE), (demo_moe_imatrix, MOE)):
        data = path.read_bytes()
        position = 4
        found = {}
        for _ in range(struct.unpack_from("<i", data)[0]):
            (n_name,) = struct.unpack_from("<i", data, position)
            name = data[position + 4 : position + 4 + n_name].decode()
            position += 4 + n_name
            n_calls, n_values = struct.unpack_from("<ii", data, position)
            values = np.frombuffer(data, "<f4", n_values, position + 8)
            position += 8 + 4 * n_values
            assert n_calls > 0
            assert np.all(values > 0)
            found[name] = n_values
        matrices = shape.block_matrices()
        assert found == {name: dims[0] * (dims[2] if len(dims) > 2 else 1) for name, dims in matrices.items()}


def test_imatrix_of_other_matrices(tmp_path: Path) -> None:
    path = tmp_path / "one.dat"
    make_demo_imatrix(path, shapes={"blk.0.ffn_down.weight": (96, 4)})
    assert struct.unpack_from("<ii", path.read_bytes()) == (1, len("blk.0.ffn_down.weight"))
    assert path.stat().st_size == 4 + 4 + 21 + 8 + 4 * 96 + 8 + len("made up by qxmix demo")


def test_numbers() -> None:
    weights = heavy_tailed(1, "a", (256, 256))
    assert weights.dtype == np.float32
    assert abs(float(weights.mean())) < 0.02
    assert 0.9 < float(weights.std()) < 1.1
    assert float((weights**4).mean()) / float(weights.var()) ** 2 > 4
    values = uniform(1, "a", 10_000)
    assert 0 <= values.min() < 0.01
    assert 0.99 < values.max() < 1
    assert not np.array_equal(values, uniform(1, "b", 10_000))


def test_vocabulary() -> None:
    vocabulary = make_vocabulary(512)
    assert len(set(vocabulary.tokens)) == len(vocabulary.scores) == len(vocabulary.types) == 512
    assert "\u2581the" in vocabulary.tokens
    assert len(set(make_vocabulary(1024).tokens)) == 1024
