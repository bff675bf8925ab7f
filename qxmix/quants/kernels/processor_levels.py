"""Processors that kernels are shipped for: levels of a family, each by the features that its code may use.

Source: the micro-architecture levels of the x86-64 psABI, and the baseline of ARMv8, in LLVM's names.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class ProcessorLevel:
    """What code may be made for and run by every processor that has the features."""

    name: str
    machine: str
    """The family, as LLVM and the tags of wheels call it."""
    cpu: str
    """LLVM's name of the least processor."""
    features: tuple[str, ...]
    """All that it has, LLVM's names."""
    asked: bool = True
    """Whether some of the family lack any: LLVM reads in /proc what it has, and of a masked one learns nothing."""
    usual: bool = True
    """Whether kernels are shipped for it unless others are named: not where few processors lack the next."""

    @property
    def flags(self) -> str:
        """The features as LLVM is told them."""
        return ",".join(f"+{feature}" for feature in self.features)

    @property
    def triple(self) -> str:
        """The machine as LLVM is told it."""
        return f"{self.machine}-unknown-linux-gnu"


_V1 = ("64bit", "cmov", "cx8", "fxsr", "mmx", "sse", "sse2")
_V2 = (*_V1, "crc32", "cx16", "popcnt", "sahf", "sse3", "sse4.1", "sse4.2", "ssse3")
_V3 = (*_V2, "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave")
_V4 = (*_V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")

LEVELS = (
    ProcessorLevel("x86-64-v4", "x86_64", "x86-64-v4", _V4),
    ProcessorLevel("x86-64-v3", "x86_64", "x86-64-v3", _V3),
    ProcessorLevel("x86-64-v2", "x86_64", "x86-64-v2", _V2, usual=False),
    ProcessorLevel("armv8", "aarch64", "generic", ("fp-armv8", "neon"), asked=False),
)
"""The best of a family first."""


def machine() -> str:
    """The family of this process's processor."""
    from llvmlite import binding  # noqa: PLC0415 - LLVM, not needed to name the levels

    return str(binding.get_process_triple()).partition("-")[0]


def can_compile(level: ProcessorLevel) -> bool:
    """Whether this LLVM makes code for the family, which it may have been built without."""
    from llvmlite import binding  # noqa: PLC0415

    binding.initialize_all_targets()
    try:
        binding.Target.from_triple(level.triple)
    except RuntimeError:
        return False
    return True


@cache
def supported() -> tuple[ProcessorLevel, ...]:
    """Those whose code this processor, and this system, can run; the best first."""
    from llvmlite import binding  # noqa: PLC0415

    has, family = binding.get_host_cpu_features(), machine()
    alike = (level for level in LEVELS if level.machine == family)
    return tuple(level for level in alike if not level.asked or all(has.get(f, False) for f in level.features))
