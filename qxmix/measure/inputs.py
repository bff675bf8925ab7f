"""What an engine's rounding of inputs costs each tensor: on the text, seen in the engine.

A base in F16 is multiplied with inputs that are not rounded, so swapped tensors do not show it; files do.  On SmolLM2
with IQ6_K in all of ``ffn_down`` the divergence was 0.0017 swapped in and 0.0073 as a file; with Q6_0, for which the
engine rounds in smaller blocks, 0.0052 and 0.0057.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from qxmix.engines.session import Observed, Session
from qxmix.execute.sample import sample_rows
from qxmix.execute.source import Source
from qxmix.measure.sensitivity import Bench
from qxmix.measurement.model import MeasuredTensor

N_CHUNKS = 2
"""Chunks that are observed: a thousand tokens tell the mean of squares to a few percent."""
_N_ROWS = 1024


def with_input_errors(tensors: Sequence[MeasuredTensor], bench: Bench) -> tuple[MeasuredTensor, ...]:
    """The tensors with their ``input_errors``, in one pass of the text; as they are where no engine can be watched.

    Raises:
        RunError: the engine dies.

    """
    if bench.scorer.engine != "ik_llama.cpp" or bench.scorer.metric != "kld":
        return tuple(tensors)
    found = bench.kept("inputs", lambda: _observed(bench))
    return tuple(
        t._replace(input_errors=(found[t.name][0], found[t.name][1])) if t.name in found else t for t in tensors
    )


def _observed(bench: Bench) -> dict[str, list[float]]:
    """Tensor to its errors with blocks of 32 and of 256; those whose input the engine does not show are left out."""
    passage = bench.job.settings.passage
    assert passage is not None, "losses are of a text"
    observed = Observed("qxmix.engines.rounding:Rounder", {"names": [s.tensor.name for s in bench.job.sources]})
    with Session(
        "ik_llama.cpp", bench.job.path, n_ctx=passage.n_ctx, n_ubatch=passage.n_ubatch, n_threads=passage.n_threads,
        observed=observed,
    ) as session:  # fmt: skip
        for tokens in bench.scorer.tokens[:N_CHUNKS]:
            session.run(tokens)
        answer, payload = session.gathered()
    sources = {s.tensor.name: s for s in bench.job.sources}
    values, at, found = np.frombuffer(payload, np.float64), 0, {}
    for name, n_cols in json.loads(cast("str", answer["names"])):
        sums = values[at : at + 3 * n_cols].reshape(3, n_cols)
        at += sums.size
        # What each column's error does to the product goes with the squares of its weights.
        weighted = sums @ _energies(sources[name])
        if weighted[0] > 0:
            found[name] = [float(error / weighted[0]) for error in weighted[1:]]
    return found


def _energies(source: Source) -> NDArray[np.float64]:
    """(n_cols,) sums of squares of the weights of each column, over a sample of rows."""
    total = np.zeros(source.tensor.n_cols)
    for rows in sample_rows(source.tensor, (), _N_ROWS):
        total += np.square(source.decode(source.read([rows])), dtype=np.float64).sum(axis=0)
    return total
