"""Command lines of cmd.exe and PowerShell: their words, as far as both are simple enough to be sure of them.

Sources: the Windows SDK's rules of ``CommandLineToArgvW`` for double quotes, cmd.exe's caret and percent signs,
PowerShell's ``about_Parsing`` and ``about_Quoting_Rules``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Literal

from qxmix.dialects.proof.blocks import Call
from qxmix.dialects.proof.expand import Argument
from qxmix.dialects.proof.program import arguments_of, looks_lost
from qxmix.errors import RecipeError

Shell = Literal["sh", "cmd", "powershell"]

_SET = re.compile(r'\s*@?set\s+(?:"(\w+)=([^"]*)"|(\w+)=(.*?))\s*\Z', re.IGNORECASE)
_NOTHING = re.compile(r"\s*@?(?:echo off|setlocal|endlocal|cd |pushd |popd|set /)", re.IGNORECASE)
_LET = re.compile(r"\s*\$(\w+)\s*=\s*(.*?)\s*\Z", re.DOTALL)
_PERCENT = re.compile(r"%(\w+)%|%%(\w)|%([\d*~])")
_ENDS = {"cmd": re.compile(r"&&|\|\||[&|]"), "powershell": re.compile(r"&&|\|\||[;|]")}
_HERE = re.compile(r"@(['\"])[ \t]*\r?\n")
_LOOP = re.compile(r"\s*(?:for\b|foreach\b)", re.IGNORECASE)


def shell_of(text: str, suffix: str) -> Shell:
    """Whose command line a text is: told by the file's suffix, else by how lines are joined and variables are set."""
    if suffix in (".bat", ".cmd") or re.search(r"(?im)\^[ \t]*$|^@?echo off|^\s*@?set \"?\w+=|^\s*rem ", text):
        return "cmd"
    if suffix == ".ps1" or re.search(r"(?m) `$|^\s*\$(?:env:)?\w+\s*=|^\s*&\s+[\"'.\w]|\$env:", text):
        return "powershell"
    return "sh"


def read_windows(text: str, name: str, given: Mapping[str, str], shell: Shell) -> Call | None:
    """The one ``llama-quantize`` command, or None where there is none; errors are those of ``read_shell``."""
    variables = dict(given)
    calls: list[tuple[list[Argument], int]] = []
    lost: list[tuple[int, str]] = []
    skipped: list[str] = []
    _check_here(text, name, shell)
    for line, row in _rows(text, shell):
        if _LOOP.match(row) and "llama-quantize" in row.lower():
            problem = "llama-quantize stands in a loop; write the command once, with the value in its place"
            raise RecipeError.at(f"{name}:{line}", problem)
        if _assignment(row, variables, given, shell):
            continue
        for part in _parts(row, shell):
            words = list(_words(part, line, variables, shell, name))
            found = arguments_of(words, name) if words else None
            if found is not None:
                calls.append((found, line))
            elif words and (word := looks_lost(words)):
                lost.append((line, word))
            elif words:
                skipped.append(f"{words[0].text} (line {line})")
    if len(calls) > 1:
        lines = ", ".join(str(line) for _, line in calls)
        raise RecipeError.at(name, f"has {len(calls)} llama-quantize commands (lines {lines}); leave one")
    if lost:
        sign = "^" if shell == "cmd" else "`"
        problem = f"'{lost[0][1]}' begins no command; join its line with the one before it by {sign}"
        raise RecipeError.at(f"{name}:{lost[0][0]}", problem)
    return Call(tuple(calls[0][0]), calls[0][1], has_program=True, skipped=tuple(skipped)) if calls else None


def _check_here(text: str, name: str, shell: Shell) -> None:
    if shell == "powershell" and (here := _HERE.search(text)):
        line = text.count("\n", 0, here.start()) + 1
        told = f"what stands between @{here[1]} and {here[1]}@ is not read; write it on one line, its rules by commas"
        raise RecipeError.at(f"{name}:{line}", told)


def _rows(text: str, shell: Shell) -> Iterator[tuple[int, str]]:
    """Lines that are joined as the shell joins them, without comments, and where each begins."""
    sign, line, start = "^" if shell == "cmd" else "`", 0, 1
    parts: list[str] = []
    for row in text.replace("\r\n", "\n").split("\n"):
        line += 1
        start = start if parts else line
        stripped = row.strip()
        comment = stripped.startswith("#") if shell == "powershell" else re.match(r"(?i)(?:@?rem\b|::)", stripped)
        if comment and not parts:
            continue
        joined = row.endswith(sign) or (row.rstrip().endswith(sign) and shell == "cmd")
        parts.append(row.rstrip()[:-1] if joined else row)
        if not joined:
            yield start, "".join(parts)
            parts = []
    if parts:
        yield start, "".join(parts)


