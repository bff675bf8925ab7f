"""An estimate of what engines need for results in between."""

from __future__ import annotations

from dataclasses import dataclass

from qxmix.container.model import ModelHeader
from qxmix.running.facts import Facts
from qxmix.running.model import Use


@dataclass(frozen=True, slots=True)
class Compute:
    """Bytes of buffers, roughly."""

    each: int
    """On each device that computes."""
    logits: int
    """Where the output is, besides."""


def compute_estimate(header: ModelHeader, use: Use) -> Compute:
    """Some rows of activations of a batch and the mask of attention on each device, and the logits with the output.

    An estimate: engines reuse these buffers in ways that differ from version to version.
    """
    facts = Facts(header)
    tokens = next((f.array[1] for f in header.metadata if f.key == "tokenizer.ggml.tokens" and f.array), 0)
    n_vocab = facts.integer("vocab_size") or tokens
    n_ff = max(facts.per_layer("feed_forward_length", 1), default=0)
    activations = 4 * (facts.integer("embedding_length") or 0) + 3 * n_ff
    return Compute(4 * use.n_ubatch * activations + 2 * use.n_ubatch * use.n_ctx, 4 * use.n_ubatch * n_vocab)
