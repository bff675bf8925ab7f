"""A target of numba's for kernels alone: what numba knows there, and what of its code LLVM makes machine code of.

Numba's own target is left as it is for whatever else a process compiles.  Where this one differs saves a
quarter of the processor time that the first use of Q4_K took:

* Of a function that kernels call nothing is wanted but its text for LLVM, which goes into each of them.  Numba makes
  machine code of it, too, that nobody runs.  It is optimized before, all the same: without that another 1.5 s could be
  saved, but encoders were up to a tenth slower (IQ4_NL, Q3_K, Q4_K), Q6_K's decoder a quarter.
* Numba looks for what is new in all its registries with each function and each intrinsic, and imports whatever it has:
  random numbers, linear algebra, typed containers, cffi.  Kernels use none of these.
* What an operation gives for some types is found once; numba asks a dozen templates each time.
"""

from __future__ import annotations

import functools
from typing import Any

from llvmlite.binding import Linkage
from numba.core import codegen, cpu, intrinsics, types, typing, utils
from numba.core.compiler_lock import global_compiler_lock
from numba.core.descriptors import TargetDescriptor
from numba.core.registry import CPUDispatcher
from numba.core.registry import cpu_target as numbas
from numba.core.runtime import nrtdynmod, rtsys
from qxmix.quants.lowering import Runtime
from qxmix.quants.pipeline import Pipeline
from numba.core.target_extension import CPU, dispatcher_registry, jit_registry, target_override, target_registry

NAME = "qxmix"


class _Kernels(CPU):  # type: ignore[misc]
    """What numba knows the target by."""


class _Library(codegen.JITCodeLibrary):  # type: ignore[misc]
    """The code of a function: as it was written where kernels call it, optimized with its pieces where Python does."""

    called = False
    """Whether Python calls it."""

    apart = False
    """Whether it is optimized by itself: before it goes into what calls it and is optimized there once more, or, where
    it is called as a function, once."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._units: dict[_Library, None] = {}
        self._made: _Library | None = None

    def for_python(self) -> None:
        """Take it for one that Python calls, and have in place what such code calls, new or from the cache."""
        self.called = True
        rtsys.initialize(numbas.target_context)

    def _set_compiled_object(self, value: bytes) -> None:
        self.for_python()
        super()._set_compiled_object(value)

    def finalize(self) -> None:
        if self.called:
            self._complete()
            self._take_in_units()
            self._finalize_final_module()
        self._finalized = True

    def object_code(self) -> bytes:
        """An object file of the function and of all that it calls."""
        whole = self._whole()
        whole._take_in_units()
        return bytes(self._codegen._tm.emit_object(whole._final_module))  # noqa: SLF001

    def _whole(self) -> _Library:
        """The function with all that goes into it, optimized; this library stays what it is."""
        whole: _Library = self._codegen.create_library(self.name)
        whole._final_module.link_in(self._final_module, preserve=True)
        whole._linking_libraries = self._linking_libraries
        whole._complete()
        whole._finalized = True
        return whole

    @property
    def _optimized(self) -> _Library:
        """The whole of what kernels call, made once."""
        if self._made is None:
            self._made = self._whole()
        return self._made

    def _get_module_for_linking(self) -> Any:
        if not self.apart:
            return super()._get_module_for_linking()
        return super(_Library, self._optimized)._get_module_for_linking()

    @functools.cached_property
    def _is_unit(self) -> bool:
        """Whether it is called, and not put in the place of the call."""
        own = [f for f in self._final_module.functions if not f.is_declaration and f.linkage == Linkage.external]
        return self.apart and not any(b"alwaysinline" in attribute for f in own for attribute in f.attributes)

    def _complete(self) -> None:
        # Those that call before those that are called: LLVM leaves out what nobody has asked for when it is linked.
        for library in reversed(self._called()):
            self._reload_init.update(library._reload_init)  # noqa: SLF001
            if library._is_unit:
                self._units[library] = None
                continue
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)  # noqa: SLF001
            if library.apart:
                self._units.update(library._optimized._units)
        self._optimize_final_module()

    def _take_in_units(self) -> None:
        """Add the units, and theirs, each as it was optimized by itself."""
        left, seen = list(self._units), set(self._units)
        while left:
            unit = left.pop()
            self._final_module.link_in(unit._get_module_for_linking(), preserve=True)
            new = [each for each in unit._optimized._units if each not in seen]
            left += new
            seen.update(new)
        self._verify_declare_only_symbols()
        self._final_module.verify()

    def _called(self) -> list[_Library]:
        """The libraries it needs, directly or not, each behind those that it needs itself."""
        found: dict[_Library, None] = {}

        def visit(library: _Library) -> None:
            for needed in library._linking_libraries:
                if needed not in found:
                    if not needed.apart:
                        visit(needed)
                    found[needed] = None

        visit(self)
        return list(found)


class _Codegen(codegen.JITCPUCodegen):  # type: ignore[misc]
    _library_class = _Library


class _Typing(typing.Context):  # type: ignore[misc]
    """Numba's knowledge of types, as far as kernels go."""

    def init(self) -> None:
        self._found: dict[Any, tuple[Any, Any, Any]] = {}

    def refresh(self) -> None:
        with target_override(NAME):
            super().refresh()

    def load_additional_registries(self) -> None:
        from numba.core.typing import enumdecl, mathdecl, npydecl  # noqa: PLC0415 - what registers something

        for module in (enumdecl, mathdecl, npydecl):
            self.install_registry(module.registry)

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        if type(func) is not types.Function or kws:
            return super().resolve_function_type(func, args, kws)
        # By identity: objects of one function are equal, but each knows only what it was itself asked.
        key = id(func), args
        _, signature, code = self._found.get(key, (None, None, None))
        # Numba's own target, whose functions share the templates, may have put its code in the place of that for here.
        if signature is None or func.get_impl_key(signature) is not code:
            signature = super().resolve_function_type(func, args, kws)
            if signature is not None:
                self._found[key] = func, signature, func.get_impl_key(signature)
        return signature


