"""Split models: all shards or none, in order, of one model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from qxmix.container.header import read_header
from qxmix.errors import ModelFileError
from tests.gguf_bytes import gguf, small_model, text_field

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def write_split(folder: Path, splits: Sequence[tuple[int, int, int]], names: Sequence[Sequence[str]]) -> list[Path]:
    paths = [folder / f"m-{i + 1:05d}-of-{len(splits):05d}.gguf" for i in range(len(splits))]
    for path, split, tensors in zip(paths, splits, names, strict=True):
        path.write_bytes(small_model(split=split, names=tensors))
    return paths


def test_all_shards_are_read(tmp_path: Path) -> None:
    paths = write_split(tmp_path, [(0, 3, 4), (1, 3, 4), (2, 3, 4)], [("a",), ("b", "c"), ("d",)])
    header = read_header(paths[0])
    assert header.paths == tuple(paths)
    assert header.file_nbytes == tuple(p.stat().st_size for p in paths)
    assert [(t.name, t.shard) for t in header.tensors] == [("a", 0), ("b", 1), ("c", 1), ("d", 2)]
    for tensor in header.tensors:
        assert tensor.offset + tensor.nbytes <= header.file_nbytes[tensor.shard]


def test_a_split_of_one_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "any-name.gguf"
    path.write_bytes(small_model(split=(0, 1, 1)))
    assert read_header(path).paths == (path,)


def test_a_first_shard_may_hold_no_tensors(tmp_path: Path) -> None:
    paths = write_split(tmp_path, [(0, 2, 1), (1, 2, 1)], [(), ("a",)])
    assert [t.shard for t in read_header(paths[0]).tensors] == [1]


def test_a_later_shard_is_told_which_to_give(tmp_path: Path) -> None:
    paths = write_split(tmp_path, [(0, 2, 2), (1, 2, 2)], [("a",), ("b",)])
    with pytest.raises(ModelFileError, match=r"is shard 2 of 2; give the first, 'm-00001-of-00002.gguf'$"):
        read_header(paths[1])
    paths[0].unlink()
    with pytest.raises(ModelFileError, match=r"give the first, 'm-00001-of-00002.gguf' \(it is missing here\)"):
        read_header(paths[1])


def test_missing_shards_are_listed(tmp_path: Path) -> None:
    paths = write_split(tmp_path, [(i, 7, 7) for i in range(7)], [(str(i),) for i in range(7)])
    for path in paths[2:]:
        path.unlink()
    text = r"first of 7 shards, and 'm-00003-of-00007.gguf', .*'m-00005-of-00007.gguf' and 2 more missing beside it"
    with pytest.raises(ModelFileError, match=text):
        read_header(paths[0])


WRONG = {
    "same tensor twice": (
        [(0, 2, 2), (1, 2, 2)],
        [("a",), ("a",)],
        r"has the tensor 'a', and so has 'm-00001-of-00002",
    ),
    "too few tensors": ([(0, 2, 9), (1, 2, 9)], [("a",), ("b",)], r"the 2 shards hold 9 tensors, and they hold 2"),
    "wrong number": ([(0, 2, 2), (0, 2, 2)], [("a",), ("b",)], r"should be shard 2 of 2 .* split.no 0, split.count 2"),
    "wrong count": ([(0, 2, 2), (1, 3, 2)], [("a",), ("b",)], r"should be shard 2 of 2 .* split.no 1, split.count 3"),
    "name and count differ": ([(0, 3, 2), (1, 3, 2)], [("a",), ("b",)], r"says it is shard 1 of 3 but is not named so"),
    "negative total": ([(0, 2, -1), (1, 2, -1)], [("a",), ("b",)], r"split.tensors.count is no count but '-1'"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_shards_that_do_not_belong_together(kind: str, tmp_path: Path) -> None:
    splits, names, text = WRONG[kind]
    paths = write_split(tmp_path, splits, names)
    with pytest.raises(ModelFileError, match=text):
        read_header(paths[0])


def test_a_shard_without_split_keys(tmp_path: Path) -> None:
    paths = write_split(tmp_path, [(0, 2, 2), (1, 2, 2)], [("a",), ("b",)])
    paths[1].write_bytes(small_model(names=("b",)))
    with pytest.raises(ModelFileError, match=r"00002.gguf: should be shard 2 of 2 by its name, and says split.no -1"):
        read_header(paths[0])


def test_split_keys_of_the_wrong_type(tmp_path: Path) -> None:
    path = tmp_path / "m-00001-of-00002.gguf"
    path.write_bytes(gguf([text_field("split.count", "two")]))
    with pytest.raises(ModelFileError, match=r"split.count is no count but 'two'"):
        read_header(path)


def test_a_damaged_later_shard_is_named(tmp_path: Path) -> None:
    paths = write_split(tmp_path, [(0, 2, 2), (1, 2, 2)], [("a",), ("b",)])
    paths[1].write_bytes(paths[1].read_bytes()[:-40])
    with pytest.raises(ModelFileError, match=r"m-00002-of-00002.gguf: is cut off: tensor 'b'"):
        read_header(paths[0])
