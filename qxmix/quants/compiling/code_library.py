"""What becomes machine code of the functions that a kernel is made of, and what LLVM optimizes when.

Of a function that kernels call nothing is wanted but its text for LLVM.  Numba makes machine code of it, too, that
nobody runs, and optimizes all of it with each that calls it: a part of a part of an encoder four times.  Here

* a function that is put in the place of its call is optimized, goes into what calls it, and is optimized there once
  more.  Without the first 1.5 s of Q4_K's compile could be saved, but encoders were up to a tenth slower (IQ4_NL,
  Q3_K, Q4_K);
* one that is called is a unit: it is optimized by itself, and what calls it knows its name alone.  That saves a sixth
  of the compile, and the code is the same but for what LLVM finds small enough to put in the place of a call unasked.
"""

from __future__ import annotations

import functools
from typing import Any

from llvmlite.binding import Linkage
from numba.core import codegen
from numba.core.registry import cpu_target as numbas
from numba.core.runtime import rtsys


class CodeLibrary(codegen.JITCodeLibrary):  # type: ignore[misc]
    """The code of a function: as it was written where kernels call it, optimized with its pieces where Python does."""

    called = False
    """Whether Python calls it."""

    apart = False
    """Whether it is optimized by itself: before it goes into what calls it and is optimized there once more, or, where
    it is called as a function, once."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.units: dict[CodeLibrary, None] = {}
        """What it calls that is not in it yet; in order, without values."""
        self._made: CodeLibrary | None = None

    def for_python(self) -> None:
        """Take it for one that Python calls, and have in place what such code calls, new or from the cache."""
        self.called = True
        rtsys.initialize(numbas.target_context)

    def _set_compiled_object(self, value: bytes) -> None:
        self.for_python()
        super()._set_compiled_object(value)

    def finalize(self) -> None:
        """Make machine code of it where Python calls it."""
        if self.called:
            self._complete()
            self.take_in_units()
            self._finalize_final_module()
        self._finalized = True

    def object_code(self) -> bytes:
        """An object file of the function and of all that it calls."""
        whole = self._whole()
        whole.take_in_units()
        return bytes(self._codegen._tm.emit_object(whole._final_module))  # noqa: SLF001

    def _whole(self) -> CodeLibrary:
        """The function with all that goes into it, optimized; this library stays what it is."""
        whole: CodeLibrary = self._codegen.create_library(self.name)
        whole._final_module.link_in(self._final_module, preserve=True)
        whole._linking_libraries = self._linking_libraries
        whole._complete()
        whole._finalized = True
        return whole

    @property
    def optimized(self) -> CodeLibrary:
        """The whole of what kernels call, made once."""
        if self._made is None:
            self._made = self._whole()
        return self._made

    def _get_module_for_linking(self) -> Any:
        if not self.apart:
            return super()._get_module_for_linking()
        return super(CodeLibrary, self.optimized)._get_module_for_linking()

    @functools.cached_property
    def is_unit(self) -> bool:
        """Whether it is called, and not put in the place of the call."""
        own = [f for f in self._final_module.functions if not f.is_declaration and f.linkage == Linkage.external]
        return self.apart and not any(b"alwaysinline" in attribute for f in own for attribute in f.attributes)

    def _complete(self) -> None:
        # Those that call before those that are called: LLVM leaves out what nobody has asked for when it is linked.
        for library in reversed(self._called()):
            self._reload_init.update(library._reload_init)  # noqa: SLF001
            if library.is_unit:
                self.units[library] = None
                continue
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)  # noqa: SLF001
            if library.apart:
                self.units.update(library.optimized.units)
        self._optimize_final_module()

    def take_in_units(self) -> None:
        """Add the units, and theirs, each as it was optimized by itself."""
        left, seen = list(self.units), set(self.units)
        while left:
            unit = left.pop()
            self._final_module.link_in(unit._get_module_for_linking(), preserve=True)  # noqa: SLF001
            new = [each for each in unit.optimized.units if each not in seen]
            left += new
            seen.update(new)
        self._verify_declare_only_symbols()
        self._final_module.verify()

    def _called(self) -> list[CodeLibrary]:
        """The libraries it needs, directly or not, each behind those that it needs itself."""
        found: dict[CodeLibrary, None] = {}

        def visit(library: CodeLibrary) -> None:
            for needed in library._linking_libraries:
                if needed not in found:
                    if not needed.apart:
                        visit(needed)
                    found[needed] = None

        visit(self)
        return list(found)
