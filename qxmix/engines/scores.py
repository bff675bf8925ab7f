"""From logits to perplexity and Kullback-Leibler divergence, as ``llama-perplexity`` defines them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray


class Positions(NamedTuple):
    """Scores of some positions, one entry each; the last three are empty where there is no base."""

    nll: NDArray[np.float64]
    """Negative log-likelihood of the token that came, in nats."""
    kld: NDArray[np.float64]
    """Divergence of the base's distribution from ours, in nats."""
    p_diff: NDArray[np.float64]
    """Our probability of the token that came less the base's."""
    same_top: NDArray[np.bool_]
    """Whether both find the same token likeliest."""

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Put the scores of all ``parts`` one after the other."""
        return cls(
            np.concatenate([p.nll for p in parts]),
            np.concatenate([p.kld for p in parts]),
            np.concatenate([p.p_diff for p in parts]),
            np.concatenate([p.same_top for p in parts]),
        )


class Summary(NamedTuple):
    """Perplexity of a text; the rest compares with a base and is None where there is none."""

    n_scored: int
    """Tokens that were scored."""
    ppl: float
    ppl_error: float
    """Standard error of ``ppl``."""
    mean_kld: float | None = None
    """In nats per token, like the next three."""
    mean_kld_error: float | None = None
    """Standard error of ``mean_kld``."""
    median_kld: float | None = None
    kld_99: float | None = None
    """What 99 % of the tokens stay below."""
    same_top_percent: float | None = None
    """Tokens at which both find the same token likeliest."""
    rms_p_diff_percent: float | None = None
    """Root mean square difference in the probability of the token that came."""


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Log-probabilities (n, n_vocab) of each row of ``logits``."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


def score(
    log_probs: NDArray[np.float64], targets: NDArray[np.int32], base: NDArray[np.float64] | None = None
) -> Positions:
    """Score predictions.

    Args:
        log_probs: (n, n_vocab) log-probabilities of the model.
        targets: (n,) the token that came after each.
        base: (n, n_vocab) log-probabilities of the base at the same positions, or None.

    """
    rows = np.arange(len(targets))
    nll = -log_probs[rows, targets]
    if base is None:
        return Positions(nll, np.empty(0), np.empty(0), np.empty(0, np.bool_))
    p_base = np.exp(base)
    # Where the base's probability underflows to 0, the token adds nothing, whatever the model thinks of it.
    kld = np.einsum("ij,ij->i", p_base, base - log_probs)
    p_diff = np.exp(-nll) - p_base[rows, targets]
    return Positions(nll, kld, p_diff, log_probs.argmax(axis=1) == base.argmax(axis=1))


def summarize(positions: Positions) -> Summary:
    """Means, quantiles and standard errors over all ``positions``."""
    nll = positions.nll
    ppl = float(np.exp(nll.mean()))
    ppl_error = ppl * _standard_error(nll)
    if not positions.kld.size:
        return Summary(nll.size, ppl, ppl_error)
    return Summary(
        nll.size,
        ppl,
        ppl_error,
        float(positions.kld.mean()),
        _standard_error(positions.kld),
        float(np.median(positions.kld)),
        float(np.quantile(positions.kld, 0.99)),
        100 * float(positions.same_top.mean()),
        100 * float(np.sqrt(np.mean(positions.p_diff**2))),
    )


def _standard_error(values: NDArray[np.float64]) -> float:
    return float(values.std() / np.sqrt(max(1, values.size - 1)))
