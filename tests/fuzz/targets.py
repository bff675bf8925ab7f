"""What must hold for any input: a value or a QxmixError, in little time and memory, and values that are sound."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from qxmix.container.header import read_header
from qxmix.container.imatrix import find_importance
from qxmix.container.imatrix_load import load_imatrix
from qxmix.container.model import TensorInfo
from qxmix.errors import QxmixError
from qxmix.report.inspect import imatrix_facts, imatrix_text
from tests.fuzz.checks import check_error, check_header
from tests.fuzz.commands import fuzz_command
from tests.fuzz.recipes import fuzz_recipe
from tests.fuzz.scripts import fuzz_script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def fuzz_header(data: bytes, folder: Path) -> str:
    """As a whole model, or as the first shard of a split one."""
    path = folder / "m-00001-of-00002.gguf"
    path.write_bytes(data)
    try:
        header = read_header(path)
    except QxmixError as error:
        return check_error(error)
    check_header(header, data)
    return ""


def fuzz_imatrix(data: bytes, folder: Path) -> str:
    """As an importance matrix of either format."""
    path = folder / "m.imatrix"
    path.write_bytes(data)
    try:
        imatrix = load_imatrix(path)
    except QxmixError as error:
        return check_error(error)
    assert imatrix.entries
    assert 4 * sum(v.size for v in imatrix.entries.values()) <= len(data)
    for name, values in imatrix.entries.items():
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
        assert (values >= 0).all()
        assert find_importance(imatrix, TensorInfo(name, (values.size, 2), 0, 0, 0, 0)).entry == name
    facts = imatrix_facts(imatrix)
    json.dumps(facts, allow_nan=False)
    assert imatrix_text(facts, every=True, terminal=False)
    return ""


TARGETS: dict[str, Callable[[bytes, Path], str]] = {
    "header": fuzz_header,
    "imatrix": fuzz_imatrix,
    "recipe": fuzz_recipe,
    "script": fuzz_script,
    "command": fuzz_command,
}
"""Kind of input to what takes one and a folder to write to; returns the error's text, empty if it was accepted."""
