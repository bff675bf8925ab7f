"""What is wrong with a word that nobody can be sure of, and what to write instead."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qxmix.dialects.proof.expand import Argument

_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"
_QUOTES = "\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb\u2032\u2033\uff02\uff07\u00b4"
_INVISIBLE = re.compile("[\u00a0\u2000-\u200f\u2028-\u202f\u205f\u2060\u3000\ufeff\u00ad\x00-\x08\x0b-\x1f\x7f]")


_SHOWN = 60
"""Most characters of a word that a message quotes."""


def short(text: str) -> str:
    """A word as a message quotes it."""
    one = text.replace("\n", " ")
    return one if len(one) <= _SHOWN else one[: _SHOWN - 3] + "..."


def lookalike(text: str) -> str:
    """What is wrong with a word that has characters in it that look like others; empty if nothing is."""
    if text[:1] in _DASHES and text:
        code = f"U+{ord(text[0]):04X}"
        meant = short(text.lstrip(_DASHES + "-"))
        return f"'{short(text)}' begins with a dash that is no hyphen ({code}); write --{meant}"
    if variable := re.search(r"%\w+%", text):
        return f"'{variable[0]}' is a variable of cmd.exe that this text does not tell; put its value in its place"
    if found := next((c for c in text if c in _QUOTES), ""):
        code = f"U+{ord(found):04X}"
        return f"'{short(text)}' has a quotation mark that a shell does not know ({found}, {code}); write ' or \""
    if hit := _INVISIBLE.search(text):
        shown = short(_INVISIBLE.sub("?", text))
        return f"'{shown}' has a character in it that cannot be seen (U+{ord(hit[0]):04X}, shown as ?); type it anew"
    return ""


def torn(option: str, value: str, behind: Sequence[Argument]) -> str:
    """What is wrong with a rule that is cut into words around its equals sign; empty for others."""
    joined = value
    for word in behind[:2] if option in ("--custom-q", "--tensor-type") else ():
        if not joined.endswith("=") and not word.text.startswith("="):
            break
        joined += word.text
    return f"white space cuts a rule into words; write {short(joined)}" if joined != value else ""


def unknown(argument: Argument) -> str:
    """Why the text does not tell what a word is, and what to do."""
    written = argument.unknown
    if not written.startswith(("$", "`", "~", "%", "<", ">", "@")):
        said = short(argument.text)
        return f"a shell may put other words in for '{short(written)}' in '{said}'; put the word into single quotes"
    return f"'{short(written)}' is not told by this text; {advice(written)}"


def advice(written: str) -> str:
    """How to make an expansion known."""
    if name := name_of(written):
        return f"put its value in its place, or give it with --set {name}=VALUE"
    return "put in its place what it stands for"


def name_of(written: str) -> str:
    """The variable that an expansion is of; empty for others."""
    found = re.fullmatch(r"\$\{?(\w+)(?::?-[^}]*|\^\^|,,)?\}?|\$env:(\w+)|%(\w+)%?", written)
    return (found[1] or found[2] or found[3]) if found else ""
