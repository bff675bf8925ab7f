"""File systems that refuse a call: one note where it only helps, an error with call and path where it is needed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qxmix import system
from qxmix.container.header import read_header
from qxmix.errors import ModelFileError, RunError
from qxmix.execute import apply
from tests.execute.plans import f16_model, plan_for

if TYPE_CHECKING:
    from qxmix.execute import Result
    from qxmix.plan import Plan

ROOT = Path(__file__).parents[2]
UNKNOWN = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return plan_for(f16_model(tmp_path_factory.mktemp("models") / "model.gguf"), {}, default="F16")


@pytest.fixture(scope="module")
def expected(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> str:
    """SHA-256 of the output where nothing is refused, which is told by no note."""
    result = apply(plan, tmp_path_factory.mktemp("expected") / "out.gguf")
    assert not result.problems
    return sha256_of(result)


def sha256_of(result: Result) -> str:
    (path,) = result.paths
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    return hashlib.sha256(path.read_bytes()).hexdigest()


Call = Callable[..., object]


def refusing(code: int, real: Call | None = None, folders: bool | None = None) -> Call:
    """A call that is refused: always, or for folders or for files alone."""

    def call(*arguments: object, **keywords: object) -> object:
        if folders is not None:
            assert isinstance(arguments[0], int)
            if stat.S_ISDIR(os.fstat(arguments[0]).st_mode) != folders:
                assert real is not None
                return real(*arguments, **keywords)
        raise OSError(code, os.strerror(code))

    return call


def told(result: Result) -> str:
    (note,) = result.problems
    assert (note.severity, note.id, note.where) == ("note", "file-system", str(result.paths[0].parent))
    return note.text


@pytest.mark.parametrize("code", UNKNOWN)
def test_without_locks(plan: Plan, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing(code))
    result = apply(plan, tmp_path / "out.gguf")
    assert told(result) == (
        f"this file system refuses flock ({os.strerror(code)}): two applies that write one output are not kept apart"
    )
    assert sha256_of(result) == expected


def test_on_a_system_without_locks(plan: Plan, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    result = apply(plan, tmp_path / "out.gguf")
    assert told(result).startswith(f"this file system refuses flock ({os.strerror(errno.ENOSYS)}): two applies")
    assert sha256_of(result) == expected


@pytest.mark.parametrize("folders", [True, False])
@pytest.mark.parametrize("code", [*UNKNOWN, errno.ENOTSUP, errno.EACCES, errno.EISDIR])
def test_without_syncs(
    plan: Plan, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, folders: bool
) -> None:
    monkeypatch.setattr(os, "fsync", refusing(code, os.fsync, folders))
    result = apply(plan, tmp_path / "out.gguf")
    call = "fsync of a folder" if folders else "fsync"
    assert told(result).startswith(f"this file system refuses {call} ({os.strerror(code)}): only the system knows")
    assert sha256_of(result) == expected


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV, errno.EPERM])
def test_without_reservation(
    plan: Plan, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(system, "reserve", refusing(code))
    result = apply(plan, tmp_path / "out.gguf")
    assert told(result) == (
        f"this file system refuses fallocate ({os.strerror(code)}): no space is reserved, so the disk may run full in"
        " the middle"
    )
    assert sha256_of(result) == expected


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSYS, errno.EINVAL])
def test_without_truncation_a_byte_at_the_end_gives_the_length(
    plan: Plan, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(os, "ftruncate", refusing(code))
    monkeypatch.setattr(system, "reserve", lambda *_: None)
    result = apply(plan, tmp_path / "out.gguf")
    assert not result.problems
    assert sha256_of(result) == expected


def test_without_any_length_the_error_names_the_call_and_the_file(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "ftruncate", refusing(errno.EINVAL))
    monkeypatch.setattr(os, "lseek", refusing(errno.EINVAL))
    with pytest.raises(RunError, match=r"out\.gguf\.partial: ftruncate: Invalid argument"):
        apply(plan, tmp_path / "out.gguf")
    assert not list(tmp_path.iterdir())


def test_a_file_system_that_does_not_tell_its_size(
    plan: Plan, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type(shutil.disk_usage(tmp_path))
    for answer in (lambda _: usage(0, 0, 0), refusing(errno.ENOSYS)):
        monkeypatch.setattr(shutil, "disk_usage", answer)
        assert sha256_of(apply(plan, tmp_path / "out.gguf", overwrite=True)) == expected


def test_a_file_system_without_lasting_file_numbers(
    plan: Plan, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "samestat", lambda *_: False)
    assert sha256_of(apply(plan, tmp_path / "out.gguf")) == expected


def test_all_refusals_are_one_note(plan: Plan, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing(errno.ENOLCK))
    monkeypatch.setattr(os, "fsync", refusing(errno.EINVAL))
    monkeypatch.setattr(system, "reserve", refusing(errno.EOPNOTSUPP))
    result = apply(plan, tmp_path / "out.gguf")
    for call in ("flock (No locks", "fallocate (", "fsync (Invalid argument)", "fsync of a folder (Invalid argument)"):
        assert call in told(result)
    assert sha256_of(result) == expected


@pytest.mark.parametrize(
    ("module", "name", "code", "text"),
    [
        (os, "fsync", errno.EIO, r"out\.gguf\.partial: fsync: Input/output error"),
        (fcntl, "flock", errno.EIO, r"out\.gguf\.journal: flock: Input/output error"),
        (fcntl, "flock", errno.EACCES, r"out\.gguf\.journal: flock: Permission denied"),
        (fcntl, "flock", errno.EAGAIN, r"out\.gguf: another apply is writing this output now"),
        (Path, "replace", errno.EXDEV, r"out\.gguf: rename: Invalid cross-device link"),
    ],
)
def test_a_call_that_is_needed_or_fails_is_named_and_a_resume_goes_on(
    plan: Plan, expected: str, tmp_path: Path, module: object, name: str, code: int, text: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, refusing(code))
        with pytest.raises(RunError, match=text):
            apply(plan, tmp_path / "out.gguf")
    assert sha256_of(apply(plan, tmp_path / "out.gguf", resume=True)) == expected


REFUSE_ALL = """
import errno, fcntl, mmap, os, stat
def refuse(*_a, **_k): raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
fcntl.flock = os.fsync = os.fdatasync = os.statvfs = refuse
class mmap_refused(mmap.mmap):
    def __new__(cls, *_a, **_k): refuse()
