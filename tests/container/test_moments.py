"""Moments files: what is written is read again, and what is wrong is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from gguf import GGUFReader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qxmix.container import moments_check
from qxmix.container.header import read_header
from qxmix.container.imatrix_load import load_imatrix
from qxmix.container.moments import SecondMoments
from qxmix.container.moments_load import load_moments, read_second_moments, save_moments
from qxmix.errors import ModelFileError
from qxmix.quants.feedback.correlations import pack_correlations
from qxmix.quants.feedback.spans import block_sizes, packed_size
from tests.gguf_bytes import gguf, text_field, u32_field

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

NAME = "blk.0.ffn_down.weight"


def sums_of(inputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n_blocks, 256, 256) sums of products of inputs (n_tokens, n_cols)."""
    sizes = block_sizes(inputs.shape[1])
    sums = np.zeros((len(sizes), 256, 256))
    for b, n in enumerate(sizes):
        part = inputs[:, 256 * b : 256 * b + n]
        sums[b, :n, :n] = part.T @ part
    return sums


def moments_of(n_cols: int, n_matrices: int = 1, *, shared: bool = True, seed: int = 0) -> SecondMoments:
    rng = np.random.default_rng(seed)
    n_tokens = 40
    inputs = rng.standard_normal((n_matrices, n_tokens, n_cols)) @ (
        np.identity(n_cols) + rng.standard_normal((n_cols, n_cols)) / np.sqrt(n_cols)
    )
    n_correlations = 1 if shared else n_matrices
    return SecondMoments(
        (inputs**2).mean(1, dtype="f8").astype("f4"),
        np.full(n_matrices, n_tokens, "f4"),
        np.stack([pack_correlations(sums_of(inputs[i]), n_cols) for i in range(n_correlations)]),
        np.full(n_correlations, n_tokens, "f4"),
    )


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(2, 700), st.integers(1, 3), st.booleans())
def test_what_is_saved_is_loaded(tmp_path: Path, n_cols: int, n_matrices: int, shared: bool) -> None:
    path, made = tmp_path / "m.gguf", moments_of(n_cols, n_matrices, shared=shared, seed=n_cols)
    save_moments(path, {NAME: made, "a.weight": moments_of(32)}, datasets=("a.txt", "b"), n_chunks=3, chunk_size=512)
    moments = load_moments(path)
    assert (moments.datasets, moments.n_chunks, moments.chunk_size) == (("a.txt", "b"), 3, 512)
    assert list(moments.entries) == [NAME, "a.weight"]
    entry = moments.entries[NAME]
    assert (entry.n_cols, entry.n_matrices) == (n_cols, n_matrices)
    found = read_second_moments(moments, NAME)
    for part in ("diag", "counts", "correlations", "correlation_counts"):
        np.testing.assert_array_equal(getattr(found, part), getattr(made, part))
    assert not list(tmp_path.glob("*.partial"))


def test_the_layout_is_the_documented_one(tmp_path: Path) -> None:
    """The gguf package reads it, and the packing is the strict lower triangle of each block, row by row."""
    path, inputs = tmp_path / "m.gguf", np.random.default_rng(1).standard_normal((500, 259))
    corr = pack_correlations(sums_of(inputs), 259)
    one = np.full(1, 500, "f4")
    save_moments(path, {NAME: SecondMoments((inputs**2).mean(0)[None].astype("f4"), one, corr[None], one)})
    tensors = {t.name: t for t in GGUFReader(path).tensors}
    assert {n.removeprefix(NAME): tuple(map(int, t.shape)) for n, t in tensors.items()} == {
        ".diag": (259, 1), ".counts": (1, 1), ".corr": (packed_size(259), 1), ".corr_counts": (1, 1)}  # fmt: skip
    assert packed_size(259) == 255 * 128 + 3
    expected: NDArray[np.float64] = np.asarray(
        np.corrcoef(inputs.T)
    )  # the means are near zero, so that the two kinds of correlation nearly agree
    stored = tensors[NAME + ".corr"].data.reshape(-1)
    for at, (i, j) in {0: (1, 0), 1: (2, 0), 2: (2, 1), 5: (3, 2), 32639: (255, 254), 32642: (258, 257)}.items():
        assert abs(stored[at] - expected[i, j]) < 0.02


