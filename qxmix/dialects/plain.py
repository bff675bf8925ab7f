"""Pasted text as the text of one shell: out of Markdown, and cmd.exe's and PowerShell's lines as a POSIX shell's."""

from __future__ import annotations

import re
import shlex

_BLOCK = re.compile(r"^[ \t]*(```|~~~)[^\n]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
_CMD = re.compile(r"\^[ \t]*$|^@?echo off|^\s*@?set \"?\w+=|^\s*rem ", re.IGNORECASE | re.MULTILINE)
_POWERSHELL = re.compile(r" `$|^\s*\$(?:env:)?\w+\s*=|^\s*&\s+[\"'.\w]|\$env:", re.MULTILINE)
_CMD_WORD = re.compile(r'(?:\\"|"(?:\\"|[^"])*"|\^.|[^\s"^&|<>])+|&&|\|\||[&|]|\d?>>?(?:&\d)?|<')
_POWER_WORD = re.compile(r"(?:'(?:''|[^'])*'|\"(?:`.|\"\"|[^\"`])*\"|`.|[^\s'\"`;|>])+|[;|]|\d?>>?(?:&\d)?")
_OPERATOR = re.compile(r"&&|\|\||[&|;]|\d?>>?(?:&\d)?|<")


def shell_text(text: str, suffix: str) -> str:
    """The commands in a text, lines kept, as a POSIX shell would have them.

    Args:
        text: What was pasted: a script of any shell, or Markdown with blocks of code.
        suffix: That of its file, which tells batch files and PowerShell scripts.

    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    if blocks := list(_BLOCK.finditer(text)):
        kept = [(b.start(2), b.end(2)) for b in blocks]
        inside = [re.sub(r"(?m)^(\s*)(?:PS [^>\n]*>|C:\\[^>\n]*>|[$>]) (?=\S)", r"\1", text[a:b]) for a, b in kept]
        out, done = [], 0
        for (start, end), block in zip(kept, inside, strict=True):
            out += ["\n" * text.count("\n", done, start), block]
            done = end
        text = "".join(out)
    text = re.sub(r"(?m)^(\s*)\$ (?=\S)", r"\1", text)
    if suffix in (".bat", ".cmd") or _CMD.search(text):
        return _from_cmd(text)
    return _from_powershell(text) if suffix == ".ps1" or _POWERSHELL.search(text) else text


def _from_cmd(text: str) -> str:
    rows = re.sub(r"\^[ \t]*\n", "\0", text).split("\n")
    out = []
    for row in rows:
        if re.match(r"(?i)\s*(?:@?rem\b|::)", row):
            out.append("")
            continue
        given = re.match(r'(?i)\s*@?set\s+(?:"(\w+)=([^"\0]*)"|(\w+)=([^\0]*?))\s*\Z', row)
        if given:
            value = re.sub(r"%(\w+)%", lambda m: f'"${{{m[1].lower()}}}"', shlex.quote(given[2] or given[4] or ""))
            out.append(f"{(given[1] or given[3]).lower()}={value}")
            continue
        words = [_cmd_word(w) for w in _CMD_WORD.findall(row.replace("\0", " ").lstrip(" \t@"))]
        out.append(" ".join(words) + "\n" * row.count("\0"))
    return "\n".join(out)


def _cmd_word(word: str) -> str:
    if _OPERATOR.fullmatch(word):
        return word
    plain = re.sub(r'\\"|"((?:\\"|[^"])*)"|\^(.)', lambda m: m[1] or m[2] or "", word)
    parts = re.split(r"(%\w+%)", plain)
    # What cmd.exe puts in is split like any other text.
    return (
        "".join(f"${{{p[1:-1].lower()}}}" if re.fullmatch(r"%\w+%", p) else shlex.quote(p) if p else "" for p in parts)
        or "''"
    )


def _from_powershell(text: str) -> str:
    rows = re.sub(r"`\n", "\0", text).split("\n")
    out = []
    for row in rows:
        given = re.match(r"\s*\$(\w+)\s*=\s*('[^']*'|\"[^\"$`]*\")\s*\Z", row)
        if given:
            out.append(f"{given[1].lower()}={shlex.quote(given[2][1:-1])}")
            continue
        found = "" if row.lstrip().startswith("#") else re.sub(r"\A\s*&", "", row.replace("\0", " "))
        out.append(" ".join(map(_power_word, _POWER_WORD.findall(found))) + "\n" * row.count("\0"))
    return "\n".join(out)


def _power_word(word: str) -> str:
    if _OPERATOR.fullmatch(word):
        return word
    parts = re.findall(r"'(?:''|[^'])*'|\"(?:`.|\"\"|[^\"`])*\"|`.|[^'\"`]+", word)
    return "".join(map(_power_part, parts)) or "''"


def _power_part(part: str) -> str:
    if part.startswith("'"):
        return shlex.quote(part[1:-1].replace("''", "'"))
    inner = re.sub(r'`(.)|""', lambda m: m[1] or '"', part[1:-1] if part.startswith('"') else part)
    pieces = re.split(r"(\$\w+)", inner)
    return "".join(f'"${{{p[1:].lower()}}}"' if re.fullmatch(r"\$\w+", p) else shlex.quote(p) for p in pieces if p)
