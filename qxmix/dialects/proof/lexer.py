"""A POSIX shell's text as words and operators: how each piece of a word is quoted, nothing put in yet.

Source of the grammar: POSIX.1-2017, Shell Command Language, 2.2 to 2.4 and 2.10, with bash's arrays and ``$'...'``.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from qxmix.errors import RecipeError

How = Literal["bare", "quoted", "expansion", "quoted expansion"]


class Piece(NamedTuple):
    """A run of characters that is quoted in one way; an expansion stands as it is written, ``${A[@]}``."""

    text: str
    how: How


class Token(NamedTuple):
    """A word, an operator, or an assignment of an array."""

    line: int
    pieces: tuple[Piece, ...] = ()
    operator: str = ""
    array: tuple[Token, ...] | None = None
    """The words between the parentheses of ``A=( ... )``; the pieces say ``A=`` or ``A+=``."""
    heredoc: tuple[Piece, ...] = ()
    """With the operator ``<<``: the lines of the here-document."""

    @property
    def bare(self) -> str:
        """The text if none of it is quoted or expanded, else an empty string."""
        return "".join(p.text for p in self.pieces) if all(p.how == "bare" for p in self.pieces) else ""


class Lexed(NamedTuple):
    """A whole text."""

    tokens: tuple[Token, ...]
    inner_comments: tuple[int, ...]
    """Lines that are comments between the lines of a continued command, where a shell would end it."""


_OPERATOR = re.compile(r"\d*(?:<<<|<<-|<<|>>|[<>]&|<>|>\||[<>](?!\())|&>>|&>|&&|\|\||\|&|;;|[;&|()\n]")
_VARIABLE = re.compile(r"\$(?:[A-Za-z_]\w*|[0-9@*#?$!-])", re.ASCII)
_ARRAY = re.compile(r"[A-Za-z_]\w*\+?=\Z", re.ASCII)
_BARE = re.compile(r"[^ \t\n\\'\"$`;&|()<>]+")
_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", "'": "'", '"': '"'}


class Lexer:
    """One pass over a text."""

    def __init__(self, text: str, name: str, first_line: int = 1) -> None:
        self._text = text
        self._name = name
        self._first = first_line
        self._pos = 0
        self._waiting: list[tuple[int, Piece, bool]] = []
        self._comments: list[int] = []
        self._tokens: list[Token] = []
        self._counted = (0, first_line)

    def lex(self) -> Lexed:
        """All tokens.

        Raises:
            RecipeError: a quote or parenthesis is not closed.

        """
        self._read(until="")
        return Lexed(tuple(self._tokens), tuple(self._comments))

    def _line(self, pos: int | None = None) -> int:
        end = self._pos if pos is None else pos
        start, line = self._counted if self._counted[0] <= end else (0, self._first)
        self._counted = (end, line + self._text.count("\n", start, end))
        return self._counted[1]

    def _fail(self, pos: int, what: str) -> RecipeError:
        return RecipeError.at(f"{self._name}:{self._line(pos)}", f"a {what} is opened here and never closed")

    def _read(self, until: str) -> None:
        text = self._text
        while self._pos < len(text):
            if self._blank():
                continue
            char = text[self._pos]
            if until and char == until:
                self._pos += 1
                return
            if found := _OPERATOR.match(text, self._pos):
                self._operator(found[0])
            else:
                self._tokens.append(self._word())

    def _blank(self) -> bool:
        """Step over white space, comments and joined lines; whether there was any."""
        text, pos = self._text, self._pos
        if text.startswith("\\\n", pos):
            self._pos += 2
            while found := re.compile(r"[ \t]*#[^\n]*(?:\n|\Z)").match(text, self._pos):
                self._comments.append(self._line())
                self._pos = found.end()
        elif text[pos] in " \t":
            self._pos += 1
        elif text[pos] == "#":
            end = text.find("\n", pos)
            self._pos = len(text) if end < 0 else end
        else:
            return False
        return True

    def _operator(self, text: str) -> None:
        line = self._line()
        self._pos += len(text)
        sign = text.lstrip("0123456789")
        self._tokens.append(Token(line, operator=sign))
        if sign == "\n":
            self._heredocs()
        elif sign in ("<<", "<<-"):
            while self._pos < len(self._text) and self._text[self._pos] in " \t":
                self._pos += 1
            end = self._word()
            if not end.pieces:
                raise RecipeError.at(f"{self._name}:{line}", f"a {sign} lacks the word that ends it; write one")
            quoted = any(p.how != "bare" for p in end.pieces)
            mark = Piece("".join(p.text for p in end.pieces), "quoted" if quoted else "bare")
            self._waiting.append((len(self._tokens) - 1, mark, sign == "<<-"))

    def _heredocs(self) -> None:
        for at, mark, tabs in self._waiting:
            start, lines = self._pos, []
            while True:
                if self._pos >= len(self._text):
                    raise self._fail(start - 1, f"here-document '{mark.text}'")
                end = self._text.find("\n", self._pos)
                end = len(self._text) if end < 0 else end
                line = self._text[self._pos : end]
                self._pos = min(end + 1, len(self._text))
                line = line.lstrip("\t") if tabs else line
                if line == mark.text:
                    break
                lines.append(line + "\n")
            body = "".join(lines)
            pieces = (Piece(body, "quoted"),) if mark.how == "quoted" else self._inside(body, start)
            self._tokens[at] = Token(self._tokens[at].line, operator="<<", heredoc=pieces)
        self._waiting = []

    def _inside(self, body: str, start: int) -> tuple[Piece, ...]:
        """The body of a here-document whose mark is not quoted: as between double quotes, but for the quotes."""
        reader = Lexer(body.replace('"', '\\"') + '"', self._name, self._line(start))
        return tuple(reader.double())

    def _word(self) -> Token:
        text, line = self._text, self._line()
        pieces: list[Piece] = []
        while self._pos < len(text):
            if text.startswith("\\\n", self._pos):
                self._pos += 2
            elif text.startswith(("<(", ">("), self._pos):
                pieces.append(Piece(text[self._pos] + self._skip(self._pos + 1), "quoted expansion"))
            elif text[self._pos] in " \t\n;&|()<>":
                break
            else:
                pieces += self._pieces(text[self._pos])
        if text.startswith("(", self._pos) and pieces and _ARRAY.match("".join(p.text for p in pieces)):
            return Token(line, tuple(pieces), array=self._array())
        return Token(line, tuple(pieces))

    def _pieces(self, char: str) -> list[Piece]:
        """What begins with a character, quoted or not."""
        text = self._text
        if char == "'":
            return [Piece(self._single(self._pos + 1), "quoted")]
        if char == '"':
            self._pos += 1
            return self.double() or [Piece("", "quoted")]
        if text.startswith("$'", self._pos):
            return [self._ansi()]
        if text.startswith('$"', self._pos):
            self._pos += 2
            return self.double() or [Piece("", "quoted")]
        if char in "$`":
            return [self._expansion(quoted=False)]
        found = re.compile(r"\\(.?)", re.DOTALL).match(text, self._pos) or _BARE.match(text, self._pos)
        self._pos = found.end() if found else self._pos + 1
        return [Piece(found[1], "quoted") if found and char == "\\" else Piece(found[0] if found else char, "bare")]

    def _array(self) -> tuple[Token, ...]:
        start = self._pos
        self._pos += 1
        own, self._tokens = self._tokens, []
        self._read(until=")")
        if self._text[self._pos - 1] != ")":
            raise self._fail(start, "(")
        if self._text[self._pos : self._pos + 1] not in ("", " ", "\t", "\n", ";", "&", "|", ")"):
            text = "something stands right behind the ) of a list; put a space or a new line there"
            raise RecipeError.at(f"{self._name}:{self._line()}", text)
        found, self._tokens = self._tokens, own
        return tuple(t for t in found if t.operator != "\n")

    def _single(self, start: int) -> str:
        end = self._text.find("'", start)
        if end < 0:
            raise self._fail(start - 1, "'")
        self._pos = end + 1
        return self._text[start:end]

    def _ansi(self) -> Piece:
        start, pos, parts = self._pos, self._pos + 2, []
        while pos < len(self._text) and self._text[pos] != "'":
            if self._text[pos] == "\\":
                pos += 1
                parts.append(_ESCAPES.get(self._text[pos : pos + 1], "\0"))
            else:
                parts.append(self._text[pos])
            pos += 1
        if pos >= len(self._text):
            raise self._fail(start, "$'")
        self._pos = pos + 1
        value = "".join(parts)
        return Piece(self._text[start : self._pos], "quoted expansion") if "\0" in value else Piece(value, "quoted")

    def double(self) -> list[Piece]:
        """Pieces up to the closing double quote, from behind the opening one."""
        text, start = self._text, self._pos - 1
        pieces: list[Piece] = []
        while self._pos < len(text):
            char = text[self._pos]
            if char == '"':
                self._pos += 1
                return pieces
            if char in "$`":
                pieces.append(self._expansion(quoted=True))
                continue
            taken = char
            if char == "\\" and text[self._pos + 1 : self._pos + 2] in ("$", "`", '"', "\\", "\n"):
                self._pos += 1
                taken = text[self._pos].replace("\n", "")
            self._pos += 1
            pieces.append(Piece(taken, "quoted"))
        raise self._fail(max(start, 0), '"')

    def _expansion(self, *, quoted: bool) -> Piece:
        text, start = self._text, self._pos
        how: How = "quoted expansion" if quoted else "expansion"
        if text.startswith(("$(", "${"), start):
            return Piece("$" + self._skip(start + 1), how)
        if text[start] == "`":
            end = start + 1
            while end < len(text) and text[end] != "`":
                end += 2 if text[end] == "\\" else 1
            if end >= len(text):
                raise self._fail(start, "`")
            self._pos = end + 1
            return Piece(text[start : self._pos], how)
        found = _VARIABLE.match(text, start)
        self._pos = found.end() if found else start + 1
        return Piece(text[start : self._pos], how if found else "quoted")

    def _skip(self, start: int) -> str:
        """What stands between a bracket and the one that closes it, quotes stepped over."""
        text, pos = self._text, start
        pairs = {"(": ")", "{": "}"}
        open_, close = text[start], pairs[text[start]]
        depth = 0
        while pos < len(text):
            char = text[pos]
            if char == "\\":
                pos += 1
            elif char in "'\"" and (end := _quote_end(text, pos)) > 0:
                pos = end
            elif char == open_:
                depth += 1
            elif char == close:
                depth -= 1
                if depth == 0:
                    self._pos = pos + 1
                    return text[start : pos + 1]
            pos += 1
        raise self._fail(start - 1, f"{text[max(start - 1, 0)]}{open_}")


def _quote_end(text: str, start: int) -> int:
    """Position of the quote that closes the one at ``start``, or -1."""
    quote, pos = text[start], start + 1
    while pos < len(text):
        if text[pos] == quote:
            return pos
        pos += 2 if quote == '"' and text[pos] == "\\" else 1
    return -1
