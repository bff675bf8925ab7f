"""Samples of rows: all of them, or the same scattered ones every time."""

from __future__ import annotations

import pytest

from qxmix.container.model import TensorInfo
from qxmix.execute.sample import PIECE_WEIGHTS, pieces, sample_rows


def tensor(*shape: int, type_id: int = 1) -> TensorInfo:
    return TensorInfo("blk.0.ffn_up_exps.weight", shape, type_id, 0, 0, 0)


def covered(t: TensorInfo, types: list[str], n: int | None) -> list[int]:
    return [r.matrix * t.n_rows + r.first + i for r in sample_rows(t, types, n) for i in range(r.n)]


@pytest.mark.parametrize("shape", [(64, 1), (576, 192), (256, 100, 3), (7168, 37, 5), (32, 70000)])
def test_all_rows_once_and_in_order(shape: tuple[int, ...]) -> None:
    t = tensor(*shape)
    total = t.n_rows * t.n_matrices
    assert covered(t, ["Q4_0"], None) == list(range(total))
    assert covered(t, ["Q4_0"], total) == list(range(total))


@pytest.mark.parametrize("n", [1, 100, 1024])
@pytest.mark.parametrize("shape", [(576, 49152), (7168, 2048, 256), (256, 4096)])
def test_a_sample_is_of_the_size_asked_and_spread(shape: tuple[int, ...], n: int) -> None:
    t = tensor(*shape)
    rows = covered(t, ["Q4_0"], n)
    assert rows == sorted(set(rows))
    assert rows == covered(t, ["Q4_0"], n)
    group = sample_rows(t, ["Q4_0"], n)[0].n
    assert min(n, group) <= len(rows) <= max(n, group)
    if n == 1024:
        total = t.n_rows * t.n_matrices
        n_strata = len(rows) // group
        # nothing larger than two strata is left unseen
        gaps = [b - a for a, b in zip([0, *rows], [*rows, total], strict=True)]
        assert max(gaps) <= 2 * total / n_strata + group


def test_a_sample_does_not_see_one_row_of_every_head() -> None:
    rows = covered(tensor(4096, 4096), ["Q4_0"], 256)
    assert len({row % 128 // 16 for row in rows}) == 8


def test_interleaved_types_get_whole_groups() -> None:
    t = tensor(256, 4096)
    for n in (100, None):
        for rows in sample_rows(t, ["Q4_0_R8", "BF16_R16"], n):
            assert rows.first % 16 == rows.n % 16 == 0


def test_pieces_are_bounded_and_complete() -> None:
    rows = sample_rows(tensor(7168, 2048, 8), ["Q4_0"], None)
    cut = list(pieces(rows, 7168))
    assert [r for piece in cut for r in piece] == list(rows)
    for piece in cut[:-1]:
        assert PIECE_WEIGHTS <= sum(r.n for r in piece) * 7168 < PIECE_WEIGHTS + 7168 * piece[-1].n
