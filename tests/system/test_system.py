"""What differs between systems, with the other systems' calls in the place of this one's."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import threading
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from qxmix import shells, system
from qxmix.container.whole_file import whole_file
from qxmix.engines.memory import available_nbytes, memory_nbytes
from qxmix.errors import RunError
from qxmix.execute import output as files
from qxmix.execute.aids import Aids
from qxmix.quants.kernels import stamp


def module(name: str, **names: object) -> ModuleType:
    made = ModuleType(name)
    made.__dict__.update(names)
    return made


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Windows' locks, which note what they are asked; no ``fcntl``."""
    asked: list[Any] = []

    def locking(descriptor: int, mode: str, n_bytes: int) -> None:
        asked.append((mode, os.lseek(descriptor, 0, os.SEEK_CUR), n_bytes))

    locks = module("msvcrt", locking=locking, LK_NBLCK="lock", LK_UNLCK="unlock", get_osfhandle=lambda n: n)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", locks)
    monkeypatch.setattr(system, "WINDOWS", True)
    return asked


def test_a_byte_that_nobody_reads_is_locked(windows: list[Any], tmp_path: Path) -> None:
    """Windows lets nobody else read what is locked; and it takes no place beyond 2 GiB."""
    descriptor = system.open_log(tmp_path / "log")
    os.write(descriptor, b"first")
    system.lock(descriptor)
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == 5
    system.unlock(descriptor)
    ((_, at, n_bytes), _) = windows
    assert [mode for mode, *_ in windows] == ["lock", "unlock"]
    assert 1 << 30 < at < (1 << 31) - n_bytes
    os.close(descriptor)


