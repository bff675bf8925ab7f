"""What to write instead of what a recipe has wrong."""

from __future__ import annotations

from qxmix.quants import ENGINES, QUANT_TYPES, find
from qxmix.recipe.schema import near
from qxmix.resources import data_dir


def instead(id_: str) -> str:
    """What to do about an error."""
    settings = {
        "expect": "widen or drop the rule's 'expect'",
        "limit-bpw": "raise or drop 'limits'",
        "limit-size": "raise or drop 'limits'",
        "requantize": "allow it with 'allow_requantize: true'",
        "fallback-error": "write types to try instead under 'fallback'",
    }
    return settings.get(id_, "mend what it names")


def unknown_type(text: str, words: tuple[str, ...] = ()) -> str:
    """That there is no such type, and what was probably meant."""
    upper = text.upper().replace("-", "_")
    meant = near(upper, [t.name for t in QUANT_TYPES if t.writable])
    mixes = [f"{engine}/{upper.lower()}" for engine in ENGINES if _is_mix(engine, upper.lower())]
    if find(upper) is None and mixes:
        other = f" or [{mixes[1]}]" if len(mixes) > 1 else ""
        a_type = meant.removeprefix("; did you mean ").removesuffix("?")
        return f"'{text}' is a mix of types, not a type; the mix is 'extends: [{mixes[0]}]'{other}, a type is {a_type}"
    hint = meant or near(text, list(words)) or "; 'qxmix types' lists them"
    return f"unknown type '{text}'{hint}"


def _is_mix(engine: str, name: str) -> bool:
    return name.isidentifier() and (data_dir("recipes") / engine / f"{name}.yaml").is_file()
