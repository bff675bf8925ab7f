"""What is asked and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from qxmix.container.imatrix import Imatrix
from qxmix.container.model import ModelHeader
from qxmix.quants import Engine
from qxmix.quants.codec import SEARCHES, Search

TYPES = ("Q4_0", "Q5_0", "Q6_0", "Q3_K", "Q6_K", "IQ4_NL", "IQ4_XS")
"""Those of the pull request, in its order: types whose scales can be searched in more than one way."""
ORDER: tuple[Search, ...] = ("heuristic", "gradient", "exhaustive")
"""Before, the pull request, and the bound of what a search can reach; the columns of the table."""

assert set(ORDER) == set(SEARCHES)


class Case(NamedTuple):
    """One file to make."""

    type: str
    """Upper-case name."""
    search: Search


class Experiment(NamedTuple):
    """All that decides the result."""

    header: ModelHeader
    imatrix: Imatrix | None
    text: bytes
    """UTF-8."""
    cases: tuple[Case, ...]
    """Those of one type stand together."""
    engine: Engine
    n_ctx: int
    n_chunks: int | None
    """None for all whole ones."""
    n_threads: int | None
    """Threads that quantize and evaluate; None for one per processor."""
    folder: Path
    """Where files and what is done are kept."""
    keep: bool
    """Whether the files stay."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One file as it was made and evaluated."""

    type: str
    search: Search
    nbytes: int
    """Of the file."""
    bpw: float
    """Over all tensors."""
    fallbacks: dict[str, float]
    """Types that tensors fell back to, because the type's blocks do not divide their rows: the share of the weights
    for which the type was meant."""
    seconds: float
    """Wall time of the apply with compiled kernels, the wait for the disk at its end not counted."""
    ppl: float
    ppl_error: float
    """Standard error."""
    base_ppl: float
    mean_kld: float
    """Divergence from the base, nats per token."""
    mean_kld_error: float
    """Standard error over tokens."""
    same_top_percent: float
    """Tokens at which file and base find the same token likeliest."""
    n_scored: int
    """Tokens."""
