"""Names that are one file, and ends of processes and pipes, as other systems have them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qxmix import Options, RunError, apply_all, load_recipe, make_plan, read_header, system
from qxmix.engines import library, session
from qxmix.execute.death import how_it_ended
from qxmix.execute.workers import open_pool


def no_case(first: Path, second: Path) -> bool:
    """As ``samefile`` answers where a folder knows no case."""
    return str(first).casefold() == str(second).casefold()


def test_names_that_differ_in_case_alone_are_one_file_where_the_folder_knows_none(
    demo_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both outputs would be written into one, and each apply would find it right until the other wrote."""
    header = read_header(demo_model)
    plans = []
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(f"qxmix: 1\ntarget: any\nfallback: [f16]\ndefault: f16\nname: {name}\n")
        plans.append(make_plan(load_recipe(tmp_path / f"{name}.yaml"), header))
    names = ("Große.gguf", "GROSSE.gguf")
    outputs = [(plan, tmp_path / name) for plan, name in zip(plans, names, strict=True)]
    with monkeypatch.context() as fat:
        fat.setattr(Path, "samefile", no_case)
        with pytest.raises(RunError, match="would be written by two recipes"):
            apply_all(outputs, Options())
    assert len(list(tmp_path.iterdir())) == 2
    if system.LINUX:
        apply_all(outputs, Options())
        assert {path.name for path in tmp_path.glob("*.gguf")} == set(names)


def test_a_folder_that_is_not_there_or_is_empty_is_as_the_one_above_or_as_usual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "no" / "such"):
        with monkeypatch.context() as fat:
            fat.setattr(Path, "samefile", no_case)
            assert system.folds_case(folder)
            assert system.name_key(folder / "e\u0301.gguf") == system.name_key(folder / "\u00c9.gguf")
        if system.LINUX:
            assert not system.folds_case(folder)
            assert system.name_key(folder / "A") != system.name_key(folder / "a")
    with monkeypatch.context() as unknown:
        unknown.setattr("os.scandir", lambda _: (_ for _ in ()).throw(PermissionError()))
        for usual in (True, False):
            unknown.setattr(system, "WINDOWS", usual)
            assert system.folds_case(tmp_path) == (usual or system.MACOS)


def test_an_executor_has_no_more_processes_than_windows_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "MAX_PROCESSES", 61)
    with open_pool("processes", 100) as pool:
        assert pool.n_workers == 61
        assert pool.executor._max_workers == 61  # type: ignore[attr-defined]
    with open_pool("processes", 2) as pool:
        assert pool.n_workers == 2


def test_why_windows_ended_a_process() -> None:
    assert how_it_ended(0xC0000005).text == "ended with exit code 3221225477 (access violation)"
    assert how_it_ended(3).text == "ended with exit code 3"


def test_a_pipe_that_nobody_reads_is_another_error_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """``BrokenPipeError`` on Linux, ``[Errno 22] Invalid argument`` on Windows."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(session, "library_path", lambda _: Path())
    monkeypatch.setattr(session, "send", refuse)
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **files: popen([command[0], "-c", "exit(3)"], **files))
    with (
        session.EngineProcess("ik_llama.cpp") as engine,
        pytest.raises(RunError, match=r"ik_llama.cpp ended with exit code 3: it said nothing"),
    ):
        engine.request({"op": "facts"})


def test_a_pager_that_is_closed_is_no_error_there() -> None:
    """``qxmix types | more``, and ``q``: an error of its own, for which that of a full disk stands here."""
    code = "import sys; from qxmix import system; {}; from qxmix.cli.main import main; main(['types'])"
    for told, change in (("Error: standard output cannot be written", "pass"), ("", "system.PIPE_ENDED.add(28)")):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-c", code.format(change)], stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert done.returncode == 1
        assert done.stderr.startswith(told)
        assert bool(done.stderr) == bool(told)


def test_functions_of_libraries_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A DLL does not show what those have that it uses: ``ggml_type_name`` is in ``ggml.dll``."""
    every = {*library._SIGNATURES, *library._OWN_SIGNATURES["ik_llama.cpp"]}
    shown = {"llama.dll": {n for n in every if n.startswith("llama")}, "ggml.dll": {n for n in every if "ggml" in n}}
    for name in (*shown, "other.dll"):
        (tmp_path / name).touch()

    def load(path: str) -> Any:
        return SimpleNamespace(**{name: SimpleNamespace(of=Path(path).name) for name in shown[Path(path).name]})

    monkeypatch.setattr(library, "library_path", lambda _: tmp_path / "llama.dll")
    monkeypatch.setattr(library, "CDLL", load)
    found: Any = library.open_library("ik_llama.cpp")
    assert found.ggml_type_name.of == "ggml.dll"
    assert found.llama_decode.of == "llama.dll"
    shown["ggml.dll"].remove("ggml_type_name")
    with pytest.raises(RunError, match=r"ik_llama.cpp cannot be used: .*ggml_type_name"):
        library.open_library("ik_llama.cpp")


def test_an_engine_that_shows_no_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other version of xllamacpp for Windows does."""
    monkeypatch.setattr(library, "library_path", lambda _: tmp_path / "xllamacpp.pyd")
    monkeypatch.setattr(library, "CDLL", lambda _: SimpleNamespace())
    monkeypatch.setattr(system, "WINDOWS", True)
    with pytest.raises(RunError, match=r"^llama.cpp cannot be used: on Windows xllamacpp shows none"):
        library.open_library("llama.cpp")


def test_a_root_is_no_output(demo_model: Path) -> None:
    """Nor NUL on Windows, which is a root without a name, too."""
    plan = make_plan(load_recipe("pure/q8_0"), read_header(demo_model))
    with pytest.raises(RunError, match=r"^/: is a folder; give the name of a file"):
        apply_all([(plan, "/")], Options())


def test_a_lock_that_another_has_by_whatever_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    descriptor = system.open_log(tmp_path / "log")
    monkeypatch.setitem(sys.modules, "fcntl", None)
    codes = iter([0, errno.EACCES, errno.EDEADLK, errno.EINVAL])

    def refuse(*_: object) -> None:
        raise OSError(next(codes), "Error")

    monkeypatch.setattr(system, "_lock_byte", refuse)
    for _ in range(3):
        with pytest.raises(BlockingIOError):
            system.lock(descriptor)
    with pytest.raises(OSError, match="Error") as told:
        system.lock(descriptor)
    assert told.value.errno == errno.EINVAL
    os.close(descriptor)
