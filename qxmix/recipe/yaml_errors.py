"""What is wrong with YAML that does not parse, in the words of who writes recipes.

The parser says what it met and not what was meant: ``mapping values are not allowed in this context`` is a line that is
indented too far, a colon without a space on the line above, or a text with a colon and no quotes.
"""

from __future__ import annotations

import re

import yaml

_ALWAYS = (
    ("scanning an alias", "a text that starts with '*' needs quotes"),
    ("scanning an anchor", "a text that starts with '&' needs quotes"),
    ("scanning a directive", "a line cannot start with '%'"),
    ("scanning a block scalar", "a text that starts with '|' or '>' needs quotes"),
    ("scanning a plain scalar", "a text with ':' in it needs quotes"),
    ("sequence entries are not allowed", "a list starts on the next line: each item with '- ' in front"),
)
"""Words of the parser that always mean the same."""
_SHOWN = 40
"""Most characters of the file that a message quotes."""
_TIGHT = re.compile(r"\s*(?:- )?[{]?\s*(\w+):[^\s/]")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


def explain(error: yaml.MarkedYAMLError, text: str) -> tuple[int, str]:
    """Line of a syntax error (from 1, or 0 where none is known) and what to do about it."""
    mark, opened = error.problem_mark or error.context_mark, error.context_mark
    said = " ".join(part for part in (error.context, error.problem) if part) or "it does not parse"
    lines = text.splitlines()
    if "simple key" in said and opened is not None and opened.line < len(lines):
        return opened.line + 1, _no_key(lines[opened.line])
    if mark is not None and mark.line < len(lines):
        return mark.line + 1, _at(error, said, lines, mark.line, mark.column)
    if opened is not None and opened.line < len(lines):
        return opened.line + 1, _unfinished(said, lines[opened.line][opened.column : opened.column + 1])
    return (0 if mark is None else mark.line + 1), said


def _at(error: yaml.MarkedYAMLError, said: str, lines: list[str], at: int, column: int) -> str:
    line, rest = lines[at], lines[at][column:]
    told = next((text for words, text in _ALWAYS if words in said), said)
    if "\t" in line[: column + 1]:
        told = "this line has a tab; indent with spaces"
    elif "unknown escape" in said:
        told = _escape(line)
    elif "flow mapping" in said or "flow sequence" in said:
        told = _unclosed(error, at, rest)
    elif "mapping values" in said:
        told = _stray_key(lines, at, column)
    elif "cannot start any token" in said:
        told = f"a text that starts with '{rest[:1]}' needs quotes"
    elif "block mapping" in said or "block collection" in said:
        told = _misplaced(said, line, column)
    elif "node content" in said:
        told = f"a value is missing before '{_short(rest)}'"
    elif "document start" in said:
        told = f"'{_short(rest)}' does not belong to what is above it"
    return told


def _no_key(line: str) -> str:
    return f"'{_short(line.strip())}' is no 'key: value'"


def _unfinished(said: str, opening: str) -> str:
    """The file ends inside of something."""
    if "quoted scalar" in said:
        return f"the quote ({opening}) that opens here is not closed"
    return f"the '{opening}' that opens here is not closed" if opening in ("[", "{") else said


def _escape(line: str) -> str:
    text = "in double quotes YAML reads the backslash itself; put the pattern in single quotes"
    found = next((q[1] for q in _QUOTED.finditer(line) if "\\" in q[1]), None)
    return text if found is None or "'" in found else f"{text}: '{found}'"


def _unclosed(error: yaml.MarkedYAMLError, line: int, rest: str) -> str:
    opened, closing = error.context_mark, "}" if "mapping" in str(error.context) else "]"
    opening = "{" if closing == "}" else "["
    if opened is not None and opened.line < line:
        return f"the '{opening}' of line {opened.line + 1} is not closed"
    if rest.startswith(":"):
        return "a text with ': ' in it needs quotes"
    return f"a ',' or '{closing}' is missing before '{_short(rest)}'"


def _stray_key(lines: list[str], at: int, column: int) -> str:
    if re.search(r"[\w'\"]:\s", lines[at][:column]):
        return "a text with ': ' in it needs quotes"
    before = next(
        (i for i in range(at - 1, -1, -1) if lines[i].strip() and not lines[i].lstrip().startswith("#")), None
    )
    if before is not None and (tight := _TIGHT.match(lines[before])):
        return f"line {before + 1} needs a space after '{tight[1]}:'"
    if before is not None and ":" not in lines[before]:
        return f"line {before + 1}: {_no_key(lines[before])}"
    return "no key can stand here; check the indentation: the keys of one rule start in the same column"


def _misplaced(said: str, line: str, column: int) -> str:
    done = line[:column].rstrip()
    if line[column:].strip() == ",":
        return "remove the ',' at the end of this line"
    if done.endswith(("'", '"', "]", "}")):
        quotes = "; inside of single quotes a quote is written twice" if done.endswith("'") else ""
        return f"the value has ended before {_short(line[column:])}{quotes}"
    if line[column:].startswith("- "):
        return "a list item cannot stand here; check its indentation, and that the key above has no value of its own"
    if "'-' indicator" in said:
        return "a list item ('- ...') is expected here; check the indentation of this line"
    return "this line starts in another column than the lines it belongs to; check its indentation"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
