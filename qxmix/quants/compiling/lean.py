"""Numba's import without what it does there for others, more than a quarter of its processor time.

* Objects that live as long as the process were searched for circles again and again while they were made.
* Numba imports PyYAML for a file of settings, what asks all packages for extensions, and more of the kind, though
  nothing of these is asked for; and SciPy, 0.6 s, to look at its version.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_LATE = "html", "importlib.metadata", "uuid", "yaml"
"""Modules of which numba's import asks for nothing."""


class _Late(ModuleType):
    """Stands for a module, which is imported when something of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


@contextlib.contextmanager
def lean_import() -> Iterator[None]:
    """Import numba, and what is imported meanwhile, with less; modules that are there already stay."""
    stand_ins = {name: _Late(name) for name in _LATE if name not in sys.modules}
    none = set() if {"numba", "scipy"} & set(sys.modules) else {"scipy"}
    sys.modules.update(stand_ins)
    sys.modules.update(dict.fromkeys(none))  # type: ignore[arg-type] # what importlib takes for "there is none"
    try:
        with circles_let_be():
            import numba  # noqa: F401, PLC0415

            yield
            _count_as_old()
    finally:
        for name in none | {name for name, module in stand_ins.items() if sys.modules.get(name) is module}:
            del sys.modules[name]


@contextlib.contextmanager
def circles_let_be() -> Iterator[None]:
    """Put off Python's search for circles among objects, where many are made that live."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _count_as_old() -> None:
    """Put what there is among the objects that are searched least; otherwise all would be at the next occasion."""
    if not gc.get_freeze_count():
        gc.freeze()
        gc.unfreeze()
