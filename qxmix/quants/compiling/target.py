"""A target of numba's for kernels alone: what numba knows there, and what of its code LLVM makes machine code of.

Numba's own target is left as it is for whatever else a process compiles.  Where this one differs saves more than half
of the processor time that the first use of an encoder takes:

* Machine code is made of what Python calls alone, and what kernels call is optimized once (``code_library``).
* Steps of numba's that kernels have no use for are left out (``pipeline``), and LLVM is given less than half of the
  text (``lowering``).
* Numba looks for what is new in all its registries with each function and each intrinsic, and imports whatever it has:
  random numbers, linear algebra, typed containers, cffi.  Kernels use none of these.
* What an operation gives for some types is found once; numba asks a dozen templates each time, those of arrays first.
"""

from __future__ import annotations

import contextlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numba.core import codegen, cpu, errors, intrinsics, types, typing, utils
from numba.core.compiler_lock import global_compiler_lock
from numba.core.descriptors import TargetDescriptor
from numba.core.registry import CPUDispatcher
from numba.core.runtime import nrtdynmod
from numba.core.target_extension import CPU, dispatcher_registry, jit_registry, target_override, target_registry
from numba.core.typing import npydecl
from numba.np import numpy_support

from qxmix.quants.compiling.code_library import CodeLibrary
from qxmix.quants.compiling.lowering import Runtime
from qxmix.quants.compiling.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

NAME = "qxmix"


def _entries(registries: Iterable[Any]) -> int:
    return sum(len(each) for registry in registries for each in vars(registry).values() if isinstance(each, list))


def array_type(array: NDArray[Any]) -> Any:
    """What numba takes an array for; numba's own way to it imports ``numpy.ma``."""
    kind, layout = numpy_support.from_dtype(array.dtype), numpy_support.map_layout(array)
    return types.Array(kind, array.ndim, layout, readonly=not array.flags.writeable)


class _Kernels(CPU):  # type: ignore[misc]
    """What numba knows the target by."""


class _Codegen(codegen.JITCPUCodegen):  # type: ignore[misc]
    _library_class = CodeLibrary


class _Typing(typing.Context):  # type: ignore[misc]
    """Numba's knowledge of types, as far as kernels go."""

    _known = -1
    """How many entries of the registries have been looked at."""

    def init(self) -> None:
        self._found: dict[Any, tuple[Any, Any, Any]] = {}

    def refresh(self) -> None:
        if self._known != _entries(self._registries):
            with target_override(NAME):
                super().refresh()
            self._known = _entries(self._registries)

    def load_additional_registries(self) -> None:
        from numba.core.typing import enumdecl, mathdecl  # noqa: PLC0415 - what registers something

        for module in (enumdecl, mathdecl, npydecl):
            self.install_registry(module.registry)

    def resolve_value_type(self, val: Any) -> Any:
        if isinstance(val, np.ufunc):
            TARGET.target_context.build_ufuncs()
        if isinstance(val, np.ndarray):
            return array_type(val)
        if isinstance(val, ModuleType) or callable(val):
            found = getattr(val, "_numba_type_", None) or self._get_global_type(val)
            if found is not None:
                return found
        return super().resolve_value_type(val)

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        if type(func) is not types.Function or kws:
            return super().resolve_function_type(func, args, kws)
        # By identity: objects of one function are equal, but each knows only what it was itself asked.
        key = id(func), args
        _, signature, code = self._found.get(key, (None, None, None))
        # Numba's own target, whose functions share the templates, may have put its code in the place of that for here.
        if signature is None or func.get_impl_key(signature) is not code:
            signature = self._first_match(func, args) or super().resolve_function_type(func, args, kws)
            if signature is not None:
                self._found[key] = func, signature, func.get_impl_key(signature)
        return signature

    def _first_match(self, func: Any, args: Any) -> Any:
        """Signature of the first template that takes the arguments; None where there is none, or one may be an array.

        Numba asks the rules of arrays first, and words why each template does not match, for an error that there will
        hardly be.
        """
        arrays = any(isinstance(each, types.ArrayCompatible) for each in args)
        plain = tuple(types.misc.unliteral(each) for each in args)
        for kind in utils.order_by_target_specificity(_Kernels, func.templates, fnkey=func.key[0]):
            if issubclass(kind, npydecl.NumpyRulesArrayOperator):
                if arrays:
                    TARGET.target_context.build_ufuncs()
                    return None
                continue
            template = kind(self)
            for given in (args, plain) if template.prefer_literal else (plain, args):
                with contextlib.suppress(errors.NumbaError):
                    signature = template.apply(given, {})
                    if signature is not None:
                        func._impl_keys[signature.args] = template.get_impl_key(signature)  # noqa: SLF001
                        return signature
        return None


class _Context(cpu.CPUContext):  # type: ignore[misc]
    """Numba's knowledge of how operations are built, as far as kernels go."""

    _known = -1

    @global_compiler_lock  # type: ignore[untyped-decorator]
    def init(self) -> None:
        self.is32bit = utils.MACHINE_BITS == 32  # noqa: PLR2004
        self._internal_codegen = _Codegen("qxmix.exec")

    def refresh(self) -> None:
        if self._known != _entries(self._registries):
            super().refresh()
            self._known = _entries(self._registries)

    def build_ufuncs(self) -> None:
        """Learn how functions like ``np.sqrt`` are built; half of the encoders have none."""
        from numba.np import npyimpl  # noqa: PLC0415

        self.install_registry(npyimpl.registry)

    def load_additional_registries(self) -> None:
        # What registers something by its import.
        from numba.core import optional  # noqa: F401, PLC0415
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
        from numba.np import arrayobj  # noqa: F401, PLC0415

        self.install_registry(mathimpl.registry)

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

    def typeof_pyval(self, val: Any) -> Any:
        """What numba takes an argument for."""
        return array_type(val) if type(val) is np.ndarray else super().typeof_pyval(val)

    def _compilation_chain_init_hook(self) -> None:
        """Look for no extensions of numba: none has anything for kernels, and all packages would be asked."""

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
