"""The words that ``llama-quantize`` takes for its TYPE and for types, as its own tables list them.

Apart from what the translation knows of them; a test holds ik_llama.cpp's to what the program prints of itself.
"""

from __future__ import annotations

import re

from qxmix.quants import Engine, find

_SHARED = """
Q4_0=2 Q4_1=3 Q5_0=8 Q5_1=9 IQ2_XXS=19 IQ2_XS=20 IQ2_S=28 IQ2_M=29 IQ1_S=24 IQ1_M=31 Q2_K=10 Q2_K_S=21 IQ3_XXS=23
IQ3_S=26 IQ3_M=27 Q3_K=12 IQ3_XS=22 Q3_K_S=11 Q3_K_M=12 Q3_K_L=13 IQ4_NL=25 IQ4_XS=30 Q4_K=15 Q4_K_S=14 Q4_K_M=15
Q5_K=17 Q5_K_S=16 Q5_K_M=17 Q6_K=18 Q8_0=7 F16=1 BF16=32 F32=0 COPY=-1
"""
_OPTIONS: dict[Engine, str] = {
    "llama.cpp": _SHARED + "Q1_0=40 Q2_0=41 MXFP4_MOE=38 TQ1_0=36 TQ2_0=37 NVFP4=39",
    "ik_llama.cpp": _SHARED + """
Q6_0=135 MXFP4=38 IQ2_XXS_R4=219 IQ2_XS_R4=220 IQ2_M_R4=229 IQ1_S_R4=224 IQ1_M_R4=231 IQ1_BN=136 IQ2_BN=137
IQ2_BN_R4=337 Q2_K_R4=210 IQ3_KT=152 IQ4_KT=153 IQ3_XXS_R4=223 IQ3_S_R4=226 Q3_K_R4=211 IQ4_NL_R4=225 IQ4_XS_R8=230
Q4_0_R8=202 Q5_0_R4=208 Q6_0_R4=335 Q8_0_R8=207 MXFP4_R8=351 Q8_KV=149 IQ4_KS=145 IQ4_KS_R4=345 IQ5_KS_R4=350
IQ4_KSS=148 IQ5_KS=150 IQ2_K=138 IQ2_K_R4=338 IQ2_KS=147 IQ1_KT=156 IQ2_KT=151 IQ2_KL=155 IQ3_KS=154 IQ3_K=139
IQ3_K_R4=339 IQ3_KL=146 IQ4_K=140 IQ4_K_R4=340 IQ5_K=141 IQ5_K_R4=341 IQ6_K=142 Q4_K_R4=214 Q5_K_R4=216 Q6_K_R4=218
Q8_K_R8=399 Q8_KV_R8=398 Q4_0_4_4=33 Q4_0_4_8=34 Q4_0_8_8=35 BF16_R16=232
""",
}  # fmt: skip
"""Names and ``general.file_type``, as ``llama-quantize --help`` of each lists them."""
_SAME = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}

_DEFAULTS = {
    "IQ3_XS": "IQ3_S", "IQ3_M": "IQ3_S", "IQ2_S": "IQ2_XS", "IQ2_M": "IQ2_S", "IQ2_M_R4": "IQ2_S_R4", "IQ3_KL": "IQ3_K",
    "MXFP4_MOE": "MXFP4",
}  # fmt: skip


def options(engine: Engine) -> dict[str, int]:
    """TYPE words and their numbers."""
    return {name: int(number) for name, _, number in (w.partition("=") for w in _OPTIONS[engine].split())}


def default_type(mix: str) -> str:
    """The type that the engines give to what a mix has no rule for."""
    return _DEFAULTS.get(mix) or re.sub(r"^(Q\d_K)_[SML]\Z", r"\1", mix)


def number_prefix(text: str) -> int | None:
    """The number that C's ``stoi`` reads at the start of a text."""
    found = re.match(r"[ \t\n\r\f\v]*([+-]?[0-9]{1,9})", text)
    return int(found[1]) if found else None


def read_mix(text: str, engine: Engine) -> str | None:
    """The mix that a TYPE word means to the engine: by name in any case, else by the number it begins with."""
    known = options(engine)
    upper = text.upper()
    if upper in known:
        return _SAME.get(upper, upper)
    number = number_prefix(text)
    found = next((n for n, value in known.items() if value == number), None)
    return None if found is None else _SAME.get(found, found)


def read_type(text: str, engine: Engine, *, loosely: bool) -> str | None:
    """The upper-case type that a word means to the engine; ``loosely``: in any case, where the engine wants its own."""
    if engine == "ik_llama.cpp" and text.lower() == "q1_0_g128":
        return "Q1_0" if loosely or text.islower() else None
    found = find(text)
    if found is None or engine not in found.engines or (engine == "ik_llama.cpp" and found.name == "Q1_0"):
        return None
    if loosely or engine == "llama.cpp":
        return found.name
    wanted = re.sub(r"^(q\d)_k\Z", r"\1_K", found.name.lower()).replace("q8_kv", "q8_KV")
    return found.name if text == wanted else None
