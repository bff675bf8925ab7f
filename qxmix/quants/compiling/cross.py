"""Kernels compiled for processors of another family than this one's: everything but running them.

Numba asks LLVM for the machine it runs on and for no other.  What kernels are made of depends on it by the sizes of
types, which all families have alike here, and by what intrinsics are told of the processor; so all there is to do is to
give numba another machine to optimize for and to have code made for.  Code that was made so for ARM64 on x86-64 was the
same to the byte as that made on ARM64 (emulated).
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding
from numba.core import config

from qxmix.quants.compiling.target import TARGET, _Codegen
from qxmix.quants.kernels.processor_levels import ProcessorLevel


class _ForLevel(_Codegen):
    """Makes code for a level; numba's engine, which would run it, is this machine's and is given nothing."""

    def __init__(self, level: ProcessorLevel) -> None:
        self._level = level
        super().__init__("qxmix.exec")

    def _init(self, llvm_module: Any) -> None:
        super()._init(llvm_module)
        level = self._level
        # As numba has it for code that may lie anywhere, which x86 has by "static" alone.
        reloc = "static" if level.machine == "x86_64" else "default"
        self._tm = binding.Target.from_triple(level.triple).create_target_machine(
            cpu=level.cpu, features=level.flags, opt=config.OPT, reloc=reloc, codemodel="jitdefault", jit=True
        )
        self._tm_features = level.flags
        self._target_data = self._tm.target_data
        self._data_layout = str(self._target_data)

    def _create_empty_module(self, name: str) -> Any:
        module = super()._create_empty_module(name)
        if self._data_layout:  # the first is the engine's
            module.triple = self._level.triple
        return module

    def magic_tuple(self) -> tuple[str, str, str]:
        return self._level.triple, self._level.cpu, self._level.flags


def compile_for(level: ProcessorLevel) -> None:
    """Have all kernels of this process, none of which has been compiled yet, compiled for a level of another family."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    TARGET.target_context._internal_codegen = _ForLevel(level)  # noqa: SLF001 - numba has one of its own making
