"""Every encoder on extreme weights and importances, every decoder on random bytes; run with ``NUMBA_BOUNDSCHECK=1``.

``NUMBA_BOUNDSCHECK=1 NUMBA_OPT=1 python -m tests.quants.bounds.sweep [TYPE...]`` prints ``TYPE seconds`` for each of
them, of all types where none is named (7 minutes of the processor, most of it compiling); an index out of bounds ends
it with its traceback, as a warning of NumPy's does, a crash with a signal.
"""

from __future__ import annotations

import sys
import time
import warnings

import numpy as np

from qxmix.quants import QUANT_TYPES, codec_of, get
from qxmix.quants.codec import SEARCHES
from qxmix.quants.feedback.spans import SPAN
from qxmix.quants.kernels.stamp import checks_bounds
from tests.quants.bounds.extremes import factors, importances, weights

SLOW = ("IQ1_KT", "IQ2_KT", "IQ3_KT", "IQ4_KT")
"""Types with a tenth of the others' speed take every fourth row."""
TELLING = ("none", "gamma", "one-tiny", "mixed")
"""The importances that the searches other than the first are given."""


def sweep_encoder(name: str) -> None:
    quant_type, codec = get(name), codec_of(name)
    n_cols = max(256, quant_type.block_size)
    rows = weights(n_cols, quant_type.row_group)
    rows = np.ascontiguousarray(rows[::4]) if name in SLOW else rows
    packed = np.empty((len(rows), quant_type.row_nbytes(n_cols)), np.uint8)
    back = np.empty_like(rows)
    for kind, columns in importances(n_cols).items():
        if kind == "none" and quant_type.importance == "required":
            continue
        for search in SEARCHES if codec.searches and kind in TELLING else SEARCHES[:1]:
            codec.encode(rows, columns, packed, SEARCHES.index(search))
            codec.decode(packed, back)


def sweep_feedback(name: str) -> None:
    """Encoders with error feedback read every second row: they differ from the others in what a column becomes."""
    quant_type, codec = get(name), codec_of(name)
    if codec.feedback is None:
        return
    rows = np.ascontiguousarray(weights(SPAN, quant_type.row_group)[::2])
    packed = np.empty((len(rows), quant_type.row_nbytes(SPAN)), np.uint8)
    columns = importances(SPAN)
    for kind in TELLING[1:]:
        for search in SEARCHES if codec.searches else SEARCHES[:1]:
            for factor in factors():
                codec.feedback(rows, columns[kind], factor, packed, SEARCHES.index(search))


def sweep_decoder(name: str) -> None:
    quant_type, codec = get(name), codec_of(name)
    n_cols = 2 * max(256, quant_type.block_size)
    shape = 40 * quant_type.row_group, quant_type.row_nbytes(n_cols)
    rows = np.empty((shape[0], n_cols), np.float32)
    for packed in (
        np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8),
        np.zeros(shape, np.uint8),
        np.full(shape, 255, np.uint8),
    ):
        codec.decode(packed, rows)


if __name__ == "__main__":
    if not checks_bounds():
        sys.exit("NUMBA_BOUNDSCHECK=1 is not set")
    warnings.simplefilter("error", RuntimeWarning)
    for each in sys.argv[1:] or [t.name for t in QUANT_TYPES if t.codec]:
        start = time.process_time()
        sweep_decoder(each)
        sweep_encoder(each)
        sweep_feedback(each)
        print(each, f"{time.process_time() - start:.1f}", flush=True)
