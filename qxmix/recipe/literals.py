r"""What a tensor's name must contain for a pattern to be found in it, so that not each rule is tried on each tensor.

A recipe may have a rule for each of thousands of tensors.  Names are made of components between dots, and most patterns
spell some of them out: ``^blk\.3\.ffn_down`` is found only in names with the components ``^.blk.3`` (``^`` and ``$``
stand for the ends of the name).  A pattern with alternatives needs one of several; one that says too little, or has
syntax that is not read here, may be found anywhere.
"""

from __future__ import annotations

import re
from functools import lru_cache

_ANY = "\0"
"""Some text, or none."""
_MOST = 64
"""Most alternatives of one pattern that are told apart."""
_CLASS = re.compile(r"\[(\^?)([^\[\]\\^]+)\]")
_CHARACTER = re.compile(r"[\w\-/ :]", re.ASCII)
_SIMPLE_ESCAPES = "dDwWsSbB"


class _UnreadError(Exception):
    """The pattern has syntax that is not read here."""


@lru_cache(maxsize=65536)
def required(pattern: str) -> frozenset[str] | None:
    """Sequences of components of which every name must contain one in which the pattern is found; None: any name.

    Args:
        pattern: A regular expression.

    Returns:
        Components joined by dots, the first may be ``^``, the last ``$``, as :func:`sequences` gives those of a name.

    """
    if pattern.count("(") > _MOST:
        return None
    try:
        spelled, end = _alternatives(pattern, 0)
    except _UnreadError:
        return None
    if end != len(pattern):
        return None
    keys = {_key(text) for text in spelled}
    return frozenset(keys) if "" not in keys else None


def sequences(name: str) -> list[str]:
    """All runs of whole components of a name, its ends included: ``^.blk``, ``3.ffn_up``, ``weight.$``, ..."""
    # In a pattern the end of a name is also in front of a line feed there.
    texts = dict.fromkeys((name, name.removesuffix("\n")))
    ends = [["^", *text.split("."), "$"] for text in texts]
    runs = (".".join(parts[a:b]) for parts in ends for a in range(len(parts)) for b in range(a + 1, len(parts) + 1))
    return list(dict.fromkeys(runs))


def _key(spelled: str) -> str:
    """The longest run of whole components in a text with gaps."""
    if spelled.count("^") > 1 or spelled.count("$") > 1:
        return ""
    best = ""
    for run in spelled.split(_ANY):
        parts = run.split(".")
        whole = parts[0 if parts[0] == "^" else 1 : None if parts[-1] == "$" else -1]
        best = max(best, ".".join(whole), key=len)
    return best if best not in ("^", "$") else ""


def _alternatives(pattern: str, at: int) -> tuple[list[str], int]:
    """All texts of ``a|b|...`` from a position to the end or the closing parenthesis, and where that is."""
    found: list[str] = []
    while True:
        texts, at = _sequence(pattern, at)
        found += texts
        if len(found) > _MOST:
            raise _UnreadError
        if at == len(pattern) or pattern[at] == ")":
            return found, at
        at += 1


def _sequence(pattern: str, at: int) -> tuple[list[str], int]:
    texts = [""]
    while at < len(pattern) and pattern[at] not in "|)":
        atom, at = _atom(pattern, at)
        if at < len(pattern) and pattern[at] in "*+?":
            atom, at = [_ANY], at + 1
            if at < len(pattern) and pattern[at] in "?+":
                at += 1
        if len(texts) * len(atom) > _MOST:
            atom = [_ANY]
        texts = [a + b for a in texts for b in atom]
    return texts, at


def _atom(pattern: str, at: int) -> tuple[list[str], int]:
    """The texts of one character, class, group or anchor, and the position behind it."""
    char = pattern[at]
    if char == "(":
        return _group(pattern, at)
    if char == "[" and (found := _CLASS.match(pattern, at)):
        return ([_ANY] if found[1] else _members(found[2])), found.end()
    if char == "\\" and (escaped := pattern[at + 1 : at + 2]):
        if escaped in _SIMPLE_ESCAPES:
            return [_ANY], at + 2
        if escaped in ".-_/":
            return [escaped], at + 2
    # An anchor is a component of its own; where it cannot hold, what comes of it is found in no name.
    text = {".": _ANY, "^": "^.", "$": ".$"}.get(char, char if _CHARACTER.match(char) else "")
    if not text:
        raise _UnreadError
    return [text], at + 1


def _group(pattern: str, at: int) -> tuple[list[str], int]:
    inside = 3 if pattern.startswith("(?:", at) else 1
    if inside == 1 and pattern.startswith("(?", at):
        raise _UnreadError
    texts, end = _alternatives(pattern, at + inside)
    if end == len(pattern):
        raise _UnreadError
    return texts, end + 1


def _members(text: str) -> list[str]:
    """The characters of a class, or a gap where they are many."""
    members: list[str] = []
    at = 0
    while at < len(text):
        if at + 2 < len(text) and text[at + 1] == "-":
            first, last = ord(text[at]), ord(text[at + 2])
            if first > last:
                raise _UnreadError
            members += map(chr, range(first, min(last, first + _MOST) + 1))
            at += 3
        else:
            members.append(text[at])
            at += 1
    usable = len(members) <= _MOST and all(_CHARACTER.match(m) or m == "." for m in members)
    return list(dict.fromkeys(members)) if usable else [_ANY]
