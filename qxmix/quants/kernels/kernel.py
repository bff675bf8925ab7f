"""Which kernels there are, and how they are named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qxmix.quants import QUANT_TYPES


@dataclass(frozen=True, slots=True, order=True)
class Kernel:
    """One codec in one direction; an encoder with error feedback, and one with the exhaustive search, by itself."""

    type: str
    direction: Literal["encode", "decode", "feedback", "exhaustive"]

    def __str__(self) -> str:
        return f"{self.type} {self.direction}"


def every_kernel() -> tuple[Kernel, ...]:
    """The kernels of all types in all directions."""
    kernels: list[Kernel] = []
    for quant_type in QUANT_TYPES:
        if quant_type.codec:
            name = quant_type.name
            kernels += Kernel(name, "decode"), Kernel(name, "encode")
            kernels += [Kernel(name, "feedback")] if quant_type.feeds_back else []
            kernels += [Kernel(name, "exhaustive")] if quant_type.heeds("exhaustive") else []
    return tuple(kernels)


def record(kernel: Kernel) -> str:
    """The name of the file that says it is compiled, beside the code of its type."""
    return f"{kernel.type}-{kernel.direction}.ready"