def test_a_column_that_is_always_zero_is_correlated_with_nothing() -> None:
    inputs = np.random.default_rng(2).standard_normal((50, 4))
    inputs[:, 1] = 0
    corr = pack_correlations(sums_of(inputs), 4)
    assert corr[[0, 2, 4]].tolist() == [0, 0, 0]
    assert np.isfinite(corr).all()


def test_identity_follows_the_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        save_moments(tmp_path / name, {NAME: moments_of(64, seed=seed)})
    a, b, c = (load_moments(tmp_path / n).sha256 for n in "abc")
    assert a == b != c


NAN, BIG = np.float32("nan"), np.float16(1.001)
DIFFERENT: dict[str, tuple[Callable[[SecondMoments], SecondMoments], str]] = {
    "diag NaN": (
        lambda m: m._replace(diag=np.where(np.arange(40) == 7, NAN, m.diag)),
        r"value 0, 7 of 'blk.0.ffn_down.weight.diag' is nan, no finite number of 0 or more; make the moments again",
    ),
    "count negative": (
        lambda m: m._replace(counts=-m.counts), r"value 0 of 'blk.0.ffn_down.weight.counts' is -40.0, no finite"),
    "correlation above 1": (
        lambda m: m._replace(correlations=np.where(np.arange(780) == 5, BIG, m.correlations)),
        r"value 0, 5 of 'blk.0.ffn_down.weight.corr' is 1.00\d+, no correlation from -1 to 1"),
    "correlation NaN": (
        lambda m: m._replace(correlations=np.where(np.arange(780) == 5, np.float16("nan"), m.correlations)),
        r"value 0, 5 of 'blk.0.ffn_down.weight.corr' is nan, no correlation"),
    "not positive definite": (
        lambda m: m._replace(correlations=np.full((1, 780), -0.9, np.float16)),
        r"the correlations of columns 0 to 39 of 'blk.0.ffn_down.weight' \(matrix 0\) are no correlations of anything"),
    "of another width": (
        lambda m: m._replace(diag=m.diag[:, :30]), r"which do not agree with a diag of \(1, 30\)"),
}  # fmt: skip


@pytest.mark.parametrize("what", DIFFERENT)
def test_bad_values_are_told_by_name_and_nothing_is_written(tmp_path: Path, what: str) -> None:
    change, text = DIFFERENT[what]
    with pytest.raises(ModelFileError, match=text):
        save_moments(tmp_path / "m.gguf", {NAME: change(moments_of(40))})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("what", [w for w in DIFFERENT if w != "of another width"])
def test_bad_values_in_a_file_are_told_when_it_is_loaded(tmp_path: Path, what: str) -> None:
    change, text = DIFFERENT[what]
    path, good = tmp_path / "m.gguf", moments_of(40)
    save_moments(path, {NAME: good})
    data = path.read_bytes()
    bad: SecondMoments = change(good)
    for part in ("diag", "counts", "correlations"):
        data = data.replace(
            getattr(good, part).tobytes(), getattr(bad, part).astype(getattr(good, part).dtype).tobytes()
        )
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=text):
        load_moments(path)


@pytest.mark.parametrize("wide", [0, 1], ids=["all waits", "nothing waits"])
def test_a_block_among_many_is_told_by_its_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wide: int) -> None:
    """Blocks are looked at eight at a time, and once where tensors have the same."""
    monkeypatch.setattr(moments_check, "_WAITING_NBYTES", 1 if wide else 1 << 30)
    n_cols = 256 * 10 + 40
    one = np.ones(1, np.float32)
    good = SecondMoments(np.ones((1, n_cols), np.float32), one, np.zeros((1, packed_size(n_cols)), np.float16), one)
    bad = np.zeros((1, packed_size(n_cols)), np.float16)
    bad[0, 9 * 32640 : 9 * 32640 + 3] = -0.9  # of three columns each goes against both others
    save_moments(tmp_path / "m.gguf", dict.fromkeys("abc", good))
    text = r"the correlations of columns 2304 to 2559 of 'b' \(matrix 0\) are no correlations of anything"
    spoilt = good._replace(correlations=bad)
    for entries in ({"a": good, "b": spoilt}, {"a": good, "b": spoilt, "c": spoilt}):
        with pytest.raises(ModelFileError, match=text):
            save_moments(tmp_path / "n.gguf", entries)
    bad[:] = 0
    bad[0, -40 * 39 // 2 :][:3] = -0.9
    with pytest.raises(ModelFileError, match="columns 2560 to 2599 of 'b'"):
        save_moments(tmp_path / "n.gguf", {"a": good, "b": spoilt})
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]


