"""What a recipe or a caller says about error feedback."""

from __future__ import annotations

from typing import NamedTuple

FACTORS_VERSION = 2
"""Raised with every change of what factors are made of the same moments and options."""


class Feedback(NamedTuple):
    """How second moments are made fit to be factorized."""

    damp: float = 0.01
    """Share of a span's mean square that is added to each of its columns'; more than 0, at most 1."""
    shrink: float | None = None
    """Share of the correlations, from 0 to 1, that is taken for noise; None: what the number of tokens warrants."""
