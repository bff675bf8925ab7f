"""With ``--json`` every command prints valid JSON, whatever goes wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
import jsonschema
import pytest
from click.testing import CliRunner

from qxmix.cli.imatrix import COMMANDS as OF_IMATRIX
from qxmix.cli.main import COMMANDS, main
from qxmix.errors import QxmixError
from qxmix.resources import data_dir

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = json.loads((data_dir("schemas") / "error.schema.json").read_text())


def with_json() -> list[tuple[str, ...]]:
    """The words of every command that takes ``--json``, told from its options."""
    group = main.get_command(click.Context(main), "imatrix")
    assert isinstance(group, click.Group)
    every: list[tuple[tuple[str, ...], click.Group, str]] = [((name,), main, name) for name in COMMANDS] + [
        (("imatrix", name), group, name) for name in OF_IMATRIX
    ]
    found: list[tuple[str, ...]] = []
    for words, parent, name in every:
        command = parent.get_command(click.Context(parent), name)
        assert command is not None
        if any("--json" in p.opts for p in command.params):
            found.append(words)
    return found


def problems(*words: str, code: int | None = None) -> list[dict[str, str]]:
    result = CliRunner().invoke(main, [*words, "--json"])
    assert result.exit_code == (code or result.exit_code) != 0, result.output
    found = json.loads(result.stdout)
    jsonschema.validate(found, SCHEMA)
    assert result.stderr
    told: list[dict[str, str]] = found["error"]
    return told


@pytest.mark.parametrize("words", with_json(), ids=" ".join)
def test_an_unknown_option(words: tuple[str, ...]) -> None:
    assert "--nonsense" in problems(*words, "--nonsense", code=2)[0]["text"]


NO_INPUT = {"types", "recipes", "sphere"}
"""Commands that need no file."""


@pytest.mark.parametrize("words", [w for w in with_json() if w[0] not in NO_INPUT], ids=" ".join)
def test_a_file_that_is_not_there(words: tuple[str, ...], tmp_path: Path) -> None:
    problems(*words, str(tmp_path / "no.yaml"), str(tmp_path / "no.gguf"))


def test_an_unknown_command() -> None:
    assert problems("pln", code=2)[0]["text"] == "No such command 'pln'; did you mean 'plan'?"


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (OSError(5, "Input/output error", "m.gguf"), 1, "Input/output error"),
        (MemoryError(), 1, "there is not enough memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (QxmixError("it is so"), 1, "it is so"),
    ],
)
def test_whatever_else_happens(
    error: BaseException, code: int, text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(_path: object) -> None:
        raise error

    monkeypatch.setattr("qxmix.cli.verify.open_model", fail)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert text in problems("verify", str(tmp_path / "m.gguf"), code=code)[0]["text"]
