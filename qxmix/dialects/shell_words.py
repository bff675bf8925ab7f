"""One word of pasted shell text at a time: quotes taken off, variables and substitutions put in."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from qxmix.errors import RecipeError
from qxmix.recipe.tree import MAX_NBYTES

_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*|\d+)([^}]*)\}|([A-Za-z_]\w*|[0-9@*]))")
_DEFAULT = re.compile(r"\$\{\w+(:?)-([^$`'\"\\{}]*)\}")
HEREDOC = re.compile(r"<<-?[ \t]*([\"'\\]?)(\w+)\1?[^\n]*\n(.*?)^\t*\2$", re.DOTALL | re.MULTILINE)
"""A here-document: its mark's quote, its mark, its text."""
_SHOWN = 40
"""Most characters of a substitution that a message quotes."""
ENDS = frozenset(";&|\n()<>")
"""Characters that end a word."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a command."""

    text: str
    line: int
    """Where it starts, from 1."""
    unknown: tuple[str, ...] = ()
    """Variables and substitutions in it whose value the text does not tell."""
    first_line: int = 0
    """Where the value of the variable in it starts; its own line where there is none."""


@dataclass(slots=True)
class Reader:
    """A position in the text, and what is known so far."""

    text: str
    name: str
    pos: int = 0
    variables: dict[str, Word] = field(default_factory=dict)
    arrays: dict[str, list[Word]] = field(default_factory=dict)
    commands: list[list[Word]] = field(default_factory=list)
    given: frozenset[str] = frozenset()
    """Variables whose value was given, whatever the text says."""

    counted: tuple[int, int] = (0, 1)
    """The position up to which lines are counted, and the line it is on."""

    @property
    def line(self) -> int:
        """The line of the position, from 1."""
        start, line = self.counted
        line += self.text.count("\n", start, self.pos)
        self.counted = (self.pos, line)
        return line

    def fail(self, line: int, text: str) -> RecipeError:
        """An error at a line."""
        return RecipeError.at(f"{self.name}:{line}", text)


def read_word(reader: Reader) -> Word:
    """The word at the position.

    Raises:
        RecipeError: a quote or parenthesis is not closed, or variables make it too long.

    """
    line, first = reader.line, 0
    parts: list[str] = []
    unknown: list[str] = []
    while reader.pos < len(reader.text):
        char = reader.text[reader.pos]
        if char in " \t" or char in ENDS or reader.text.startswith("\\\n", reader.pos):
            break
        if char == "'":
            end = reader.text.find("'", reader.pos + 1)
            if end < 0:
                raise reader.fail(reader.line, "a ' is opened here and never closed")
            parts.append(reader.text[reader.pos + 1 : end])
            reader.pos = end + 1
        elif char == '"':
            first = _double_quoted(reader, parts, unknown) or first
        elif char in "$`":
            first = _expansion(reader, parts, unknown) or first
        elif char == "\\":
            parts.append(reader.text[reader.pos + 1 : reader.pos + 2])
            reader.pos += 2
        else:
            parts.append(char)
            reader.pos += 1
    text = "".join(parts)
    if len(text) > MAX_NBYTES:
        raise reader.fail(line, f"a word grows to {len(text):,} characters, which is no recipe")
    return Word(text, line, tuple(unknown), first)


def _double_quoted(reader: Reader, parts: list[str], unknown: list[str]) -> int:
    """Read up to the closing quote; returns where a variable's value starts that was put in, or 0."""
    line, first = reader.line, 0
    reader.pos += 1
    while reader.pos < len(reader.text):
        char = reader.text[reader.pos]
        if char == '"':
            reader.pos += 1
            return first
        if char in "$`" and not reader.text.startswith(('$"', "$=", "$|", "$)", "$ ", "$\n", "$,"), reader.pos):
            first = _expansion(reader, parts, unknown) or first
        elif char == "\\" and reader.text[reader.pos + 1 : reader.pos + 2] in ('"', "\\", "$", "`", "\n"):
            # Before anything else a backslash stays, which is why regular expressions survive double quotes.
            parts.append(reader.text[reader.pos + 1].replace("\n", ""))
            reader.pos += 2
        else:
            parts.append(char)
            reader.pos += 1
    raise reader.fail(line, 'a " is opened here and never closed')


def _expansion(reader: Reader, parts: list[str], unknown: list[str]) -> int:
    """Put in a variable, or for a substitution the first variable that it reads."""
    text = reader.text
    start = reader.pos
    if text.startswith("$(", start):
        reader.pos = _closing(reader)
    elif text[start] == "`":
        end = text.find("`", start + 1)
        if end < 0:
            raise reader.fail(reader.line, "a ` is opened here and never closed")
        reader.pos = end + 1
    else:
        found = _VARIABLE.match(text, start)
        if found is None:
            parts.append(text[start])
            reader.pos += 1
            return 0
        reader.pos = found.end()
    inside = text[start : reader.pos]
    if found := HEREDOC.search(inside):
        parts.append(found[3])
        return reader.line - inside.count("\n") + inside[: found.start(3)].count("\n")
    if said := re.match(r"\$\(\s*(?:echo|printf '%s(?:\\n)?') '([^']*)'", inside):
        parts.append(said[1])
        return 0
    names = [m[1] or m[3] for m in _VARIABLE.finditer(inside)]
    value = next((reader.variables[n] for n in names if n in reader.variables), None)
    default = _DEFAULT.fullmatch(inside)
    if default and (value is None or (default[1] and not value.text and not value.unknown)):
        parts.append(default[2])
        return 0
    if value is None:
        unknown.append(inside if len(inside) <= _SHOWN else f"{inside[:_SHOWN]}...")
        parts.append(inside)
        return 0
    suffix = found[2] if (found := _VARIABLE.fullmatch(inside)) else ""
    parts.append(value.text.upper() if suffix == "^^" else value.text.lower() if suffix == ",," else value.text)
    unknown.extend(value.unknown)
    return value.first_line or value.line


def _closing(reader: Reader) -> int:
    """Position behind the parenthesis that closes a ``$(``; quotes inside are stepped over."""
    depth, quote, pos = 0, "", reader.pos + 1
    while pos < len(reader.text):
        char = reader.text[pos]
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "()":
            depth += 1 if char == "(" else -1
            if depth == 0:
                return pos + 1
        pos += 1
    raise reader.fail(reader.line, "a $( is opened here and never closed")
