"""Commands out of pasted shell text: quotes, comments, variables, continued lines; nothing is ever run.

People publish recipes as scripts.  A list of rules stands in a variable, a pipeline of ``grep`` and ``sed`` drops its
comments and joins its lines with commas, and ``llama-quantize`` gets the variable.  So a substitution ``$( ... )``
stands for the variable or here-document that it reads, as it is; whoever parses the rules skips comments and takes
newlines for commas.  What a shell really makes of the text is the proof's to say; here comments and lines are kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from qxmix.dialects.shell_words import ENDS, HEREDOC, Reader, Word, read_word

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\+?)=")


@dataclass(frozen=True, slots=True)
class Script:
    """What a text says."""

    commands: list[list[Word]]
    """The words of each, variables put in."""
    variables: dict[str, Word]


def read_script(text: str, name: str, given: Mapping[str, str] | None = None) -> Script:
    """All commands and variables of a script.

    Args:
        text: The script.
        name: Its name, for messages.
        given: Values of variables that it does not tell.

    Raises:
        RecipeError: a quote or parenthesis is not closed.

    """
    known = {key: Word(value, 1) for key, value in (given or {}).items()}
    reader = Reader(text.replace("\r\n", "\n"), name, variables=known, given=frozenset(known))
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
        elif found := HEREDOC.match(reader.text, reader.pos):
            _here_document(reader, command, found)
            command = []
        elif char in "<>" or reader.text.startswith("&>", reader.pos):
            _skip_redirection(reader, command)
        elif char in ENDS:
            reader.pos += 1
            _finish(reader, command)
            command = []
        else:
            command += _words(reader)
    _finish(reader, command)
    return Script(reader.commands, reader.variables)


def _here_document(reader: Reader, command: list[Word], found: re.Match[str]) -> None:
    """``read -d '' name <<END`` is an assignment; other here-documents are skipped."""
    line = reader.line
    if command and command[0].text == "read":
        lead = len(found[3]) - len(found[3].lstrip(" \t\n"))
        first = line + 1 + found[3][:lead].count("\n")
        reader.variables[command[-1].text] = Word(found[3].strip(" \t\n"), line, (), first)
    else:
        _finish(reader, command)
    reader.pos = found.end()


def _skip_redirection(reader: Reader, command: list[Word]) -> None:
    """Drop ``2>&1``, ``> log`` and their like: they are the shell's."""
    if reader.text[reader.pos - 1 : reader.pos].isdigit() and command and command[-1].text.isdecimal():
        command.pop()
    found = re.compile(r"&?[<>|&]+[ \t]*").match(reader.text, reader.pos)
    assert found is not None
    reader.pos = found.end()
    if reader.pos < len(reader.text) and reader.text[reader.pos] not in " \t\n;":
        read_word(reader)


def _skip_comments(reader: Reader) -> None:
    """Drop lines that are comments inside of a continued command: to the shell they end it, to who wrote them not."""
    while found := re.compile(r"[ \t]*#[^\n]*\n").match(reader.text, reader.pos):
        reader.pos = found.end()


def _line_end(reader: Reader) -> int:
    end = reader.text.find("\n", reader.pos)
    return len(reader.text) if end < 0 else end


def _finish(reader: Reader, command: list[Word]) -> None:
    """Take in assignments; what is left is a command."""
    words = list(command)
    while words and (found := _ASSIGNMENT.match(words[0].text)):
        _assign(reader, words.pop(0), found)
    if words and words[0].text in ("export", "declare", "local", "readonly", "typeset"):
        for word in words[1:]:
            if found := _ASSIGNMENT.match(word.text):
                _assign(reader, word, found)
    elif words:
        reader.commands.append(words)


def _assign(reader: Reader, word: Word, found: re.Match[str]) -> None:
    if found[1] in reader.given:
        return
    first, text, unknown = word.first_line or word.line, word.text[found.end() :], word.unknown
    if found[2] and (old := reader.variables.get(found[1])):
        first, text, unknown = old.first_line or old.line, old.text + text, (*old.unknown, *unknown)
    reader.arrays.pop(found[1], None)
    reader.variables[found[1]] = Word(text, word.line, unknown, first)


def _words(reader: Reader) -> list[Word]:
    """A word, or several where it is a list put in, or a text put in without quotes; none where it assigns a list."""
    start = reader.pos
    if found := re.compile(r"([A-Za-z_]\w*)(\+?)=\(").match(reader.text, start):
        reader.pos = found.end()
        items = _list(reader)
        if found[1] not in reader.given:
            reader.arrays[found[1]] = [*(reader.arrays.get(found[1], []) if found[2] else []), *items]
        return []
    whole = re.compile(r'("?)\$\{?([A-Za-z_]\w*)(\[[@*]\])?\}?\1(?=[\s;&|()<>]|\Z)').match(reader.text, start)
    if whole and whole[2] in reader.arrays and whole[3]:
        reader.pos = whole.end()
        return list(reader.arrays[whole[2]])
    if whole and not whole[1] and not whole[3] and whole[2] in reader.variables:
        reader.pos = whole.end()
        value = reader.variables[whole[2]]
        return [replace(value, text=part) for part in value.text.split()]
    return [read_word(reader)]


def _list(reader: Reader) -> list[Word]:
    """The words up to the parenthesis that closes a list."""
    line = reader.line
    items: list[Word] = []
    while reader.pos < len(reader.text):
        char = reader.text[reader.pos]
        if char == ")":
            reader.pos += 1
            return items
        if char in " \t\n":
            reader.pos += 1
        elif reader.text.startswith("\\\n", reader.pos):
            reader.pos += 2
        elif char == "#":
            reader.pos = _line_end(reader)
        elif char in ENDS:
            raise reader.fail(reader.line, f"a list has '{char}' in it without quotes; put it into quotes")
        else:
            items += _words(reader)
    raise reader.fail(line, "a ( is opened here and never closed")
