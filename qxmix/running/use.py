"""How a model is to be run, as a recipe's limits on memory say it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qxmix.quants import Engine, get
from qxmix.recipe.model import Limits

if TYPE_CHECKING:
    from qxmix.running.model import Use


def use_within(limits: Limits, engine: Engine) -> Use | None:
    """The use that limits are for; None where none is on memory."""
    if not limits.ctx:
        return None
    from qxmix.running.model import Use  # noqa: PLC0415 - for recipes that limit memory

    kind = get(limits.kv_type)
    return Use(engine, limits.ctx, kind, limits.parallel, vram=limits.max_vram, ram=limits.max_ram)
