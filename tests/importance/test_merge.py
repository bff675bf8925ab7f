"""Merging: two halves of a text are the whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qxmix.container.imatrix import Imatrix
from qxmix.container.imatrix_load import load_imatrix
from qxmix.container.imatrix_write import write_imatrix
from qxmix.errors import ModelFileError
from qxmix.importance.convert import as_chunks
from qxmix.importance.merge import merge
from tests.importance.activations import dense_tokens, measured, routed_tokens

DENSE = dense_tokens(1, 48, 8)
ROUTED = routed_tokens(2, 48, 6, [0, 2])  # expert 1 sees nothing
WHOLE = measured({"a": DENSE}, {"e": ROUTED}, 3)


def part(start: int, stop: int, text: str) -> Imatrix:
    routed = (ROUTED[0][start:stop], ROUTED[1][start:stop])
    return measured({"a": DENSE[start:stop]}, {"e": routed}, 3, text=text)


@pytest.mark.parametrize("cut", [24, 4, 44])
def test_halves_make_the_whole(cut: int) -> None:
    made = merge([part(0, cut, "x"), part(cut, 48, "y")]).imatrix
    for name, values in WHOLE.entries.items():
        np.testing.assert_allclose(made.entries[name], values, rtol=3e-7)
        assert made.counts[name].tolist() == WHOLE.counts[name].tolist()
    assert (made.n_chunks, made.datasets) == (WHOLE.n_chunks, ("x", "y"))
    assert made.entries["e"][6:12].tolist() == [1.0] * 6


def test_halves_make_the_whole_through_files_of_both_formats(tmp_path: Path) -> None:
    halves = []
    for i, half in enumerate((part(0, 24, "x"), part(24, 48, "y"))):
        write_imatrix(half, tmp_path / f"{i}.gguf")
        halves.append(load_imatrix(tmp_path / f"{i}.gguf"))
    made = merge(halves).imatrix
    for name, values in WHOLE.entries.items():
        np.testing.assert_allclose(made.entries[name], values, rtol=5e-7)
    only_dense = [replace(h, entries={"a": h.entries["a"]}, counts={"a": h.counts["a"]}) for h in halves]
    for i, half in enumerate(only_dense):
        write_imatrix(as_chunks(half), tmp_path / f"{i}.dat")
    made = merge([load_imatrix(tmp_path / f"{i}.dat") for i in range(2)]).imatrix
    np.testing.assert_allclose(made.entries["a"], WHOLE.entries["a"], rtol=5e-7)
    assert (made.counts_in, made.n_chunks, made.counts["a"].tolist()) == ("chunks", 12, [12.0])


def test_a_longer_text_weighs_more() -> None:
    long = replace(WHOLE, entries={"a": np.full(8, 1.0, np.float32)}, counts={"a": np.array([30.0], np.float32)})
    short = replace(WHOLE, entries={"a": np.full(8, 5.0, np.float32)}, counts={"a": np.array([10.0], np.float32)})
    assert merge([long, short]).imatrix.entries["a"].tolist() == [2.0] * 8


def test_what_one_lacks_is_taken_from_the_other_and_said() -> None:
    lacking = replace(WHOLE, path=Path("l.gguf"), entries={"a": WHOLE.entries["a"]}, counts={"a": WHOLE.counts["a"]})
    made = merge([WHOLE, lacking])
    assert made.imatrix.entries["e"].tolist() == WHOLE.entries["e"].tolist()
    assert made.notes == ("l.gguf has nothing for e: the other files alone decide",)


def test_a_file_without_counts_per_expert_weighs_for_each_and_is_named() -> None:
    coarse = replace(WHOLE, path=Path("c.dat"), counts={n: np.array([2.0], np.float32) for n in WHOLE.counts},
                     counts_in="chunks", chunk_size=0)  # fmt: skip
    made = merge([WHOLE, coarse], chunk_size=5)
    assert made.imatrix.counts["e"].tolist() == (WHOLE.counts["e"] + 10).tolist()
    assert len(made.notes) == 1
    assert made.notes[0].startswith("c.dat has no counts per expert")


@pytest.mark.parametrize(("size", "n_counts"), [(18, 1), (9, 1), (18, 2), (36, 6)])
def test_other_sizes_are_another_model(size: int, n_counts: int) -> None:
    other = replace(WHOLE, path=Path("o.gguf"), entries={"e": np.ones(size, np.float32)},
                    counts={"e": np.ones(n_counts, np.float32)})  # fmt: skip
    if (size, n_counts) == (18, 1):
        merge([WHOLE, other])
        return
    for pair in ([WHOLE, other], [other, WHOLE]):
        with pytest.raises(ModelFileError, match="merge matrices of the same model"):
            merge(pair)
