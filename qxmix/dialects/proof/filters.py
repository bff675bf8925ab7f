r"""What a command substitution gives, for the pipelines that people clean a list of rules with.

``echo "$custom" | grep -v '^#' | sed -Ez 's:\n+:,:g;s:,$::;s:^,::'`` and its relatives are followed exactly; of any
other program nothing is known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from qxmix.dialects.proof.expand import Expander, Value
from qxmix.dialects.proof.lexer import Lexer, Token

_PLAIN = re.compile(r"(?:\\s|\\n|\\t|\\r|\\\.|\\#|\[\[:space:\]\]|\[ \\t\]|[^\\\[\](){}+?|&])*\Z")
_EXTENDED = re.compile(r"(?:\\s|\\n|\\t|\\r|\\\.|\\#|\[\[:space:\]\]|\[ \\t\]|[^\\\[\]{}&])*\Z")
_JOIN_LINES = re.compile(r":a;N;\$!ba;")
_MAX_STEPS = 64


def evaluate(
    inner: str, name: str, line: int, variables: Mapping[str, Value], substitute: Callable[[str, int], str | None]
) -> str | None:
    """The text that a substitution stands for, or None where that is not known."""
    lexed = Lexer(inner, name, line).lex()
    tokens = lexed.tokens
    if lexed.inner_comments or any(t.operator not in ("", "|", "\n", "<<") for t in tokens) or len(tokens) > _MAX_STEPS:
        return None
    stages: list[list[Token]] = [[]]
    for token in tokens:
        if token.operator == "|":
            stages.append([])
        elif token.operator != "\n":
            stages[-1].append(token)
        elif stages[-1] and any(t.operator != "\n" for t in tokens[tokens.index(token) + 1 :]):
            return None
    expander = Expander(variables, substitute)
    flow: str | None = ""
    for i, stage in enumerate(stages):
        flow = _stage(stage, flow or "", expander, first=i == 0)
        if flow is None:
            return None
    return (flow or "").rstrip("\n")


def _stage(tokens: Sequence[Token], flow: str, expander: Expander, *, first: bool) -> str | None:
    arguments = [a for t in tokens if not t.operator for a in expander.words(t)]
    for document in (t.heredoc for t in tokens if t.operator):
        body = expander.joined(document)
        flow, first = body or "", body is None
    if not arguments or any(a.unknown for a in arguments):
        return None
    head, *rest = (a.text for a in arguments)
    if head == "echo":
        return _echo(rest)
    if head == "printf":
        return _printf(rest)
    if first or head not in _FILTERS:
        return None
    return _FILTERS[head](rest, flow)


def _echo(words: list[str]) -> str | None:
    end = "\n"
    while words and re.fullmatch(r"-[neE]+", words[0]):
        if "e" in words[0]:
            return None
        end = "" if "n" in words[0] else end
        words = words[1:]
    return " ".join(words) + end


def _printf(words: list[str]) -> str | None:
    forms = {"%s": "", "%s\\n": "\n", "%s\n": "\n"}
    return "".join(w + forms[words[0]] for w in words[1:]) if words and words[0] in forms else None


def _cat(words: list[str], flow: str) -> str | None:
    return flow if words in ([], ["-"]) else None


def _grep(words: list[str], flow: str) -> str | None:
    options = [w for w in words if w.startswith("-")]
    patterns = [w for w in words if not w.startswith("-")]
    letters = "".join(o[1:] for o in options)
    if "v" not in letters or set(letters) - set("veE") or len(patterns) != 1 or letters.endswith("ev"):
        return None
    pattern = _regex(patterns[0], extended="E" in letters)
    if pattern is None:
        return None
    lines = flow.split("\n")[: -1 if flow.endswith("\n") else None]
    return "".join(f"{x}\n" for x in lines if not pattern.search(x))


def _regex(pattern: str, *, extended: bool) -> re.Pattern[str] | None:
    """A regular expression of grep or sed, where it means the same here."""
    if not (_EXTENDED if extended else _PLAIN).match(pattern) or "**" in pattern or pattern.startswith("*"):
        return None
    try:
        return re.compile(pattern.replace("[[:space:]]", r"\s").replace("$", r"\Z"))
    except re.error:
        return None


def _sed(words: list[str], flow: str) -> str | None:
    letters, scripts = "", []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if re.fullmatch(r"-[Erzs]+", word):
            letters += word[1:]
        elif re.fullmatch(r"-[Erzs]*e", word) and rest:
            letters += word[1:-1]
            scripts.append(rest.pop(0))
        elif word.startswith("-") or scripts:
            return None
        else:
            scripts.append(word)
    if not scripts:
        return None
    whole = "z" in letters
    script = ";".join(scripts)
    ends = flow.endswith("\n")
    if _JOIN_LINES.match(script) and not whole:
        script = _JOIN_LINES.sub("", script, count=1)
        found = _edit(script, flow.removesuffix("\n"), extended="E" in letters or "r" in letters)
        return None if found is None else found + ("\n" if ends else "")
    extended = "E" in letters or "r" in letters
    if whole:
        return _edit(script, flow, extended=extended)
    lines = [_edit(script, x, extended=extended) for x in flow.removesuffix("\n").split("\n")]
    kept = [x for x in lines if x != _DELETED]
    if any(x is None for x in kept):
        return None
    return "".join(f"{x}\n" for x in kept)


_DELETED = "\0deleted"


def _edit(script: str, text: str, *, extended: bool) -> str | None:
    """The commands ``s/a/b/``, ``s/a/b/g`` and ``/a/d`` on one buffer."""
    pos = 0
    while pos < len(script):
        if script[pos] in "; \n":
            pos += 1
            continue
        deletes = script[pos] == "/"
        start = pos if deletes else pos + 1
        sign = script[start : start + 1]
        parts = script[start + 1 :].split(sign) if sign else []
        if not sign or (not deletes and script[pos] != "s") or len(parts) < (2 if deletes else 3):
            return None
        pattern = _regex(parts[0], extended=extended)
        tail = parts[1 if deletes else 2]
        found = re.match(r"d?" if deletes else r"g?", tail)
        pos = start + 1 + sum(len(p) + 1 for p in parts[: 1 if deletes else 2]) + (found.end() if found else 0)
        if pattern is None or parts[0].endswith("\\") or script[pos : pos + 1] not in ("", ";", " ", "\n"):
            return None
        if deletes:
            if tail[:1] != "d":
                return None
            if pattern.search(text):
                return _DELETED
            continue
        if re.search(r"[\\&]", parts[1].replace("\\n", "")):
            return None
        new = parts[1].replace("\\n", "\n")
        text = pattern.sub(lambda _, new=new: new, text, count=0 if tail[:1] == "g" else 1)
    return text


def _tr(words: list[str], flow: str) -> str | None:
    names = {"\\n": "\n", "\\r": "\r", "\\t": "\t"}
    match [names.get(w, w) for w in words]:
        case ["-d", one] if len(one) == 1:
            return flow.replace(one, "")
        case [old, new] if len(old) == len(new) == 1:
            return flow.replace(old, new)
    return None


def _paste(words: list[str], flow: str) -> str | None:
    if words in (["-sd,"], ["-s", "-d,"], ["-s", "-d", ","], ["-sd", ","], ["-sd,", "-"], ["-s", "-d,", "-"]):
        return flow.removesuffix("\n").replace("\n", ",") + "\n"
    return None


_FILTERS: dict[str, Callable[[list[str], str], str | None]] = {
    "cat": _cat, "grep": _grep, "sed": _sed, "tr": _tr, "paste": _paste,
}  # fmt: skip
