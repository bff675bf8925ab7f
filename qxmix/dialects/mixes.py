"""The TYPE of a ``llama-quantize`` command line: its names, numbers, default types, and the shipped recipe of it."""

from __future__ import annotations

from qxmix.dialects.model import MIX_FLAGS, TypeFlag
from qxmix.quants import ENGINES, QUANT_TYPES, Engine, find, get
from qxmix.recipe.load import shipped_names

_ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "Q1_0_G128": "Q1_0"}
_DEFAULTS = {
    "Q2_K_S": ("Q2_K", 21),
    "Q3_K_S": ("Q3_K", 11),
    "Q3_K_M": ("Q3_K", 12),
    "Q3_K_L": ("Q3_K", 13),
    "Q4_K_S": ("Q4_K", 14),
    "Q4_K_M": ("Q4_K", 15),
    "Q5_K_S": ("Q5_K", 16),
    "Q5_K_M": ("Q5_K", 17),
    "IQ3_XS": ("IQ3_S", 22),
    "IQ3_M": ("IQ3_S", 27),
    "IQ2_S": ("IQ2_XS", 28),
    "IQ2_M": ("IQ2_S", 29),
    "IQ2_M_R4": ("IQ2_S_R4", 229),
    "IQ3_KL": ("IQ3_K", 146),
    "MXFP4_MOE": ("MXFP4", 38),
}
"""Mixes that are not called like the type they give by default, with that type and ``general.file_type``."""
COPY = "COPY"
"""The engines' word for carrying every tensor over."""
_NO_MIX = frozenset({"Q3_K", "Q4_K", "Q5_K", "IQ2_S_R4"})
"""Types whose file type is that of a mix with another name."""
MANY_EXPERTS = 8
"""From as many on, ik_llama.cpp's mixes below 3 bits treat the first layer's feed-forward part apart."""
_FEW_FLAGS: dict[str, tuple[TypeFlag, ...]] = {
    **dict.fromkeys(("IQ1_S_R4", "IQ1_M_R4", "IQ2_KT"), ("ffn_down",)),
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ2_KS"), ("attn_output",)),
    **dict.fromkeys(("IQ2_XXS_R4", "IQ2_XS_R4", "IQ2_M_R4"), ("attn_output",)),
}
"""Mixes of ik_llama.cpp that do not ask all of its flags, and those that they ask."""
FLOATS = frozenset({"F32", "F16", "BF16"})


def mix_name(text: str, engine: Engine) -> str | None:
    """The mix that a TYPE argument means, upper case; None where it means none to this engine."""
    upper = text.upper()
    if upper.isdecimal():
        number = int(upper)
        return next((n for n in _known(engine) if file_type(n, engine) == number), None)
    upper = _ALIASES.get(upper, upper)
    return upper if upper in _known(engine) else None


def default_type(mix: str) -> str:
    """Upper-case type that a mix gives to what it has no rule for."""
    return _DEFAULTS[mix][0] if mix in _DEFAULTS else get(mix).name


def asked_flags(mix: str) -> tuple[TypeFlag, ...]:
    """The flags that a mix of ik_llama.cpp asks inside of its rules."""
    return _FEW_FLAGS.get(mix, MIX_FLAGS)


def file_type(mix: str, engine: Engine) -> int | None:
    """``general.file_type`` of a mix; a copy keeps the one it has."""
    if mix in _DEFAULTS:
        return _DEFAULTS[mix][1]
    return None if mix == COPY else get(mix).ftype[ENGINES.index(engine)]


def mix_of(number: int | None, engine: Engine) -> str | None:
    """The mix with this ``general.file_type``."""
    return None if number is None else mix_name(str(number), engine)


def shipped_recipe(mix: str, engine: Engine) -> str | None:
    """Name of the recipe that decides like the engine's mix, or None where none is shipped."""
    name = f"{engine}/{mix.lower()}"
    return name if name in shipped_names() else None


def _known(engine: Engine) -> tuple[str, ...]:
    """All mixes of an engine, those with a name of their own first."""
    mixes = [n for n, (base, _) in _DEFAULTS.items() if (found := find(base)) and engine in found.engines]
    # Each engine calls the 4-bit floats otherwise.
    other = "MXFP4" if engine == "llama.cpp" else "MXFP4_MOE"
    types = [
        t.name
        for t in QUANT_TYPES
        if t.writable and engine in t.engines and t.ftype[ENGINES.index(engine)] is not None and t.name not in _NO_MIX
    ]
    return tuple(n for n in dict.fromkeys((*mixes, COPY, *types)) if n != other)
