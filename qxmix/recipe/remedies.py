"""What to write instead of what a recipe has wrong."""

from __future__ import annotations

import difflib

from qxmix.quants import ENGINES, QUANT_TYPES, find
from qxmix.resources import data_dir


def nearest(word: str, known: list[str]) -> str:
    """The known word that is close to this one, capitals or not; empty where none is."""
    close = difflib.get_close_matches(word, known, 1, 0.6) or difflib.get_close_matches(
        word.lower(), [k for k in known if k.islower()], 1, 0.6
    )
    return close[0] if close else ""


def near(word: str, known: list[str]) -> str:
    """``; did you mean 'x'?`` where a known word is close, else an empty string."""
    close = nearest(word, known)
    return f"; did you mean '{close}'?" if close else ""


def instead(id_: str) -> str:
    """What to do about an error."""
    settings = {
        "expect": "widen or drop the rule's 'expect'",
        "limit-bpw": "raise or drop 'limits'",
        "limit-size": "raise or drop 'limits'",
        "limit-vram": "raise or drop 'limits'",
        "limit-ram": "raise or drop 'limits'",
        "requantize": "allow it with 'allow_requantize: true'",
        "fallback-error": "write types to try instead under 'fallback'",
    }
    return settings.get(id_, "mend what it names")


def unknown_type(text: str, words: tuple[str, ...] = ()) -> str:
    """That there is no such type, and what was probably meant."""
    upper = text.upper().replace("-", "_")
    known = [t.name for t in QUANT_TYPES if t.writable]
    mixes = [f"{engine}/{upper.lower()}" for engine in ENGINES if _is_mix(engine, upper.lower())]
    if find(upper) is None and mixes:
        other = f" or [{mixes[1]}]" if len(mixes) > 1 else ""
        a_type = f", a type is '{close}'" if (close := nearest(upper, known)) else ""
        return f"'{text}' is a mix of types, not a type; the mix is 'extends: [{mixes[0]}]'{other}{a_type}"
    hint = near(upper, known) or near(text, list(words)) or "; 'qxmix types' lists them"
    return f"unknown type '{text}'{hint}"


def _is_mix(engine: str, name: str) -> bool:
    return name.isidentifier() and (data_dir("recipes") / engine / f"{name}.yaml").is_file()
