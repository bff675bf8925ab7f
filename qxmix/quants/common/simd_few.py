"""Operations on vectors that few kernels need: a change here compiles no others anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qxmix.quants.common.array_fields import DATA, N_ITEMS
from qxmix.quants.common.width import WIDTH
from qxmix.quants.jit import Late, intrinsic

if TYPE_CHECKING:
    from llvmlite import ir
    from numba.core import cgutils, errors, types

    from qxmix.quants.common import vector as vec
else:
    ir = Late("llvmlite.ir")
    cgutils, errors, types = Late("numba.core.cgutils"), Late("numba.core.errors"), Late("numba.core.types")
    vec = Late("qxmix.quants.common.vector")

_HALF = WIDTH // 2


def _pointer(context: Any, builder: Any, array: Any, index: Any, n_bits: int) -> Any:
    """Where elements ``index .. index + WIDTH`` of a flat array of integers are; checked where bounds are."""
    if context.enable_boundscheck:
        for at in (index, builder.add(index, index.type(WIDTH - 1))):
            cgutils.do_boundscheck(context, builder, at, builder.extract_value(array, N_ITEMS))
    part = ir.VectorType(ir.IntType(n_bits), WIDTH)
    return builder.bitcast(builder.gep(builder.extract_value(array, DATA), [index]), part.as_pointer())


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

    return result(vec.FLOATS), build


@intrinsic
def store_low_bytes(typing_context, array, index, vector):
    """Write the lowest byte of the bits of each float32 lane to elements ``index .. index + WIDTH`` of bytes."""

    def build(context, builder, sig, args):
        bits = builder.bitcast(args[2], ir.VectorType(ir.IntType(32), WIDTH))
        low = builder.trunc(bits, ir.VectorType(ir.IntType(8), WIDTH))
        builder.store(low, _pointer(context, builder, args[0], args[1], 8), align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, vec.FLOATS), build


@intrinsic
def load_halfwords(typing_context, array, index):
    """Elements ``index .. index + WIDTH`` of a flat uint16 array, widened to uint32."""

    def build(context, builder, sig, args):
        return builder.zext(builder.load(_pointer(context, builder, args[0], args[1], 16), align=2), vec.WORDS.llvm)

    return vec.WORDS(array, types.intp), build


def _lanes(builder: Any, value: Any, first: int, n: int) -> Any:
    """``n`` of the lanes of a vector."""
    return builder.shuffle_vector(
        value, value, ir.Constant(ir.VectorType(ir.IntType(32), n), list(range(first, first + n)))
    )


def _permuted(builder: Any, name: str, n: int, table: Any, index: Any) -> Any:
    """An instruction of the CPU that picks lanes of ``table`` (n,) by the low bits of ``index`` (n,)."""
    floats = ir.VectorType(ir.FloatType(), n)
    kind = ir.FunctionType(floats, [floats, ir.VectorType(ir.IntType(32), n)])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [table, index])


def _selected(builder: Any, table: Any, index: Any, n_entries: int) -> Any:
    """The same by choices between two, bit by bit, for any CPU."""
    every = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    entries = [
        builder.shuffle_vector(table, table, ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [i] * WIDTH))
        for i in range(n_entries)
    ]
    for bit in range(n_entries.bit_length() - 1):
        mask = ir.Constant(vec.WORDS.llvm, [1 << bit] * WIDTH)
        set_ = builder.icmp_unsigned("!=", builder.and_(index, mask), every)
        pairs = zip(entries[::2], entries[1::2], strict=True)
        entries = [builder.select(set_, odd, even) for even, odd in pairs]
    return entries[0]


def _chosen(context: Any, builder: Any, n_entries: int, table: Any, index: Any) -> Any:
    """The entries of a repeated table at the lowest bits of each lane of ``index``, by what the CPU has for it."""
    features = context.codegen().magic_tuple()[2].split(",")
    if "+avx512f" in features:
        return _permuted(builder, "llvm.x86.avx512.permvar.sf.512", WIDTH, table, index)
    if "+avx2" not in features:
        return _selected(builder, table, index, n_entries)
    # Within four lanes it is one operation of the CPU, within eight two.
    name = "llvm.x86.avx.vpermilvar.ps.256" if n_entries == 4 else "llvm.x86.avx2.permps"  # noqa: PLR2004
    low = _lanes(builder, table, 0, _HALF)
    halves = [_permuted(builder, name, _HALF, low, _lanes(builder, index, at, _HALF)) for at in (0, _HALF)]
    both = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), list(range(WIDTH)))
    return builder.shuffle_vector(*halves, both)


@intrinsic
def of_four(typing_context, table, index):
    """Of a table of four, repeated in all lanes, the entries at the lowest two bits of each lane of ``index``."""
    return vec.FLOATS(vec.FLOATS, vec.WORDS), lambda context, builder, sig, args: _chosen(context, builder, 4, *args)


@intrinsic
def of_eight(typing_context, table, index):
    """Of a table of eight, given twice, the entries at the lowest three bits of each lane of ``index``."""
    return vec.FLOATS(vec.FLOATS, vec.WORDS), lambda context, builder, sig, args: _chosen(context, builder, 8, *args)


@intrinsic
def spread_lane(typing_context, vector, lane):
    """One lane, a constant, in every lane."""
    if not isinstance(lane, types.scalars.IntegerLiteral):
        raise errors.RequireLiteralValue("the lane must be a constant")
    at = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [lane.literal_value] * WIDTH)
    signature = vec.FLOATS(vec.FLOATS, lane)
    return signature, lambda context, builder, sig, args: builder.shuffle_vector(args[0], args[0], at)


@intrinsic
def two_least(typing_context, least, second):
    """The least and the second least of all lanes, each of which holds two, neither a NaN, in order."""
    result = types.containers.UniTuple(types.float32, 2)
    less, more = vec.extreme("<"), vec.extreme(">")

    def build(context, builder, sig, args):
        (a, b), n = args, WIDTH
        while n > 1:
            n //= 2
            (a, c), (b, d) = [[_lanes(builder, v, at, n) for at in (0, n)] for v in (a, b)]
            b = less(builder, [less(builder, [b, d]), more(builder, [a, c])])
            a = less(builder, [a, c])
        first = ir.Constant(ir.IntType(32), 0)
        return context.make_tuple(builder, result, [builder.extract_element(v, first) for v in (a, b)])

    return result(vec.FLOATS, vec.FLOATS), build