def test_what_another_has_locked_is_told_as_on_linux(
    windows: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(sys.modules["msvcrt"], "locking", refuse)
    descriptor = system.open_log(tmp_path / "log")
    with pytest.raises(BlockingIOError):
        system.lock(descriptor)
    system.unlock(descriptor)
    os.close(descriptor)
    assert not windows
    with (
        pytest.raises(RunError, match="another apply is writing this output now"),
        files.locked(tmp_path / "o.journal", Aids()),
    ):
        pass


def test_the_kernel_sets_the_length(windows: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``ftruncate`` would write zeros there, 4 KB at a time."""
    asked: list[int] = []

    def set_end(handle: int, what: int, end: Any, nbytes: int) -> int:
        asked.append(what)
        assert nbytes == 8
        if what == 6:
            truncate(handle, end._obj.value)
        return int(taken)

    truncate, taken = os.ftruncate, True
    kernel = SimpleNamespace(kernel32=SimpleNamespace(SetFileInformationByHandle=set_end))
    monkeypatch.setattr(ctypes, "windll", kernel, raising=False)
    descriptor = system.open_new(tmp_path / "big")
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", None)
        system.set_length(descriptor, 5 << 30)
    assert os.fstat(descriptor).st_size == 5 << 30
    taken = False
    system.set_length(descriptor, 1 << 30)
    assert os.fstat(descriptor).st_size == 1 << 30
    assert asked == [6, 6]
    os.close(descriptor)
    assert not windows


def test_windows_tells_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def status(told: Any) -> int:
        assert told._obj[0] == 64, "the length of the struct, without which the call fails"
        told._obj[1], told._obj[2] = 16 << 30, 5 << 30
        return 1

    assert system.memory() is None
    kernel = SimpleNamespace(kernel32=SimpleNamespace(GlobalMemoryStatusEx=status))
    monkeypatch.setattr(ctypes, "windll", kernel, raising=False)
    assert (memory_nbytes(), available_nbytes()) == (16 << 30, 5 << 30)


def test_the_length_where_blocks_are_not_told(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1 << 20))
    told: Any = SimpleNamespace(st_size=1 << 20)
    assert system.reserved_nbytes(told) == 1 << 20 <= system.reserved_nbytes(path.stat())


def test_a_file_that_is_open_for_a_moment_is_waited_for(
    windows: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who looks for viruses has what was just written open."""
    replace, busy = os.replace, threading.Event()

    def refuse(*arguments: Any) -> None:
        if not busy.is_set():
            raise PermissionError(errno.EACCES, "Access is denied")
        replace(*arguments)

    monkeypatch.setattr(os, "replace", refuse)
    threading.Timer(0.1, busy.set).start()
    with whole_file(tmp_path / "a.json") as file:
        file.write(b"{}")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    busy.clear()
    start = time.monotonic()
    with pytest.raises(RunError, match=r"Access is denied"), whole_file(tmp_path / "a.json") as file:
        file.write(b"[]")
    assert time.monotonic() - start < 5
    assert (tmp_path / "a.json").read_bytes() == b"{}"
    assert not windows


def test_macos_is_asked_to_have_it_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There ``fsync`` returns when the disk has been told."""
    asked: list[int] = []
    monkeypatch.setattr(system, "MACOS", True)
    monkeypatch.setattr(os, "fsync", lambda descriptor: asked.append(-descriptor))
    knows = module("fcntl", fcntl=lambda _descriptor, call: asked.append(call), F_FULLFSYNC=51)
    monkeypatch.setitem(sys.modules, "fcntl", knows)
    path = tmp_path / "file"
    path.touch()
    system.sync(path)
    assert asked == [51]

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(knows, "fcntl", refuse)
    system.sync(path)
    assert len(asked) == 2
    assert asked[1] < 0, "a share of a network"


def test_where_nothing_tells_one_start_of_the_machine_from_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows knows no ``uname``, and ``/proc`` is a folder like any other."""
    with_it = stamp._processor.__wrapped__()
    monkeypatch.delattr(os, "uname")
    assert stamp._processor.__wrapped__() == with_it


def taken_apart(line: str) -> list[str]:
    """Words of a command line as a program on Windows reads them (Microsoft's rules for ``argv``)."""
    words, word, inside, at = [], "", False, 0
    while at < len(line):
        n = len(line) - at - len(line[at:].lstrip("\\"))
        if n and line[at + n : at + n + 1] == '"':
            word += "\\" * (n // 2)
            at += n
            if n % 2:
                word += '"'
                at += 1
            continue
        if n:
            word, at = word + "\\" * n, at + n
            continue
        if line[at] == '"':
            inside = not inside
        elif line[at] == " " and not inside:
            words.append(word)
            word = ""
        else:
            word += line[at]
        at += 1
    return [*words, word]


WORDS = (
    "apply", "-j", "--size=3.5", "C:\\models\\a.gguf", "C:\\my models\\a.gguf", "\\\\server\\share\\", "a folder\\", "",
    'say "no"', 'a\\"b', "a|b", "a&b", "a^b", "(a)", "a,b", "$x", "'a'", "@a", "a;b", "größe.yaml",
    r"blk\.\d+\.attn_(q|k)\.weight=q8_0",
)  # fmt: skip


def test_a_command_is_quoted_for_both_shells_of_windows(windows: list[Any]) -> None:
    assert not windows
    line = shells.command_line(WORDS)
    assert taken_apart(line) == list(WORDS)
    bare = line
    for word in WORDS:
        if shells.quoted(word) != word:
            bare = bare.replace(shells.quoted(word), "")
    assert not set("'|&^(),;$@`%<>") & set(bare), "what a shell would obey stands in quotes"
    assert shells.quoted("C:\\models\\a.gguf") == "C:\\models\\a.gguf"
    assert shells.command_lines(["a", "  -b  'c  d'", "  e"]) == "a -b  'c  d' e"


def test_a_command_is_quoted_for_other_shells() -> None:
    assert shells.command_line(["a b", "c"]) == "'a b' c"
    assert shells.command_lines(["a", "  b"]) == "a \\\n  b"
