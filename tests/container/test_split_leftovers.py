"""Split models that were joined, renamed or cached: what the errors advise works when it is done."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from qxmix.container.fields import make_field
from qxmix.container.gguf_format import ValueType
from qxmix.container.header import read_header
from qxmix.container.output_metadata import output_metadata
from qxmix.errors import ModelFileError
from tests.gguf_bytes import small_model

if TYPE_CHECKING:
    from pathlib import Path

FIRST, SECOND = small_model(split=(0, 2, 2), names=["a.weight"]), small_model(split=(1, 2, 2), names=["b.weight"])


def test_a_whole_file_with_the_keys_of_a_shard_is_read(tmp_path: Path) -> None:
    (tmp_path / "whole.gguf").write_bytes(small_model(split=(0, 3, 2), names=["a.weight", "b.weight"]))
    assert len(read_header(tmp_path / "whole.gguf").tensors) == 2
    (tmp_path / "w-00001-of-00003.gguf").write_bytes((tmp_path / "whole.gguf").read_bytes())
    assert len(read_header(tmp_path / "w-00001-of-00003.gguf").tensors) == 2


def test_shards_joined_with_cat(tmp_path: Path) -> None:
    (tmp_path / "cat.gguf").write_bytes(FIRST + SECOND)
    with pytest.raises(ModelFileError, match=r"joined with 'cat'.*give the first of the shards"):
        read_header(tmp_path / "cat.gguf")
    (tmp_path / "s-00001-of-00002.gguf").write_bytes(FIRST)
    (tmp_path / "s-00002-of-00002.gguf").write_bytes(SECOND)
    assert len(read_header(tmp_path / "s-00001-of-00002.gguf").tensors) == 2


def test_a_blob_of_a_cache(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for i, data in enumerate((FIRST, SECOND), 1):
        blob = blobs / hashlib.sha256(data).hexdigest()
        blob.write_bytes(data)
        (snapshot / f"M-0000{i}-of-00002.gguf").symlink_to(f"../../blobs/{blob.name}")
    first = blobs / hashlib.sha256(FIRST).hexdigest()
    with pytest.raises(ModelFileError, match="give the path under 'snapshots'"):
        read_header(first)
    assert len(read_header(snapshot / "M-00001-of-00002.gguf").tensors) == 2


def test_a_shard_of_another_name_is_to_be_renamed(tmp_path: Path) -> None:
    (tmp_path / "first.gguf").write_bytes(FIRST)
    with pytest.raises(ModelFileError, match="rename the shards to NAME-00001-of-00002"):
        read_header(tmp_path / "first.gguf")


@pytest.mark.parametrize("kind", [ValueType.UINT64, ValueType.INT32, ValueType.UINT16])
def test_an_alignment_is_written_as_the_engines_read_it(kind: ValueType) -> None:
    (field,) = (f for f in output_metadata([make_field("general.alignment", 64, kind)], None) if "align" in f.key)
    assert (field.value_type, field.value) == (ValueType.UINT32, 64)
