"""Commands out of pasted shell text: quotes, comments, variables, continued lines; nothing is ever run.

People publish recipes as scripts.  A list of rules stands in a variable, a pipeline of ``grep`` and ``sed`` drops its
comments and joins its lines with commas, and ``llama-quantize`` gets the variable.  So a substitution ``$( ... )``
stands for the variable that it reads, as it is; whoever parses the rules skips comments and takes newlines for commas.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from qxmix.errors import Problem, RecipeError
from qxmix.recipe.tree import MAX_NBYTES

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)[^}]*\}|([A-Za-z_]\w*))")
_SHOWN = 40
"""Most characters of a substitution that a message quotes."""
_ENDS = frozenset(";&|\n()<>")


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
class _Reader:
    """A position in the text, and what is known so far."""

    text: str
    name: str
    pos: int = 0
    variables: dict[str, Word] = field(default_factory=dict)
    commands: list[list[Word]] = field(default_factory=list)

    counted: tuple[int, int] = (0, 1)
    """The position up to which lines are counted, and the line it is on."""

    @property
    def line(self) -> int:
        start, line = self.counted
        line += self.text.count("\n", start, self.pos)
        self.counted = (self.pos, line)
        return line

    def fail(self, line: int, text: str) -> RecipeError:
        return RecipeError(Problem(f"{self.name}:{line}", text))


@dataclass(frozen=True, slots=True)
class Script:
    """What a text says."""

    commands: list[list[Word]]
    """The words of each, variables put in."""
    variables: dict[str, Word]


def read_script(text: str, name: str) -> Script:
    """All commands and variables of a script.

    Raises:
        RecipeError: a quote or parenthesis is not closed.

    """
    reader = _Reader(text.replace("\r\n", "\n"), name)
    command: list[Word] = []
    while reader.pos < len(reader.text):
        char = reader.text[reader.pos]
        if reader.text.startswith("\\\n", reader.pos):
            reader.pos += 2
            _skip_comments(reader)
        elif char in " \t":
            reader.pos += 1
        elif char == "#":
            reader.pos = _line_end(reader)
        elif char in _ENDS:
            reader.pos += 1
            _finish(reader, command)
            command = []
        else:
            command.append(_word(reader))
    _finish(reader, command)
    return Script(reader.commands, reader.variables)


def _skip_comments(reader: _Reader) -> None:
    """Drop lines that are comments inside of a continued command: to the shell they end it, to who wrote them not."""
    while found := re.compile(r"[ \t]*#[^\n]*\n").match(reader.text, reader.pos):
        reader.pos = found.end()


def _line_end(reader: _Reader) -> int:
    end = reader.text.find("\n", reader.pos)
    return len(reader.text) if end < 0 else end


def _finish(reader: _Reader, command: list[Word]) -> None:
    """Take in assignments; what is left is a command."""
    words = [w for w in command if w.text not in ("export", "declare", "local")]
    while words and (found := _ASSIGNMENT.match(words[0].text)):
        word = words.pop(0)
        first = word.first_line or word.line
        reader.variables[found[1]] = Word(word.text[found.end() :], word.line, word.unknown, first)
    if words:
        reader.commands.append(words)


def _word(reader: _Reader) -> Word:
    line, first = reader.line, 0
    parts: list[str] = []
    unknown: list[str] = []
    while reader.pos < len(reader.text):
        char = reader.text[reader.pos]
        if char in " \t" or char in _ENDS or reader.text.startswith("\\\n", reader.pos):
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


def _double_quoted(reader: _Reader, parts: list[str], unknown: list[str]) -> int:
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


def _expansion(reader: _Reader, parts: list[str], unknown: list[str]) -> int:
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
    names = [m[1] or m[2] for m in _VARIABLE.finditer(inside)]
    value = next((reader.variables[n] for n in names if n in reader.variables), None)
    if value is None:
        unknown.append(inside if len(inside) <= _SHOWN else f"{inside[:_SHOWN]}...")
        parts.append(inside)
        return 0
    parts.append(value.text)
    unknown.extend(value.unknown)
    return value.first_line or value.line


def _closing(reader: _Reader) -> int:
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
