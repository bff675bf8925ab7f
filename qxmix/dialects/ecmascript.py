r"""Whether a pattern means the same to the engines and here.

Both compile it as ``std::regex``, ECMAScript by libstdc++, and stop at what that throws on; qxmix searches with the
``regex`` package.  What is let through here is the part that both read in one way::

    pattern     = alternative ("|" alternative)*
    alternative = (assertion | atom quantifier?)*
    assertion   = "^" | "$" | "\b" | "\B" | "(?=" pattern ")" | "(?!" pattern ")"
    atom        = character | "." | escape | class | "(" pattern ")" | "(?:" pattern ")"
    quantifier  = ("*" | "+" | "?" | "{" n ("," m?)? "}") "?"?

So no quantifier behind another, none at the start, no ``{`` that is not one, no escape of another letter or number.
"""

from __future__ import annotations

import re

_MOST = 1000
"""Largest count of a quantifier: libstdc++ copies the atom as often and stops at 100,000 states."""
_SHOWN = 12
_GROUP = re.compile(r"\((?:\?[:=!])?(?!\?)")
_QUANTIFIER = re.compile(r"(?:[*+?]|\{(\d{1,9})(?:,(\d{0,9}))?\})\??")
_ASSERTION = re.compile(r"[|^$]|\\[bB]")
_PUNCTUATION = r"\\[ -/:-@\[-`{-~]"
_ESCAPE = rf"\\[dDwWsS]|\\x[0-9a-fA-F]{{2}}|\\u[0-9a-fA-F]{{4}}|{_PUNCTUATION}"
_SINGLE = rf"(?:{_PUNCTUATION}|[ -,.-Z^-~])"
_ITEM = rf"(?:{_SINGLE}-{_SINGLE}|{_SINGLE}|\\[dDwWsS]|\[:(?:alnum|alpha|digit|lower|upper|xdigit|space|punct):\])"
_ATOM = re.compile(rf"{_ESCAPE}|\[\^?(?:-|-?(?!\^){_ITEM}(?:{_ITEM})*-?)\]|[^\\^$*+?()\[{{|]")


def ecmascript_fault(pattern: str) -> str:
    """Why the engines do not take a pattern, or not as it is read here; empty if they do."""
    pos, repeatable = 0, False
    groups: list[bool] = []
    while pos < len(pattern):
        if found := _QUANTIFIER.match(pattern, pos):
            if not repeatable or max(int(n or 0) for n in found.groups("0")) > _MOST:
                return _told(pattern, pos)
            repeatable = False
        elif found := _GROUP.match(pattern, pos):
            groups.append(found[0] in ("(", "(?:"))
            repeatable = False
        elif groups and pattern[pos] == ")":
            repeatable = groups.pop()
            pos += 1
            continue
        elif found := _ASSERTION.match(pattern, pos):
            repeatable = False
        elif pattern[pos] != ")" and (found := _ATOM.match(pattern, pos)):
            repeatable = found[0].isascii()  # to the engines another character is several
        else:
            return _told(pattern, pos)
        pos = found.end()
    return "a ( is opened in the pattern and never closed" if groups else ""


def _told(pattern: str, pos: int) -> str:
    shown = pattern[pos : pos + _SHOWN] + ("..." if len(pattern) > pos + _SHOWN else "")
    meant = f"; for the character write \\{pattern[pos]}" if pattern[pos] in "{}[]()*+?" else ""
    return f"the engines' regular expressions (ECMAScript) take no '{shown}' at position {pos}{meant}"
