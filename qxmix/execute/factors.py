"""Factors for error feedback, made once per tensor and process and read from the moments' file by its path."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from concurrent.futures import Future
from functools import lru_cache
from threading import Lock
from typing import NamedTuple

import numpy as np

from qxmix.container.moments import MomentsEntry, SecondMoments, entry_digest
from qxmix.container.moments_load import read_entry_of
from qxmix.errors import ModelFileError, RunError
from qxmix.planning.memory import FACTORS_KEPT
from qxmix.quants.codec import Columns, Factors
from qxmix.quants.feedback.correlations import make_factors
from qxmix.quants.feedback.options import Feedback
from qxmix.quants.feedback.spans import SPAN


class MomentsOf(NamedTuple):
    """Where a worker finds the second moments of one matrix; part of a task, and small."""

    path: str
    name: str
    """The entry."""
    entry: MomentsEntry
    matrix: int
    """Index of the stacked matrix."""
    sha256: str
    """Digest of the entry, as the plan was made with it."""
    options: Feedback


Ready = tuple["Columns", "Factors"]
_lock, _reading = Lock(), Lock()
_ready: OrderedDict[tuple[str, int, str, Feedback, bytes], Future[Ready]] = OrderedDict()


def factors_of(where: MomentsOf, importance: bytes) -> Ready:
    """The importance of the columns (n_cols,), the moments' own where none is given, and the factors.

    Args:
        where: The moments.
        importance: float32 of the columns, or empty.

    Raises:
        RunError: the file is another one than when the plan was made.
        ModelFileError: it cannot be read, or a span cannot be factorized.

    """
    key = where.sha256, where.matrix, where.name, where.options, hashlib.sha256(importance).digest()
    with _lock:
        future = _ready.get(key)
        mine = future is None
        if future is None:
            future = _ready[key] = Future()
            while len(_ready) > FACTORS_KEPT:
                _ready.popitem(last=False)
        _ready.move_to_end(key)
    if mine:
        try:
            future.set_result(_make(where, importance))
        except BaseException as error:
            with _lock:
                _ready.pop(key, None)
            future.set_exception(error)
            raise
    return future.result()


@lru_cache(maxsize=1)
def _checked(path: str, name: str, entry: MomentsEntry, sha256: str) -> SecondMoments:
    """An entry as it was when the plan was made; the last one is kept, since its matrices come one after the other."""
    moments = read_entry_of(path, name, entry)
    if entry_digest(moments) != sha256:
        raise RunError.at(path, f"the moments of {name} changed after the plan was made; start over with --overwrite")
    return moments


def _make(where: MomentsOf, importance: bytes) -> Ready:
    with _reading:  # an entry of many experts is large: one copy, whoever comes first
        moments = _checked(where.path, where.name, where.entry, where.sha256)
    shared = len(moments.correlations) == 1
    correlations = moments.correlations[0 if shared else where.matrix]
    n_tokens = float(moments.correlation_counts[0 if shared else where.matrix])
    # A copy, since the bytes' own buffer is read-only, which would be another type to Numba and compile once more.
    columns = np.frombuffer(importance, np.float32).copy()
    if not len(columns):
        columns = moments.diag[where.matrix].copy()
    factors, failed = make_factors(correlations, columns, n_tokens, where.options)
    if failed >= 0:
        first = SPAN * failed
        text = (
            f"the moments of columns {first} to {min(first + SPAN, len(columns)) - 1} of {where.name} are not positive"
            f" definite with damp {where.options.damp}; give 'feedback: {{damp: ...}}' a larger one"
        )
        raise ModelFileError.at(where.path, text)
    return columns, factors
