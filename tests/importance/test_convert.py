"""Between the formats: what is kept, what is lost and said."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from qxmix.container.imatrix import Imatrix
from qxmix.container.imatrix_load import load_imatrix
from qxmix.container.imatrix_write import write_imatrix
from qxmix.errors import RunError
from qxmix.importance.convert import converted, losses
from tests.container.naive_imatrix import read_dat
from tests.importance.activations import dense_tokens, measured, routed_tokens

if TYPE_CHECKING:
    from pathlib import Path

MATRIX = measured({"a": dense_tokens(1, 20, 8)}, {"e": routed_tokens(2, 20, 6, [0, 2])}, 3, chunk_size=8)


def test_gguf_as_the_package_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_imatrix(MATRIX, path)
    reader = gguf.GGUFReader(path)
    tensors = {t.name: t for t in reader.tensors}
    assert list(tensors) == ["a.in_sum2", "a.counts", "e.in_sum2", "e.counts"]
    assert tensors["e.in_sum2"].shape.tolist() == [6, 3]
    assert tensors["e.counts"].shape.tolist() == [1, 3]
    assert tensors["e.counts"].data.reshape(-1).tolist() == MATRIX.counts["e"].tolist()
    sums = MATRIX.entries["e"].reshape(3, 6).astype(np.float64) * MATRIX.counts["e"][:, None]
    np.testing.assert_allclose(tensors["e.in_sum2"].data, sums, rtol=1e-7)
    assert tensors["e.in_sum2"].data[1].tolist() == [0.0] * 6
    contents = {key: reader.fields[key].contents() for key in reader.fields if "." in key and "GGUF" not in key}
    assert contents == {
        "general.type": "imatrix", "imatrix.datasets": ["t.txt"], "imatrix.chunk_count": 2, "imatrix.chunk_size": 8
    }  # fmt: skip


def test_gguf_and_back(tmp_path: Path) -> None:
    write_imatrix(MATRIX, tmp_path / "m.gguf")
    again = load_imatrix(tmp_path / "m.gguf")
    for name, values in MATRIX.entries.items():
        np.testing.assert_allclose(again.entries[name], values, rtol=2e-7)
        assert again.counts[name].tolist() == MATRIX.counts[name].tolist()
    assert (again.datasets, again.n_chunks, again.chunk_size) == (("t.txt",), 2, 8)
    assert again.counts_in == "tokens"


def test_dat_as_the_slow_reader_reads_it(tmp_path: Path) -> None:
    write_imatrix(converted(MATRIX, "dat"), tmp_path / "m.dat")
    entries, n_chunks, dataset = read_dat(tmp_path / "m.dat")
    assert (n_chunks, dataset) == (2, "t.txt")
    for name, values in MATRIX.entries.items():
        np.testing.assert_allclose(entries[name], values, rtol=2e-7)
    assert load_imatrix(tmp_path / "m.dat").counts["a"].tolist() == [3.0]  # 20 tokens in chunks of 8


def test_what_a_dat_loses_is_said() -> None:
    two_texts = replace(MATRIX, datasets=("x", "y"))
    first, *rest = losses(two_texts, "dat")
    assert first.startswith("a .dat has no counts per expert: those of 1 tensors are lost, and that 1 of them saw noth")
    assert rest == [
        "a .dat names one text: 1 more are lost",
        "a .dat counts in chunks: tokens per chunk are lost",
    ]
    assert list(losses(MATRIX, "gguf")) == []
    legacy = converted(MATRIX, "dat")
    assert list(losses(legacy, "dat")) == []
    assert "taken as 8 tokens per chunk" in next(iter(losses(legacy, "gguf")))
    assert "taken as 64 tokens per chunk" in next(iter(losses(replace(legacy, chunk_size=0), "gguf", 64)))


def test_a_dat_without_datasets(tmp_path: Path) -> None:
    write_imatrix(replace(converted(MATRIX, "dat"), datasets=()), tmp_path / "m.dat")
    assert load_imatrix(tmp_path / "m.dat").datasets == ()


@pytest.mark.parametrize(("suffix", "n_chunks", "count"), [
    (".dat", 1 << 31, 1.0), (".dat", 1, float(1 << 40)), (".dat", 1, 3e38), (".gguf", 1 << 32, 1.0),
    (".gguf", 1, 3e38),
])  # fmt: skip
def test_what_the_format_cannot_hold_is_refused(suffix: str, n_chunks: int, count: float, tmp_path: Path) -> None:
    values, counts = {"a": np.full(1, 2.0, np.float32)}, {"a": np.full(1, count, np.float32)}
    matrix = Imatrix(tmp_path / "m", "", values, (), n_chunks, counts, "chunks" if suffix == ".dat" else "tokens")
    with pytest.raises(RunError, match=r"and can be at most 2,147,483,647|cannot hold|more than a float32 holds"):
        write_imatrix(matrix, tmp_path / f"o{suffix}")
    assert not list(tmp_path.iterdir())


def test_an_unknown_suffix_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"name it \.gguf .* or \.dat"):
        write_imatrix(MATRIX, tmp_path / "m.bin")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_imatrix(MATRIX, path)
    before = path.read_bytes()
    broken = Imatrix(path, "", MATRIX.entries, (), 0, {"a": MATRIX.counts["a"]}, "tokens", 8)
    with pytest.raises(KeyError):
        write_imatrix(broken, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