@pytest.mark.parametrize("n", [2, 3, 64, 65, 200, 256, 300])
def test_blocks_are_refused_from_the_damp_on(tmp_path: Path, n: int) -> None:
    """All columns but one against that one: the least eigenvalue is 1 - c sqrt(n - 1)."""
    one, where = np.ones(1, np.float32), min(n, 256)
    limit = 1.01 / np.sqrt(where - 1)
    for share, fits in ((0.998, True), (1.002, False)):
        corr = np.zeros((1, packed_size(n)), np.float16)
        rows = np.arange(1, where)
        corr[0, rows * (rows - 1) // 2] = min(share * limit, 1)
        made = SecondMoments(np.ones((1, n), np.float32), one, corr, one)
        if fits or n == 2:  # two columns are at most the same
            save_moments(tmp_path / "m.gguf", {NAME: made})
        else:
            with pytest.raises(ModelFileError, match="cannot be factorized"):
                save_moments(tmp_path / "m.gguf", {NAME: made})


def test_files_that_are_something_else(tmp_path: Path, demo_imatrix: Path) -> None:
    with pytest.raises(
        ModelFileError, match=r"is no moments file: it is no GGUF file; give the file that `qxmix imatri"
    ):
        load_moments(demo_imatrix)
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf([text_field("general.architecture", "llama")]))
    with pytest.raises(ModelFileError, match="is a model but no moments file"):
        load_moments(path)
    path.write_bytes(gguf([text_field("general.type", "moments"), u32_field("moments.block_size", 128)]))
    with pytest.raises(ModelFileError, match=r"moments\.block_size is 128 and qxmix reads blocks of 256 columns"):
        load_moments(path)
    path.write_bytes(gguf([text_field("general.type", "moments"), u32_field("moments.block_size", 256)]))
    with pytest.raises(ModelFileError, match=r"has no entry: no tensor is named \*.diag"):
        load_moments(path)
    path.rename(tmp_path / "moment.gguf")
    with pytest.raises(ModelFileError, match=r"no such file; did you mean 'moment.gguf'\?"):
        load_moments(tmp_path / "moments.gguf")


def test_cut_off_and_damaged(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    save_moments(path, {NAME: moments_of(300)})
    data = path.read_bytes()
    path.write_bytes(data[:-40000])
    with pytest.raises(ModelFileError, match="is cut off"):
        load_moments(path)
    path.write_bytes(data.replace(b".corr_counts", b".korr_counts"))
    with pytest.raises(ModelFileError, match=r"has 'blk.0.ffn_down.weight' without its .corr_counts"):
        load_moments(path)


def test_moments_given_as_something_else(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    save_moments(path, {NAME: moments_of(40)})
    with pytest.raises(ModelFileError, match="is a file of second moments, not a model; give it as --moments"):
        read_header(path)
    with pytest.raises(
        ModelFileError, match="is a file of second moments, not an importance matrix; give it as --moment"
    ):
        load_imatrix(path)


@pytest.mark.parametrize("nbytes", [0, 4, 300, -1000])
def test_a_damaged_one_is_made_again(tmp_path: Path, nbytes: int) -> None:
    """No download has it, and nothing converts it."""
    path = tmp_path / "m.gguf"
    save_moments(path, {"blk.0.attn_q.weight": moments_of(300, 8)})
    path.write_bytes(path.read_bytes()[:nbytes])
    with pytest.raises(ModelFileError, match="again with 'qxmix imatrix make --moments'") as caught:
        load_moments(path)
    assert "download" not in str(caught.value)
