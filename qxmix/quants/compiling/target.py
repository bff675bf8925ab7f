"""A target of numba's for kernels alone: what numba knows there, and what of its code LLVM makes machine code of.

Numba's own target is left as it is for whatever else a process compiles.  Where this one differs saves more than half
of the processor time that the first use of an encoder takes:

* Machine code is made of what Python calls alone, and what kernels call is optimized once (``code_library``).
* Steps of numba's that kernels have no use for are left out (``pipeline``), and LLVM is given less than half of the
  text (``lowering``).
* Numba looks for what is new in all its registries with each function and each intrinsic, and imports whatever it has:
  random numbers, linear algebra, typed containers, cffi.  Kernels use none of these.
* What an operation gives for some types is found once; numba asks a dozen templates each time.
"""

from __future__ import annotations

from typing import Any

from numba.core import codegen, cpu, intrinsics, types, typing, utils
from numba.core.compiler_lock import global_compiler_lock
from numba.core.descriptors import TargetDescriptor
from numba.core.registry import CPUDispatcher
from numba.core.runtime import nrtdynmod
from numba.core.target_extension import CPU, dispatcher_registry, jit_registry, target_override, target_registry

from qxmix.quants.compiling.code_library import CodeLibrary
from qxmix.quants.compiling.lowering import Runtime
from qxmix.quants.compiling.pipeline import Pipeline

NAME = "qxmix"


class _Kernels(CPU):  # type: ignore[misc]
    """What numba knows the target by."""


class _Codegen(codegen.JITCPUCodegen):  # type: ignore[misc]
    _library_class = CodeLibrary


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
