"""What a plan may not exceed, as a recipe's file says it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qxmix.errors import Place, Problem
from qxmix.recipe.model import Limits
from qxmix.recipe.sizes import parse_size

if TYPE_CHECKING:
    from qxmix.recipe.tree import Node


def read_limits(name: str, parts: dict[str, Node], problems: list[Problem]) -> Limits:
    """The limits of a file.

    Args:
        name: Of the file.
        parts: What stands under ``limits``; the schema has checked its structure.
        problems: Grows by sizes that no model has.

    """
    size = parts.get("max_size")
    n_bytes = parse_size(size.value) if size and isinstance(size.value, str | int) else None
    if size and n_bytes == 0:
        text = f"'{size.value}' is no size a model can have"
        problems.append(Problem(Place(name, size.line, "limits.max_size"), text))
    bpw = parts.get("max_bpw")
    return Limits(float(cast("float", bpw.value)) if bpw else None, n_bytes)
