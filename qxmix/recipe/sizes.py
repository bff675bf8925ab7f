"""Sizes as people write them."""

from __future__ import annotations

import re

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\Z")
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}
HUB_NBYTES = 200 * 1000**3
"""Bytes of a file above which Hugging Face's hub asks to split it; above 500 GB it takes none.

Source: ``docs/hub/storage-limits.md`` of huggingface/hub-docs at 003e04e; its older states have 20 and 50 GB."""
_FORGOTTEN = 1000
"""Plain numbers below are meant in GiB: no model, no memory and no file has so few bytes."""
_TOKENS = re.compile(r"([0-9]{1,12})\s*([kKmM]?)\Z")
_PREFIXES = ((1, "K"), (2, "M"), (3, "G"), (4, "T"))


def parse_size(text: str | int) -> int:
    """Bytes of ``350GiB``, ``24GB`` (10^9), ``1.5g`` (as llama.cpp: 2^30) or a plain number.

    Raises:
        ValueError: it is not a size, or so few bytes that the unit was forgotten.

    """
    found = _SIZE.match(str(text).strip())
    unit = found[2].lower() if found else "?"
    power = _POWERS.get(unit[:1], 0)
    if found is None or unit.removeprefix(unit[:1] if power else "") not in ("", "b", "ib") or unit == "ib":
        raise ValueError(f"'{text}' is no size; write bytes, or a number with MB, MiB, GB or GiB")
    base = 1000 if power and unit[1:] == "b" else 1024
    whole, _, part = found[1].partition(".")
    # Exact for any number of digits, which a float is not.
    exact: int = int(whole + part) * base**power // 10 ** len(part)
    if 0 < exact < _FORGOTTEN and not unit:
        raise ValueError(f"{found[0]} is {exact} bytes; did you mean {found[0]}GiB?")
    return exact


def parse_tokens(text: str | int) -> int:
    """Tokens of ``32k`` (32,768), ``1m`` or a plain number.

    Raises:
        ValueError: it is no number of tokens, or none at all.

    """
    found = _TOKENS.match(str(text).strip())
    n_tokens = int(found[1]) * 1024 ** _POWERS.get(found[2].lower(), 0) if found else 0
    if n_tokens < 1:
        raise ValueError(f"'{text}' is no number of tokens; write one like 32768 or 32k")
    return n_tokens


def size_text(nbytes: int) -> str:
    """The shortest way to write exactly so many bytes: ``24GiB``, ``24GB``, ``1234567``."""
    units = (
        (f"{prefix}{end}", base**power) for end, base in (("iB", 1024), ("B", 1000)) for power, prefix in _PREFIXES
    )
    found = [f"{nbytes // scale}{unit}" for unit, scale in units if nbytes and nbytes % scale == 0]
    return min((*found, str(nbytes)), key=len)
