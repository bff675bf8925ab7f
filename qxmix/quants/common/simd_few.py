"""Operations on vectors that few kernels need: a change here compiles no others anew."""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from qxmix.quants.common.vector import FLOATS, WIDTH


@intrinsic
def bytes_of_bits(typing_context, vector):
    """The lowest byte of the bits of each float32 lane: ``WIDTH / 4`` words of four, first lane lowest."""
    result = types.containers.UniTuple(types.uint32, WIDTH // 4)

    def build(context, builder, sig, args):
        bits = builder.bitcast(args[0], ir.VectorType(ir.IntType(32), WIDTH))
        low = builder.trunc(bits, ir.VectorType(ir.IntType(8), WIDTH))
        words = builder.bitcast(low, ir.VectorType(ir.IntType(32), WIDTH // 4))
        at = [ir.Constant(ir.IntType(32), i) for i in range(WIDTH // 4)]
        return context.make_tuple(builder, result, [builder.extract_element(words, i) for i in at])

    return result(FLOATS), build
