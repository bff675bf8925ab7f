"""Halves by the CPU's instruction, where it has one: F16C of x86-64-v3 and later, every ARM64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qxmix.quants.jit import Late, intrinsic

if TYPE_CHECKING:
    from llvmlite import ir
    from numba.core import types
else:
    ir = Late("llvmlite.ir")
    types = Late("numba.core.types")


def _has_instruction(context: Any) -> bool:
    triple, _, features = context.codegen().magic_tuple()
    return triple.startswith(("aarch64", "arm64")) or "+f16c" in features.split(",")


@intrinsic
def rounds_halves(typing_context):
    """Whether the CPU rounds to halves; a constant, so that LLVM drops the other way."""

    def build(context, builder, sig, args):
        return context.get_constant(types.boolean, _has_instruction(context))

    return types.boolean(), build


@intrinsic
def rounded_half(typing_context, x):
    """Bits of the half nearest to float32 ``x``, as ``numerics.half_bits`` has them, but a NaN keeps its sign.

    It is 0 unless ``rounds_halves``.

    The instruction makes a NaN quiet and keeps its sign and upper bits: magnitudes of 0x7E00 to 0x7FFF, of which only
    the first is wanted.  No other half's is as large, so that two limits do it, 16 halves at a time::

        signed    0x8000 ... 0xFC00 -inf  0xFE00 ... NaN   < 0 <  0x7C00 inf  0x7E00 ... NaN   lowered to 0x7E00
        unsigned  0 ... 0x7C00 inf  0x7E00 NaN  <  0x8000 ... 0xFC00 -inf  0xFE00 ... NaN      lowered to 0xFE00
    """

    def build(context, builder, sig, args):
        if not _has_instruction(context):
            return ir.Constant(ir.IntType(16), 0)
        bits = builder.bitcast(builder.fptrunc(args[0], ir.HalfType()), ir.IntType(16))
        for compare, most in ((builder.icmp_signed, 0x7E00), (builder.icmp_unsigned, 0xFE00)):
            limit = ir.Constant(ir.IntType(16), most)
            bits = builder.select(compare("<", bits, limit), bits, limit)
        return bits

    return types.uint16(types.float32), build