mmap.mmap = mmap_refused
"""


def test_the_commands_where_everything_is_refused(plan: Plan, tmp_path: Path) -> None:
    """In a process of its own, whose Python was told to refuse before it starts."""
    (tmp_path / "sitecustomize.py").write_text(REFUSE_ALL)
    (tmp_path / "recipe.yaml").write_text("qxmix: 1\nname: r\ntarget: any\nfallback: [f16]\ndefault: f16\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    model, recipe = str(plan.header.path), str(tmp_path / "recipe.yaml")
    for arguments in (["plan", recipe, model], ["apply", recipe, model, "-o", str(tmp_path / "out.gguf")]):
        done = subprocess.run(
            [sys.executable, "-m", "qxmix", *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "Error" not in done.stderr
    assert "this file system refuses flock (Function not implemented)" in " ".join(done.stdout.split())


def test_a_model_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mapped, it would end the process with SIGBUS."""
    model = f16_model(tmp_path / "model.gguf")
    monkeypatch.setattr("qxmix.container.parse.problem_with_start", lambda path, *_: os.truncate(path, 100))
    with pytest.raises(ModelFileError, match=r"model\.gguf: became shorter while it was read"):
        read_header(model)


def test_no_error_of_the_system_is_blamed_on_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner  # noqa: PLC0415

    from qxmix.cli import main as commands  # noqa: PLC0415

    monkeypatch.setattr("qxmix.cli.recipes.command.callback", refusing(errno.ENOSYS))
    done = CliRunner().invoke(commands.main, ["recipes"])
    assert done.exit_code == 1
    assert "standard output" not in done.output
    assert "the system refused a call: Function not implemented" in done.output
