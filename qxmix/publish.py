"""What a file should be like that others find and load: its name, and how large it may be on the hub."""

from __future__ import annotations

import re
from collections.abc import Iterator

from qxmix.errors import Problem
from qxmix.plan import Plan
from qxmix.planning.naming import default_name
from qxmix.quants import QUANT_TYPES
from qxmix.recipe.sizes import HUB_NBYTES

_ODD = re.compile(r"[^A-Za-z0-9._-]")
_SIZE = re.compile(r"(?:^|-)(?:\d+x)?\d+(?:\.\d+)?[KMBTQ](?=[-.]|$)", re.IGNORECASE)
"""GGUF's size label: ``135M``, ``8x7B``, ``30B`` of ``30B-A3B``."""
_TYPES = {t.name for t in QUANT_TYPES} | {"FP16", "FP32"}
_MIX = re.compile(r"(?:UD-)?(I?Q\d)_(?:K_)?(?:XXS|XS|S|NL|M|L|XL)$|(?:UD-)?(I?Q\d)_K$", re.IGNORECASE)
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")


def name_faults(name: str) -> Iterator[str]:
    """What in a file's name is not as GGUF has it, ``NAME-SIZE-TYPE.gguf``, or not as the hub reads it.

    Source: "GGUF naming convention" of ggml's docs/gguf.md; the hub shows the type that it finds in a name.

    Args:
        name: Without folders; of a shard or of what shards have in common.

    """
    stem = _SHARD.sub("", re.sub(r"\.gguf$", "", name, flags=re.IGNORECASE))
    if odd := sorted(set(_ODD.findall(stem))):
        shown = ", ".join(repr(c) for c in odd)
        yield f"has {shown} in it, which not every tool and address takes; letters, digits, '.', '_' and '-' are safe"
    if not _SIZE.search(stem):
        yield "has no size in it, like 135M, 8x7B or 30B-A3B between dashes, by which people choose"
    if not any(part.upper() in _TYPES or _MIX.fullmatch(part) for part in re.split(r"[-.]", stem)):
        yield "has no type in it, like Q4_K_M between dashes, which the hub shows beside the file"


def publish_problems(plan: Plan) -> tuple[Problem, ...]:
    """What is to be mended before the output of a plan is published."""
    name = default_name(plan)
    text = "; give apply another with -o, or the recipe another 'name'"
    found = [Problem(name, fault + text, "warning", "publish-name") for fault in name_faults(name)]
    largest = max(f.nbytes for f in plan.files)
    if largest > HUB_NBYTES:
        asked = f"has {largest:,} bytes and the hub asks for at most {HUB_NBYTES:,} a file"
        text = f"{asked}; split it with --split-max-size hub"
        found.append(Problem(name, text, "note", "publish-size"))
    return tuple(p for p in found if p.id not in plan.recipe.silence)
