"""The journal holds whole results only, and one measurement at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from qxmix.errors import RunError
from qxmix.measure.journal import key_of, open_journal

if TYPE_CHECKING:
    from pathlib import Path


def test_results_survive(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with open_journal(path) as journal:
        journal.put("a", [1.0, 0.1 + 0.2, 3e-300])
        journal.put("b", {"x": (1, 2)})
        journal.put("b", None)
    with open_journal(path) as journal:
        assert journal.get("a") == [1.0, 0.1 + 0.2, 3e-300]
        assert journal.get("b") is None
        assert journal.get("c") is None


@pytest.mark.parametrize("torn", [b'["b",[2', b'["b",[2.0]]', b"\0\0\0\0\n", b"7\n", b'["b"]\n', b"\xff\n"])
def test_what_a_crash_tore_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "j"
    with open_journal(path) as journal:
        journal.put("a", 1)
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    with open_journal(path) as journal:
        assert journal.get("a") == 1
        assert journal.get("b") is None
        assert path.read_bytes() == whole
        journal.put("c", 3)
    with open_journal(path) as journal:
        assert journal.get("c") == 3


def test_only_one_at_a_time(tmp_path: Path) -> None:
    with open_journal(tmp_path / "j"), pytest.raises(RunError, match="another measurement writes it now; wait"):
        open_journal(tmp_path / "j").__enter__()
    with open_journal(tmp_path / "j"):
        pass


def test_a_journal_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be opened: Is a directory"), open_journal(tmp_path):
        raise AssertionError


def test_keys_tell_everything_apart() -> None:
    keys = [
        key_of("a", "b"),
        key_of("ab"),
        key_of("a", b"b"),
        key_of(["a", "b"]),
        key_of("a", "b", None),
        key_of("b", "a"),
    ]
    assert len(set(keys)) == len(keys)
    assert key_of("a", b"b") == key_of("a", memoryview(b"b"))
