"""The words of a shell with their expansions put in, as far as the text itself tells what they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from qxmix.dialects.proof.lexer import Piece, Token
from qxmix.errors import RecipeError
from qxmix.recipe.tree import MAX_NBYTES

_NAMED = re.compile(
    r"\$(?:\{([A-Za-z_]\w*|[0-9]+|[@*])((?:\[(?:[@*]|[0-9]{1,9})\])?)(:-.*|-.*|\^\^|,,)?\}|([A-Za-z_]\w*|[0-9@*]))\Z",
    re.DOTALL | re.ASCII,
)
_DEFAULT = re.compile(r":?-([^$`'\"\\~*?\[{}]*)")
_GLOB = re.compile(r"[*?]|\[.+?\]")
_BRACES = re.compile(r"\{[^{}]*(?:,|\.\.)[^{}]*\}")
_BLANKS = re.compile(r"[ \t\n]+")
_COUNTS = re.compile(r"\$\(\s*(?:nproc(?: --all)?|sysctl -n hw\.\w+|getconf _NPROCESSORS_ONLN)\s*\)|`nproc`")


@dataclass(frozen=True, slots=True)
class Argument:
    """One word as a program gets it."""

    text: str
    line: int
    unknown: str = ""
    """The expansion in it whose value the text does not tell."""
    may_split: bool = False
    """The unknown part may become several words, or none."""
    number: bool = False
    """It is the number of processors, whatever that is."""
    literal: str = ""
    """What is known of a word with an unknown part, that part left out."""


Value = str | tuple[str, ...] | None
"""A variable's: a text, an array, or None where it depends on what the text does not tell."""


@dataclass(slots=True)
class _Fields:
    """The fields that a word becomes, while it is read."""

    line: int
    done: list[Argument] = field(default_factory=list)
    now: Argument | None = None

    def add(self, text: str) -> None:
        before = self.now or Argument("", self.line)
        self.now = replace(before, text=before.text + text, literal=before.literal + text)

    def add_unknown(self, written: str, *, may_split: bool, number: bool = False) -> None:
        before = self.now or Argument("", self.line)
        self.now = replace(
            before, text=before.text + written, unknown=before.unknown or written,
            may_split=before.may_split or may_split, number=before.number or number,
        )  # fmt: skip

    def end(self) -> None:
        if self.now is not None:
            self.done.append(self.now)
        self.now = None


class Expander:
    """Puts variables in."""

    def __init__(
        self, variables: Mapping[str, Value], substitute: Callable[[str, int], str | None],
        is_unset: Callable[[str], bool] | None = None,
    ) -> None:  # fmt: skip
        self._variables = variables
        self._is_unset = is_unset
        self._substitute = substitute

    def words(self, token: Token) -> list[Argument]:
        """The words that a word becomes: several where an unquoted expansion is split, none where it is empty."""
        fields = _Fields(token.line)
        for i, piece in enumerate(token.pieces):
            self._put(fields, piece, first=i == 0)
        fields.end()
        pattern = _pattern(token.pieces, self.scalar)
        if not pattern:
            return fields.done
        alone = len(fields.done) == 1
        return [
            replace(a, unknown=pattern, may_split=True) if alone or _GLOB.search(a.text) else a for a in fields.done
        ]

    def joined(self, pieces: Iterable[Piece]) -> str | None:
        """The value of an assignment, which is neither split nor matched with file names."""
        parts = []
        for piece in pieces:
            if piece.how in ("bare", "quoted"):
                parts.append(piece.text)
                continue
            value = self.value(piece.text)
            if value is None:
                return None
            parts.append(value if isinstance(value, str) else " ".join(value))
        if (size := sum(map(len, parts))) > MAX_NBYTES:
            raise RecipeError.at("the script", f"a word grows to {size:,} characters, which is no recipe")
        return "".join(parts)

    def scalar(self, written: str) -> str:
        """The value of an expansion if it is a known text, else an empty one."""
        value = self.value(written)
        return value if isinstance(value, str) else ""

    def value(self, written: str) -> Value:
        """The value of an expansion as it is written."""
        if written.startswith(("$((", "<(", ">(")):
            return None
        if written.startswith(("$(", "`")):
            return self._substitute(written[2:-1] if written.startswith("$(") else written[1:-1], 0)
        found = _NAMED.match(written)
        if found is None:
            return None
        name, change = found[1] or found[4], found[3] or ""
        if not found[2] and (default := _default(change)) is not None and self._takes_default(name, change):
            return default
        value = self._variables.get(name)
        index = found[2] or ""
        if index in ("[@]", "[*]"):
            value = (value,) if isinstance(value, str) else value
        elif isinstance(value, tuple):
            at = int(index[1:-1]) if index else 0
            value = value[at] if at < len(value) else ""
        elif index not in ("", "[0]"):
            return None
        return self._changed(value, change)

    def _takes_default(self, name: str, change: str) -> bool:
        is_empty = self._variables.get(name) == "" and change.startswith(":")
        return is_empty or (self._is_unset is not None and self._is_unset(name))

    def _changed(self, value: Value, change: str) -> Value:
        if isinstance(value, str) and change in ("^^", ",,"):
            return value.upper() if change == "^^" else value.lower()
        return None if change in ("^^", ",,") or (change.startswith(":-") and value == "") else value

    def _put(self, fields: _Fields, piece: Piece, *, first: bool) -> None:
        if piece.how == "bare" and first and piece.text.startswith("~"):
            fields.add_unknown("~", may_split=False)
            fields.add(piece.text[1:])
        elif piece.how in ("bare", "quoted"):
            fields.add(piece.text)
        else:
            self._put_expansion(fields, piece)

    def _put_expansion(self, fields: _Fields, piece: Piece) -> None:
        quoted = piece.how == "quoted expansion"
        if _COUNTS.fullmatch(piece.text):
            fields.add_unknown(piece.text, may_split=False, number=True)
            return
        value = self.value(piece.text)
        if value is None:
            whole = "@" in piece.text[:4] or "[@]" in piece.text
            fields.add_unknown(piece.text, may_split=not quoted or whole)
        elif isinstance(value, tuple) and quoted and ("@" in piece.text):
            for i, part in enumerate(value):
                if i:
                    fields.end()
                fields.add(part)
        elif quoted:
            fields.add(value if isinstance(value, str) else " ".join(value))
        elif "IFS" in self._variables:
            fields.add_unknown(piece.text, may_split=True)
        else:
            _split(fields, value if isinstance(value, str) else " ".join(value))


def _default(change: str) -> str | None:
    """The default of ``${NAME:-default}`` or ``${NAME-default}``, if it is plain text."""
    found = _DEFAULT.fullmatch(change)
    return found[1] if found else None


def _split(fields: _Fields, value: str) -> None:
    for i, part in enumerate(_BLANKS.split(value)):
        if i:
            fields.end()
        if part:
            fields.add(part)


def _pattern(pieces: tuple[Piece, ...], value: Callable[[str], str]) -> str:
    """What a shell would match with file names, or write out, in a word; empty where there is no such thing."""

    def skeleton() -> Iterator[str]:
        for piece in pieces:
            if piece.how == "bare":
                yield piece.text
            elif piece.how == "expansion":
                yield value(piece.text)
            else:
                yield "\0" * len(piece.text)

    text = "".join(skeleton())
    found = _BRACES.search("".join(p.text if p.how == "bare" else "\0" for p in pieces)) or _GLOB.search(text)
    return found[0].replace("\0", "") if found else ""
