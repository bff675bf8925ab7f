"""Every encoder writes the bytes that the reference writes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from qxmix.quants import get
from qxmix.quants.api import quantize

HERE = Path(__file__).parent / "golden"
DIGESTS: dict[str, dict[str, tuple[int, str]]] = json.loads((HERE / "digests.json").read_text())


def encodable() -> list[str]:
    return [name for name in DIGESTS if get(name).codec]


@pytest.fixture(scope="module")
def inputs() -> dict[str, np.ndarray]:
    with np.load(HERE / "inputs.npz") as file:
        return {key: file[key] for key in file}


@pytest.mark.parametrize("name", encodable())
def test_golden_bytes(name: str, inputs: dict[str, np.ndarray]) -> None:
    wrong = []
    for case, (n_rows, digest) in DIGESTS[name].items():
        source, importance = case.split("/")
        x = inputs[f"x/{source}"][:n_rows]
        imatrix = None if importance == "none" else inputs[f"imatrix/{importance}/{x.shape[1]}"]
        if hashlib.sha256(quantize(x, name, imatrix).tobytes()).hexdigest() != digest:
            wrong.append(case)
    assert not wrong
