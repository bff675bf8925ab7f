"""What is wrong with YAML that does not parse, in the words of who writes recipes.

The parser says what it met and not what was meant: ``mapping values are not allowed in this context`` is a line that is
indented too far, a colon without a space on the line above, or a text with a colon and no quotes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import yaml

_SHOWN = 40
"""Most characters of the file that a message quotes."""
_TIGHT = re.compile(r"\s*(?:- )?[{]?\s*(\w+):[^\s/]")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


def explain(error: yaml.MarkedYAMLError, text: str) -> tuple[int, str]:
    """Line of a syntax error (from 1, or 0 where none is known) and what to do about it."""
    mark = error.problem_mark or error.context_mark
    said = " ".join(part for part in (error.context, error.problem) if part) or "it does not parse"
    lines = text.splitlines()
    if mark is None or mark.line >= len(lines):
        opened = error.context_mark
        if opened is None or opened.line >= len(lines):
            return (0 if mark is None else mark.line + 1), said
        return opened.line + 1, _unfinished(said, lines[opened.line][opened.column : opened.column + 1])
    line, rest = lines[mark.line], lines[mark.line][mark.column :]
    told = said
    if "\t" in line[: mark.column + 1]:
        told = "this line has a tab; indent with spaces"
    elif "unknown escape" in said:
        told = _escape(line)
    elif "flow mapping" in said or "flow sequence" in said:
        told = _unclosed(error, mark.line, rest)
    elif "mapping values" in said:
        told = _stray_key(lines, mark.line, mark.column)
    elif "scanning an alias" in said:
        told = "a text that starts with '*' needs quotes"
    elif "cannot start any token" in said:
        told = f"a text that starts with '{rest[:1]}' needs quotes"
    elif "block mapping" in said or "block collection" in said:
        told = _misplaced(said, line, mark.column)
    return mark.line + 1, told


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
    return "no key can stand here; check the indentation: the keys of one rule start in the same column"


def _misplaced(said: str, line: str, column: int) -> str:
    done = line[:column].rstrip()
    if line[column:].strip() == ",":
        return "remove the ',' at the end of this line"
    if done.endswith(("'", '"', "]", "}")):
        quotes = "; inside of single quotes a quote is written twice" if done.endswith("'") else ""
        return f"the value has ended before {_short(line[column:])}{quotes}"
    if "'-' indicator" in said:
        return "a list item ('- ...') is expected here; check the indentation of this line"
    return "this line starts in another column than the lines it belongs to; check its indentation"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
