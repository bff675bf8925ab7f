"""Whether a shell starts a command at all: it does not where a file of a redirection cannot be opened."""

from __future__ import annotations

from itertools import pairwise

from qxmix.dialects.proof.blocks import State
from qxmix.dialects.proof.expand import Expander
from qxmix.dialects.proof.faults import short
from qxmix.dialects.proof.lexer import Token

_WRITING = frozenset({">", ">>", ">|", "&>", "&>>", ">&"})
_FOLDERS = ("", ".", "..")


def check_redirections(state: State, tokens: list[Token], expander: Expander) -> None:
    """Hold those of ``llama-quantize`` to what can be opened: no input, and an output that may be a file.

    Raises:
        RecipeError: a file to be read, the name of a folder, or one that is no word or several.

    """
    for token, target in pairwise(tokens):
        if token.operator.startswith("<"):
            raise state.fail(
                token.line, f"llama-quantize reads no input; remove '{token.operator}' and what follows it"
            )
        if token.operator not in _WRITING:
            continue
        words = expander.words(target)
        text = words[0].text if len(words) == 1 else ""
        if text in _FOLDERS or text.endswith("/") or (text[0] == "~" and words[0].unknown and "/" not in text):
            said = short("".join(p.text for p in target.pieces))
            raise state.fail(
                token.line, f"a shell cannot write to '{said}' and does not start the command; remove the "
                f"'{token.operator}', or name a file",
            )  # fmt: skip