def _assignment(row: str, variables: dict[str, str], given: Mapping[str, str], shell: Shell) -> bool:
    if shell == "cmd":
        found = _SET.match(row)
        if found is None:
            return _NOTHING.match(row) is not None
        key, value = found[1] or found[3], found[2] if found[1] else found[4]
        value = _PERCENT.sub(lambda m: variables.get((m[1] or "").lower(), m[0]), value)
    else:
        found = _LET.match(row)
        if found is None:
            return False
        key, value = found[1], found[2]
        if not re.fullmatch(r"'[^']*'|\"[^\"$`]*\"", value):
            variables.pop(key.lower(), None)
            return True
        value = value[1:-1]
    if key not in given:
        variables[key.lower()] = value
    return True


def _parts(row: str, shell: Shell) -> Iterator[str]:
    """Commands of a row, cut at operators outside of quotes; what is redirected is cut away."""
    quote, start, pos = "", 0, 0
    marks = '"' if shell == "cmd" else "\"'"
    while pos < len(row):
        char = row[pos]
        if quote:
            quote = "" if char == quote else quote
        elif char in marks:
            quote = char
        elif char == ("^" if shell == "cmd" else "`"):
            pos += 1
        elif (found := _ENDS[shell].match(row, pos)) and not (shell == "powershell" and not row[start:pos].strip()):
            yield row[start:pos]
            start = pos = found.end()
            continue
        pos += 1
    yield row[start:]


def _words(part: str, line: int, variables: Mapping[str, str], shell: Shell, name: str) -> Iterator[Argument]:
    text = part
    if shell == "cmd":
        text = _PERCENT.sub(lambda m: variables.get((m[1] or m[3] or "").lower(), m[0]), part).lstrip(" \t@")
    else:
        text = text.strip().removeprefix("& ").removeprefix("&")
    pos, drop = 0, False
    while pos < len(text):
        if text[pos] in " \t":
            pos += 1
            continue
        if found := re.compile(r"\d?>>?(?:&\d)?|\*>").match(text, pos):
            drop, pos = not found[0].endswith(("&1", "&2")), found.end()
            continue
        start = pos
        value, pos = (_cmd_word if shell == "cmd" else _power_word)(text, pos, variables, f"{name}:{line}")
        if drop:
            drop = False
            continue
        unknown = _PERCENT.search(value) if shell == "cmd" else re.search(r"\0(.*?)\0", value)
        shown = value.replace("\0", "")
        if shell == "cmd" and "'" in text[start:pos]:
            problem = f"cmd.exe knows no single quotes, and '{shown}' has one; write double quotes"
            raise RecipeError.at(f"{name}:{line}", problem)
        yield Argument(shown, line, unknown=(unknown[0].strip("\0") if unknown else ""), may_split=bool(unknown))


def _cmd_word(text: str, pos: int, _variables: Mapping[str, str], where: str) -> tuple[str, int]:
    parts: list[str] = []
    quoted, start = False, pos
    while pos < len(text):
        char = text[pos]
        if char == '"':
            quoted = not quoted
        elif char == "\\" and text[pos + 1 : pos + 2] == '"':
            parts.append('"')
            pos += 1
        elif char == "^" and not quoted:
            pos += 1
            parts.append(text[pos : pos + 1])
        elif char in " \t" and not quoted:
            break
        else:
            parts.append(char)
        pos += 1
    _check_closed('"' if quoted else "", text[start:], where)
    return "".join(parts), pos


def _power_word(text: str, pos: int, variables: Mapping[str, str], where: str) -> tuple[str, int]:
    """A word of PowerShell; what is not told stands between NUL characters."""
    parts: list[str] = []
    quote, start = "", pos
    while pos < len(text):
        char = text[pos]
        if char == quote:
            if text[pos + 1 : pos + 2] == quote:
                parts.append(quote)
                pos += 1
            else:
                quote = ""
                _check_end(text, start, pos, where)
        elif char in "'\"" and not quote:
            quote = char
        elif char == "`" and quote != "'":
            pos += 1
            parts.append(text[pos : pos + 1])
        elif char == "$" and quote != "'" and (found := re.compile(r"\$(?:(\w+)(?![\w:.\[])|\S+)").match(text, pos)):
            value = variables.get((found[1] or "").lower())
            parts.append(f"\0{found[0]}\0" if value is None else value)
            pos = found.end() - 1
        elif not quote and char in " \t":
            break
        elif not quote and char in "@(){},#":
            parts.append(f"\0{char}\0")
        else:
            parts.append(char)
        pos += 1
    _check_closed(quote, text[start:], where)
    return "".join(parts), pos


def _check_closed(quote: str, word: str, where: str) -> None:
    if quote:
        raise RecipeError.at(where, f"a {quote} is opened and never closed in {word[:40]}")


def _check_end(text: str, start: int, pos: int, where: str) -> None:
    """A word that begins with a quote ends with it: what follows is a word of its own."""
    if text[start] == text[pos] and text[pos + 1 : pos + 2] not in ("", " ", "\t", ">", ","):
        problem = f"PowerShell ends a word behind its quotes; put all of {text[start : start + 40]} into them"
        raise RecipeError.at(where, problem)
