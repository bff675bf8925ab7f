"""Importances and moments as the engine gives them, against a forward pass in NumPy."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

import qxmix.engines.calibrate as module
from qxmix.container.header import read_header
from qxmix.container.moments import SecondMoments
from qxmix.engines.calibrate import Calibration, Settings, calibrate, gathered_tensors, sweeps
from qxmix.engines.chunks import cut
from qxmix.engines.session import Session
from qxmix.errors import ModelFileError, RunError
from qxmix.quants.feedback.spans import block_sizes
from tests.engines.naive_llama import Array, NaiveLlama
from tests.running.models import TINY

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_CTX = 64
SETTINGS = Settings(n_ctx=N_CTX, first_chunk=1, n_chunks=3, n_threads=1, moments=True, output=True)
Rows = dict[tuple[str, int], Array]


def run(path: Path, text: bytes, state: Path, settings: Settings = SETTINGS, *, resume: bool = False) -> Calibration:
    return calibrate(read_header(path), text, "t.txt", state, settings, resume=resume)


def tokens_of(path: Path, text: bytes) -> NDArray[np.int32]:
    with Session("ik_llama.cpp", path, n_ctx=N_CTX, n_threads=1) as session:
        return cut([session], text, N_CTX, None).tokens


def naive_rows(path: Path, chunks: NDArray[np.int32]) -> Rows:
    rows: dict[tuple[str, int], list[Array]] = defaultdict(list)
    model = NaiveLlama(path)
    for tokens in chunks:
        for name, matrix, part in model.inputs(tokens):
            rows[name, matrix].append(part)
    return {key: np.concatenate(parts) for key, parts in rows.items()}


@pytest.fixture(scope="module", params=["dense", "moe"])
def measured(
    request: pytest.FixtureRequest, demo_model: Path, demo_moe_model: Path, demo_text: bytes,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Calibration, Rows]:  # fmt: skip
    path = demo_model if request.param == "dense" else demo_moe_model
    done = run(path, demo_text, tmp_path_factory.mktemp("calibrate") / "state")
    return path, done, naive_rows(path, tokens_of(path, demo_text)[1:4])


def unpacked(moments: SecondMoments, matrix: int, block: int) -> Array:
    """One block of correlations as a symmetric matrix."""
    sizes = block_sizes(moments.diag.shape[1])
    start = sum(n * (n - 1) // 2 for n in sizes[:block])
    n = sizes[block]
    made = np.identity(n)
    lower = np.tril_indices(n, -1)
    made[lower] = moments.correlations[matrix, start : start + n * (n - 1) // 2]
    return made + np.tril(made, -1).T


def test_mean_squares(measured: tuple[Path, Calibration, Rows]) -> None:
    _, done, rows = measured
    imatrix = done.imatrix(Path("m.gguf"))
    assert set(imatrix.entries) == {name for name, _ in rows}
    assert (imatrix.n_chunks, imatrix.chunk_size, imatrix.datasets) == (3, N_CTX, ("t.txt",))
    for name, values in imatrix.entries.items():
        counts = imatrix.counts[name]
        for matrix, mine in enumerate(values.reshape(counts.size, -1)):
            expected = rows[name, matrix]
            assert counts[matrix] == len(expected), (name, matrix)
            error = np.abs(mine / (expected**2).mean(axis=0) - 1)
            assert np.median(error) < 1e-3, (name, matrix, float(np.median(error)))


def test_correlations(measured: tuple[Path, Calibration, Rows]) -> None:
    """The experts of up and gate share the correlation of all tokens; each expert of down has its own."""
    _, done, rows = measured
    n_experts = max(matrix for _, matrix in rows) + 1
    for name, moments in done.moments().items():
        n_own = len(moments.correlations)
        assert n_own == (n_experts if "ffn_down" in name else 1)
        if n_own == 1 and len(moments.diag) > 1:
            # Every token goes to two experts, so their rows together are all tokens twice: the same correlation.
            inputs = [np.concatenate([rows[name, m] for m in range(n_experts)])]
            assert moments.correlation_counts.tolist() == [3 * N_CTX]
        else:
            inputs = [rows[name, m] for m in range(n_own)]
            assert moments.correlation_counts.tolist() == [len(i) for i in inputs]
        for matrix, mine in enumerate(inputs):
            for block, n in enumerate(block_sizes(mine.shape[1])):
                part = mine[:, 256 * block : 256 * block + n]
                products = part.T @ part
                root = np.sqrt(np.diagonal(products))
                expected = products / np.outer(root, root)
                np.testing.assert_allclose(unpacked(moments, matrix, block), expected, atol=0.01)


def test_diagonals_are_the_importances(measured: tuple[Path, Calibration, Rows]) -> None:
    _, done, _ = measured
    imatrix = done.imatrix(Path("m.gguf"))
    for name, moments in done.moments().items():
        assert moments.diag.reshape(-1).tolist() == imatrix.entries[name].tolist()
        assert moments.counts.tolist() == imatrix.counts[name].tolist()


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_joined_products_change_nothing(
    kind: str, demo_model: Path, demo_moe_model: Path, demo_text: bytes, tmp_path: Path
) -> None:
    path = demo_model if kind == "dense" else demo_moe_model
    on, off = (
        run(path, demo_text, tmp_path / str(fused), Settings(n_ctx=N_CTX, n_chunks=2, n_threads=1, fused=fused))
        for fused in (True, False)
    )
    a, b = on.imatrix(Path("a")), off.imatrix(Path("b"))
    assert list(a.entries) == list(b.entries)
    for name, values in a.entries.items():
        np.testing.assert_allclose(values, b.entries[name], rtol=1e-4)
        assert a.counts[name].tolist() == b.counts[name].tolist()


@pytest.mark.parametrize("n_at_once", [1, 2, 3])
def test_several_chunks_in_a_pass_are_the_same(
    n_at_once: int, measured: tuple[Path, Calibration, Rows], demo_text: bytes, tmp_path: Path
) -> None:
    path, done, _ = measured
    settings = Settings(
        n_ctx=N_CTX, first_chunk=1, n_chunks=3, n_threads=1, moments=True, output=True, chunks_per_pass=n_at_once
    )
    again = run(path, demo_text, tmp_path / "state", settings).imatrix(Path("m.gguf"))
    for name, values in done.imatrix(Path("m.gguf")).entries.items():
        np.testing.assert_allclose(again.entries[name], values, rtol=1e-5)
        assert again.counts[name].tolist() == done.imatrix(Path("m.gguf")).counts[name].tolist()


def test_an_interrupted_run_goes_on(
    demo_model: Path, demo_text: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(n_ctx=N_CTX, n_chunks=4, n_threads=1, chunks_per_pass=1, moments=True)
    whole = run(demo_model, demo_text, tmp_path / "whole", settings)

    class Enough(Exception):  # noqa: N818
        pass

    def stop(done: int, _total: int) -> None:
        if done == 2:
            raise Enough

    monkeypatch.setattr(module, "_KEEP_SECONDS", -1.0)
    monkeypatch.setattr(module, "_KEEP_SHARE", -1)
    with pytest.raises(Enough):
        calibrate(read_header(demo_model), demo_text, "t.txt", tmp_path / "state", settings, on_chunk=stop)
    seen: list[int] = []
    again = calibrate(
        read_header(demo_model), demo_text, "t.txt", tmp_path / "state", settings, resume=True,
        on_chunk=lambda done, _total: seen.append(done),
    )  # fmt: skip
    assert seen == [2, 3, 4]
    for name, values in whole.imatrix(Path("w")).entries.items():
        np.testing.assert_allclose(again.imatrix(Path("a")).entries[name], values, rtol=1e-6)
    other = Settings(n_ctx=N_CTX, n_chunks=3, n_threads=1, moments=True)
    with pytest.raises(RunError, match="begun with another model, text or other settings"):
        run(demo_model, demo_text, tmp_path / "state", other, resume=True)


def test_what_is_no_number_is_told_with_tensor_and_chunk(demo_model: Path, demo_text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "nan.gguf"
    data = bytearray(demo_model.read_bytes())
    norm = next(t for t in gguf.GGUFReader(demo_model).tensors if t.name == "blk.2.ffn_norm.weight")
    data[norm.data_offset + 40 : norm.data_offset + 44] = np.float32(np.nan).tobytes()
    path.write_bytes(data)
    with pytest.raises(RunError, match=r"chunk 2 of the text: the input of blk\.2\.ffn_(up|gate)\.weight .* column 10"):
        run(path, demo_text, tmp_path / "state", Settings(n_ctx=N_CTX, first_chunk=2, n_threads=1))


@pytest.mark.parametrize(("arch", "n_entries"), [("qwen3moe", 14), ("gpt-oss", 28), ("bert", 12)])
def test_every_token_counts_in_every_layer(arch: str, n_entries: int, demo_text: bytes, tmp_path: Path) -> None:
    """In encoders, too, which have no logits; experts share the tokens, two for each."""
    path = tmp_path / "tiny.gguf"
    TINY[arch].write(path)
    done = run(path, demo_text, tmp_path / "state", Settings(n_ctx=32, n_chunks=3, n_threads=1))
    imatrix = done.imatrix(Path("m.gguf"))
    assert len(imatrix.entries) == n_entries
    assert not done.unseen
    for name, counts in imatrix.counts.items():
        assert counts.sum() == (2 if "_exps" in name else 1) * 96


def test_a_chunk_beyond_the_text(demo_model: Path, demo_text: bytes, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="the text has no chunk 999"):
        run(demo_model, demo_text, tmp_path / "state", Settings(n_ctx=N_CTX, first_chunk=999, n_threads=1))


def test_sums_that_do_not_fit_are_gathered_in_sweeps(demo_moe_model: Path, demo_text: bytes, tmp_path: Path) -> None:
    """Layers stay whole: the model has two."""
    settings = Settings(n_ctx=N_CTX, n_chunks=2, n_threads=1, moments=True)
    tensors = gathered_tensors(read_header(demo_moe_model), settings)
    assert [len(part) for part in sweeps(tensors, 3 << 20)] == [7, 7]
    assert [len(part) for part in sweeps(tensors, 1)] == [7, 7]
    assert [len(part) for part in sweeps(tensors, 1 << 30)] == [14]
    once = run(demo_moe_model, demo_text, tmp_path / "once", settings)
    seen: list[tuple[int, int]] = []
    twice = calibrate(
        read_header(demo_moe_model), demo_text, "t.txt", tmp_path / "twice", replace(settings, memory_nbytes=3 << 20),
        on_chunk=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == ["once", "twice", "twice2"]
    assert seen == [(0, 4), (2, 4), (2, 4), (4, 4)]
    one, two = once.imatrix(Path("m")), twice.imatrix(Path("m"))
    assert {n: v.tolist() for n, v in one.entries.items()} == {n: v.tolist() for n, v in two.entries.items()}
    for name, moments in once.moments().items():
        assert moments.correlations.tolist() == twice.moments()[name].correlations.tolist()
    twice.state.discard()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["once"]