class _Context(cpu.CPUContext):  # type: ignore[misc]
    """Numba's knowledge of how operations are built, as far as kernels go."""

    @global_compiler_lock  # type: ignore[untyped-decorator]
    def init(self) -> None:
        self.is32bit = utils.MACHINE_BITS == 32  # noqa: PLR2004
        self._internal_codegen = _Codegen("qxmix.exec")

    def load_additional_registries(self) -> None:
        # What registers something by its import.
        from numba.core import inline_closurecall, optional  # noqa: F401, PLC0415
        from numba.cpython import (  # noqa: F401, PLC0415
            builtins,
            enumimpl,
            iterators,
            mathimpl,
            numbers,
            rangeobj,
            slicing,
            tupleobj,
        )
        from numba.misc import literal  # noqa: F401, PLC0415
        from numba.np import arrayobj, npyimpl  # noqa: F401, PLC0415

        for module in (mathimpl, npyimpl):
            self.install_registry(module.registry)

    @utils.threadsafe_cached_property  # type: ignore[untyped-decorator]
    def nrt(self) -> Any:
        """How kernels keep memory."""
        return Runtime(self, self.enable_nrt)

    def post_lowering(self, mod: Any, library: Any) -> None:
        if self.is32bit:
            intrinsics.fix_divmod(mod)
        library.add_linking_library(TARGET.runtime)

    def create_cpython_wrapper(self, library: Any, *arguments: Any, **options: Any) -> None:
        library.for_python()
        super().create_cpython_wrapper(library, *arguments, **options)

    def get_executable(self, library: Any, fndesc: Any, env: Any) -> Any:
        """What Python calls; where it does not, only something to know the function by."""
        library.apart = not library.called
        return super().get_executable(library, fndesc, env) if library.called else library


class _Target(TargetDescriptor):  # type: ignore[misc]
    options = cpu.CPUTargetOptions

    @utils.threadsafe_cached_property  # type: ignore[untyped-decorator]
    def typing_context(self) -> Any:
        return _Typing()

    @utils.threadsafe_cached_property  # type: ignore[untyped-decorator]
    def target_context(self) -> Any:
        return _Context(self.typing_context, NAME)

    @utils.threadsafe_cached_property  # type: ignore[untyped-decorator]
    def runtime(self) -> Any:
        """Numba's functions that count references."""
        return nrtdynmod.compile_nrt_functions(self.target_context)


TARGET = _Target(NAME)


class Dispatcher(CPUDispatcher):  # type: ignore[misc]
    """Numba's object of a function of this target."""

    targetdescr = TARGET

    def __init__(self, function: Any, **options: Any) -> None:
        super().__init__(function, pipeline_class=Pipeline, **options)

    def compile(self, sig: Any) -> Any:
        """What Python calls for such arguments, or what kernels know it by."""
        with target_override(NAME):
            return super().compile(sig)

    def add_overload(self, cres: Any) -> None:
        """Note what was compiled; numba's own code would take it for a function that Python may call."""
        if cres.library.called:
            super().add_overload(cres)
        else:
            self.overloads[tuple(cres.signature.args)] = cres


def _jit(**options: Any) -> Any:
    """What numba makes dispatchers of functions of its own with."""
    return lambda function: Dispatcher(function, targetoptions=options)


target_registry[NAME] = _Kernels
dispatcher_registry[_Kernels] = Dispatcher
jit_registry[_Kernels] = _jit
