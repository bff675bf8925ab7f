"""``scale: auto``: the factor of each tensor's scales, found on a sample of its rows before there are tasks."""

from __future__ import annotations

from functools import partial
from itertools import groupby

from qxmix import quants
from qxmix.container.moments import SecondMoments
from qxmix.container.moments_load import read_second_moments
from qxmix.container.weights import require_weights
from qxmix.execute import stop
from qxmix.execute.sample import sample_rows
from qxmix.execute.source import Source
from qxmix.planning.model import Plan, PlannedTensor
from qxmix.planning.scales import to_find, with_factors
from qxmix.processors import n_processors
from qxmix.quants.factor import Second, best_factor, explained

N_ROWS = 64
"""Rows of a tensor that are looked at."""


def find_factors(plan: Plan, n_workers: int | None = None) -> Plan:
    """The plan with a number for each ``scale: auto``; the plan itself where there is none.

    Args:
        plan: The plan; its model's weights are read.
        n_workers: Threads; None for one per processor.

    Raises:
        ModelFileError: the model is a header alone, or has a weight that is NaN or infinite.
        RunError: a file cannot be read.

    """
    tensors = to_find(plan)
    if not tensors:
        return plan
    require_weights(plan.header)
    with stop.threads(n_workers or n_processors()) as pool:
        factors = list(pool.map(partial(_factor, plan), tensors))
    return with_factors(plan, {t.name: f for t, f in zip(tensors, factors, strict=True)})


def _factor(plan: Plan, tensor: PlannedTensor) -> float:
    info = tensor.source
    source = Source(info, plan.header.paths[info.shard], plan.imatrix, tensor.importance)
    kind, codec = quants.get(tensor.type), quants.codec_of(tensor.type)
    moments = read_second_moments(plan.moments, tensor.second) if plan.moments is not None and tensor.second else None
    parts = []
    for matrix, group in groupby(sample_rows(info, (tensor.type,), N_ROWS), lambda some: some.matrix):
        stop.step()
        x = source.decode(source.read(tuple(group)))
        columns = source.columns(matrix)
        second = None if moments is None else _second(moments, matrix)
        parts.append(explained(codec, kind.row_nbytes(info.n_cols), x, columns, second))
    return best_factor(parts)


def _second(moments: SecondMoments, matrix: int) -> Second:
    at = 0 if len(moments.correlations) == 1 else matrix
    return Second(moments.correlations[at], moments.diag[matrix], float(moments.correlation_counts[at]))
