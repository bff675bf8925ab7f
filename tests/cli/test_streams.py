"""Where commands write what they make."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from qxmix.cli.streams import write_text
from qxmix.errors import RunError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_text_goes_to_the_file_or_to_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_text("qxmix: 1\n", tmp_path / "r.yaml")
    assert (tmp_path / "r.yaml").read_text() == "qxmix: 1\n"
    write_text("no newline", None)
    assert capsys.readouterr().out == "no newline"
    with pytest.raises(RunError, match=r"r.yaml/r.yaml: cannot be written: Not a directory"):
        write_text("x", tmp_path / "r.yaml" / "r.yaml")
