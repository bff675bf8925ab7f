"""A text for the demo model to predict."""

from __future__ import annotations

from qxmix.demo.numbers import uniform
from qxmix.demo.vocabulary import WORDS

_N_WORDS = 900
_WORDS_PER_LINE = 15


def make_demo_text(seed: int = 1) -> str:
    """Words of the demo's vocabulary in a seeded order, some 1,800 tokens: enough for three chunks of 512."""
    words = WORDS.split()
    picked = [words[int(u * len(words))] for u in uniform(seed, "text", _N_WORDS)]
    lines = [" ".join(picked[i : i + _WORDS_PER_LINE]) for i in range(0, _N_WORDS, _WORDS_PER_LINE)]
    return "\n".join(lines) + "\n"
