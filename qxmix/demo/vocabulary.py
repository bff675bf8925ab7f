"""A tiny SentencePiece vocabulary: three control tokens, all bytes, letters, and the prefixes of common words."""

from __future__ import annotations

from dataclasses import dataclass

_SPACE = "\u2581"
"""What SentencePiece writes for a space."""
N_CONTROL = 3
"""Unknown, start of text, end of text."""
N_BYTES = 256

_LETTERS = _SPACE + "etaoinsrhldcumfpgwybvkxjqzETAOINSRHLDCUMFPGWYBVKXJQZ0123456789.,;:!?'\"()-/"
WORDS = """
the of and to in is was for that on as with by he at from his it an were are which this be has had its or
first one their not but they who two been also after new other when time during there into all only some out
would about more made known used between over most may years world part city where later these then three game
season well under number played against people early released including song before while team state second song
"""

_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens as the ``tokenizer.ggml`` keys of a GGUF file want them, index by index."""

    tokens: tuple[str, ...]
    scores: tuple[float, ...]
    types: tuple[int, ...]


def make_vocabulary(n_tokens: int) -> Vocabulary:
    """Make a vocabulary of exactly ``n_tokens``, which must leave room for bytes and letters.

    Every prefix of a word is a token, too: SentencePiece reaches a piece only by merging pieces.
    """
    pieces = list(_LETTERS)
    known = set(pieces)
    for word in WORDS.split():
        spaced = _SPACE + word
        for end in range(2, len(spaced) + 1):
            if spaced[:end] not in known:
                known.add(spaced[:end])
                pieces.append(spaced[:end])
    pieces = pieces[: n_tokens - N_CONTROL - N_BYTES]
    n_left = n_tokens - N_CONTROL - N_BYTES - len(pieces)
    pieces += [f"{_SPACE}piece{i}" for i in range(n_left)]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(N_BYTES)), *pieces]
    scores = [0.0] * (N_CONTROL + N_BYTES) + [-float(rank) for rank in range(len(pieces))]
    types = [_UNKNOWN, _CONTROL, _CONTROL] + [_BYTE] * N_BYTES + [_NORMAL] * len(pieces)
    return Vocabulary(tuple(tokens), tuple(scores), tuple(types))
