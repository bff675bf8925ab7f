"""Digest of what each encoder makes of fixed weights, beside the version that the codec had then.

``python -m tests.quants.versions`` writes ``versions.json`` anew, after a version was raised or a type was added.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from qxmix.quants import QUANT_TYPES, codec_of, get
from qxmix.quants.codec import SEARCHES

FILE = Path(__file__).with_suffix(".json")
INPUTS = Path(__file__).parent / "golden" / "inputs.npz"
TYPES = tuple(t.name for t in QUANT_TYPES if t.codec)
N_COLS = 256


def output_digest(name: str) -> str:
    """SHA-256 over the bytes for ordinary and extreme rows, each search, with an importance, without, with feedback."""
    quant_type, codec, digest = get(name), codec_of(name), hashlib.sha256()
    with np.load(INPUTS) as file:
        rows = np.concatenate([file["x/heavy"][:, :N_COLS], file["x/edge"][:, :N_COLS]])
        importance = file["imatrix/gamma/1024"][:N_COLS].copy()
    packed = np.zeros((len(rows), quant_type.row_nbytes(N_COLS)), np.uint8)
    for search in range(len(SEARCHES) if codec.searches else 1):
        for columns in (importance, np.empty(0, np.float32)):
            if len(columns) or quant_type.importance != "required":
                codec.encode(rows, columns, packed, search)
                digest.update(packed.tobytes())
        if codec.feedback:
            factors = np.triu(np.full((1, N_COLS, N_COLS), 1 / 64, np.float32))
            codec.feedback(rows, importance, factors, packed, search)
            digest.update(packed.tobytes())
    return digest.hexdigest()


def known() -> dict[str, tuple[int, str]]:
    """Version and digest of each type, as they were written down."""
    return {name: (version, digest) for name, (version, digest) in json.loads(FILE.read_text()).items()}


if __name__ == "__main__":
    lines = (f'  "{name}": [{codec_of(name).version}, "{output_digest(name)}"]' for name in TYPES)
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
