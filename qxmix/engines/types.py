"""Which tensor types an engine knows, asked from the engine itself."""

from __future__ import annotations

from qxmix.engines.session import EngineProcess
from qxmix.quants import QUANT_TYPES, Engine


def runnable_types(engine: Engine) -> list[str]:
    """Names of the types that qxmix lists for ``engine`` and that the installed version of it has, too.

    Raises:
        RunError: the engine is missing or dies.

    """
    types = [t for t in QUANT_TYPES if engine in t.engines]
    with EngineProcess(engine) as process:
        names = process.type_names([t.id for t in types])
    return [t.name for t, name in zip(types, names, strict=True) if name]
