"""What a plan may not exceed, as a recipe's file says it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from qxmix.errors import Place, Problem
from qxmix.quants import find
from qxmix.recipe.model import Limits
from qxmix.recipe.sizes import parse_size, parse_tokens

if TYPE_CHECKING:
    from qxmix.recipe.tree import Node

KV_TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "IQ4_NL", "Q5_0", "Q5_1", "Q6_0", "Q8_KV")
"""Types of the cache that the engines' programs take; the last two in ik_llama.cpp alone."""
_MEMORY, _USE = ("max_vram", "max_ram"), ("ctx", "kv_type", "parallel")


def kv_type(text: str) -> str:
    """The upper-case name of a type of the cache.

    Raises:
        ValueError: it is none.

    """
    found = find(text)
    if found is None or found.name not in KV_TYPES:
        raise ValueError(f"'{text}' is no type of a cache; there are {', '.join(KV_TYPES).lower()}")
    return found.name


def read_limits(name: str, parts: dict[str, Node], problems: list[Problem]) -> Limits:
    """The limits of a file.

    Args:
        name: Of the file.
        parts: What stands under ``limits``; the schema has checked its structure.
        problems: Grows by sizes that no model has, by no types of a cache, and by memory without a context.

    """
    given = _Given(name, parts, problems)
    memory, use = ([key for key in keys if key in parts] for keys in (_MEMORY, _USE))
    if memory and "ctx" not in parts:
        given.say(
            memory[0], "what running takes depends on the context; say for which one this holds, like 'ctx: 32768'"
        )
    if use and not memory:
        text = "says for what use limits on memory hold, and there are none; add max_vram or max_ram, or drop it"
        given.say(use[0], text)
    kind = "F16"
    try:
        kind = kv_type(str(parts["kv_type"].value)) if "kv_type" in parts else kind
    except ValueError as error:
        given.say("kv_type", str(error))
    bpw = float(cast("float", parts["max_bpw"].value)) if "max_bpw" in parts else None
    size, ram = (next(iter(given.sizes(key)), None) for key in ("max_size", "max_ram"))
    ctx = parse_tokens(cast("str | int", parts["ctx"].value)) if "ctx" in parts else 0
    parallel = int(cast("int", parts["parallel"].value)) if "parallel" in parts else 1
    return Limits(bpw, size, given.sizes("max_vram"), ram, ctx, kind, parallel)


class _Given(NamedTuple):
    """A file's limits, and what is wrong with them."""

    name: str
    parts: dict[str, Node]
    problems: list[Problem]

    def say(self, key: str, text: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(Place(self.name, self.parts[key].line, f"limits.{key}"), text))

    def sizes(self, key: str) -> tuple[int, ...]:
        """Bytes of one size or of a list of them; none where the key is missing."""
        if key not in self.parts:
            return ()
        value = self.parts[key].value
        written = [cast("str | int", n.value) for n in value] if isinstance(value, list) else [cast("str | int", value)]
        found = []
        for text in written:
            try:
                found.append(parse_size(text))
            except ValueError as error:
                self.say(key, str(error))
                continue
            if found[-1] == 0:
                self.say(key, f"'{text}' is no size {'a model' if key == 'max_size' else 'memory'} can have")
        return tuple(found)
