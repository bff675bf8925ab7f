"""What kernels do with vectors besides arithmetic: load, store, gather, choose, and look across lanes.

With ``NUMBA_BOUNDSCHECK=1`` an access outside of its array is an ``IndexError``, as it is for numba's own indexing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qxmix.quants.common.array_fields import DATA, N_ITEMS
from qxmix.quants.common.width import WIDTH
from qxmix.quants.jit import Late, intrinsic

if TYPE_CHECKING:
    from llvmlite import ir
    from numba.core import cgutils, types

    from qxmix.quants.common import vector as vec
else:
    ir = Late("llvmlite.ir")
    cgutils, types = Late("numba.core.cgutils"), Late("numba.core.types")
    vec = Late("qxmix.quants.common.vector")

__all__ = ["WIDTH"]


def _check(context: Any, builder: Any, array_type: Any, array: Any, index: Any, n: int) -> None:
    """Where bounds are checked, leave the kernel with an ``IndexError`` unless ``index .. index + n`` are elements."""
    if context.enable_boundscheck:
        size = builder.extract_value(array, N_ITEMS)
        for at in (index, builder.add(index, index.type(n - 1))):
            cgutils.do_boundscheck(context, builder, at, size)


def _check_lanes(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> None:
    """Check an index that is a vector of floats, before a NaN among them becomes some integer."""
    if context.enable_boundscheck:
        n = builder.extract_value(array, N_ITEMS)
        end = vec.repeat(builder, builder.sitofp(n, ir.FloatType()), vec.FLOATS)
        start = vec.repeat(builder, ir.Constant(ir.FloatType(), 0.0), vec.FLOATS)
        within = builder.and_(builder.fcmp_ordered(">=", index, start), builder.fcmp_ordered("<", index, end))
        bits = ir.IntType(WIDTH)
        bad = builder.icmp_unsigned("!=", builder.bitcast(within, bits), ir.Constant(bits, -1))
        with cgutils.if_unlikely(builder, bad):
            context.call_conv.return_user_exc(builder, IndexError, ("index of a lane is out of bounds",))


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any, vector: vec.Vector) -> Any:
    _check(context, builder, array_type, array, index, WIDTH)
    data = builder.extract_value(array, DATA)
    return builder.bitcast(builder.gep(data, [index]), vector.llvm.as_pointer())


@intrinsic
def load(typing_context, array, index):
    """Elements ``index .. index + WIDTH`` of the flat contents of a C-contiguous float or uint32 array."""
    vector = vec.OF[array.dtype]

    def build(context, builder, sig, args):
        at = _pointer(context, builder, sig.args[0], args[0], args[1], vector)
        return builder.load(at, align=array.dtype.bitwidth // 8)

    return vector(array, types.intp), build


@intrinsic
def store(typing_context, array, index, vector):
    """Write a vector to elements ``index .. index + WIDTH`` of the flat contents of a C-contiguous array."""

    def build(context, builder, sig, args):
        at = _pointer(context, builder, sig.args[0], args[0], args[1], vector)
        builder.store(args[2], at, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), build


@intrinsic
def splat(typing_context, value):
    """The scalar in every lane."""
    vector = vec.OF[value]
    return vector(value), lambda context, builder, sig, args: vec.repeat(builder, args[0], vector)


@intrinsic
def where(typing_context, mask, a, b):
    """``a`` in the lanes of the mask, ``b`` in the others."""
    return a(mask, a, b), lambda context, builder, sig, args: builder.select(*args)


@intrinsic
def widen(typing_context, vector):
    """The float32 lanes as float64."""
    return vec.DOUBLES(vector), lambda context, builder, sig, args: builder.fpext(args[0], vec.DOUBLES.llvm)


@intrinsic
def narrow(typing_context, vector):
    """The float64 lanes rounded to float32."""
    return vec.FLOATS(vector), lambda context, builder, sig, args: builder.fptrunc(args[0], vec.FLOATS.llvm)


@intrinsic
def gather(typing_context, table, index):
    """Elements of a C-contiguous float32 array, one a lane, at whole non-negative numbers that are floats."""

    def build(context, builder, sig, args):
        data = builder.extract_value(args[0], DATA)
        _check_lanes(context, builder, sig.args[0], args[0], args[1])
        at = builder.fptosi(args[1], ir.VectorType(ir.IntType(32), WIDTH))
        pointers = builder.gep(data, [at], source_etype=ir.FloatType())
        pointers.type = ir.VectorType(ir.PointerType(), WIDTH)  # LLVM's rule for an index that is a vector
        kinds = [pointers.type, ir.IntType(32), vec.MASK.llvm, vec.FLOATS.llvm]
        name = f"llvm.masked.gather.v{WIDTH}f32.v{WIDTH}p0"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vec.FLOATS.llvm, kinds), name)
        every, none = ir.Constant(vec.MASK.llvm, [1] * WIDTH), ir.Constant(vec.FLOATS.llvm, ir.Undefined)
        return builder.call(function, [pointers, ir.Constant(ir.IntType(32), 4), every, none])

    return vec.FLOATS(table, index), build


@intrinsic
def store_bytes(typing_context, array, index, vector):
    """Write whole numbers 0..255 that are floats to elements ``index .. index + WIDTH`` of a flat uint8 array."""

    def build(context, builder, sig, args):
        _check(context, builder, sig.args[0], args[0], args[1], WIDTH)
        data = builder.extract_value(args[0], DATA)
        at = builder.bitcast(builder.gep(data, [args[1]]), ir.VectorType(ir.IntType(8), WIDTH).as_pointer())
        whole = builder.fptosi(args[2], ir.VectorType(ir.IntType(32), WIDTH))
        builder.store(builder.trunc(whole, ir.VectorType(ir.IntType(8), WIDTH)), at, align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), build


@intrinsic
def truncate(typing_context, vector):
    """Each lane without its fraction, toward zero."""
    return vector(vector), lambda context, builder, sig, args: vec.call(builder, "llvm.trunc", list(args))


@intrinsic
def floor(typing_context, vector):
    """Each lane rounded down."""
    return vector(vector), lambda context, builder, sig, args: vec.call(builder, "llvm.floor", list(args))


@intrinsic
def any_lane(typing_context, mask):
    """Whether any lane of the mask is set."""

    def build(context, builder, sig, args):
        bits = ir.IntType(WIDTH)
        return builder.icmp_unsigned("!=", builder.bitcast(args[0], bits), ir.Constant(bits, 0))

    return types.boolean(mask), build


@intrinsic
def lane_bits(typing_context, mask):
    """The lanes of the mask as bits of an integer, lane 0 lowest."""

    def build(context, builder, sig, args):
        return builder.zext(builder.bitcast(args[0], ir.IntType(WIDTH)), ir.IntType(64))

    return types.int64(mask), build


@intrinsic
def lowest_bit(typing_context, bits):
    """Index of the lowest bit that is set; at least one must be."""

    def build(context, builder, sig, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), build


def _folded(builder: Any, value: Any, sign: str) -> Any:
    """The lane that compares so with all others: halves against halves, down to one lane."""
    n = WIDTH
    while n > 1:
        n //= 2
        halves = [ir.Constant(ir.VectorType(ir.IntType(32), n), list(range(at, at + n))) for at in (0, n)]
        value = vec.extreme(sign)(builder, [builder.shuffle_vector(value, value, half) for half in halves])
    return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))


@intrinsic
def least_lane(typing_context, vector):
    """The least of the lanes, none of which may be a NaN."""
    return vector.dtype(vector), lambda context, builder, sig, args: _folded(builder, args[0], "<")


@intrinsic
def greatest_lane(typing_context, vector):
    """The greatest of the lanes, none of which may be a NaN."""
    return vector.dtype(vector), lambda context, builder, sig, args: _folded(builder, args[0], ">")


@intrinsic
def root(typing_context, vector):
    """Square root of each lane."""
    return vector(vector), lambda context, builder, sig, args: vec.call(builder, "llvm.sqrt", list(args))


def _product_sum(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """Build ``total + a * b``, fused where the CPU can."""
    total, a, b = args
    triple, _, features = context.codegen().magic_tuple()
    if "+fma" in features.split(",") or triple.startswith(("aarch64", "arm64")):
        return vec.call(builder, "llvm.fma", [a, b, total])
    return builder.fadd(total, builder.fmul(a, b))


@intrinsic
def add_exact_product(typing_context, total, a, b):
    """``total + a * b`` for products that are exact in the lanes' type.

    Only then it does not matter that a CPU with a fused multiply-add rounds once instead of twice.
    """
    return total(total, a, b), _product_sum


@intrinsic
def add_rough_product(typing_context, total, a, b):
    """``total + a * b``, rounded once or twice as the CPU has it: for bounds whose margin covers either."""
    return total(total, a, b), _product_sum


@intrinsic
def fused(typing_context, a, b, total):
    """``a * b + total`` of float32 scalars, rounded once on every CPU; where it has no such instruction, slowly."""

    def build(context, builder, sig, args):
        function = ir.FunctionType(ir.FloatType(), [ir.FloatType()] * 3)
        return builder.call(cgutils.get_or_insert_function(builder.module, function, "llvm.fma.f32"), args)

    return types.float32(types.float32, types.float32, types.float32), build


@intrinsic
def load_word(typing_context, array, index):
    """The little-endian uint32 at bytes ``index .. index + 4`` of a flat uint8 array."""

    def build(context, builder, sig, args):
        _check(context, builder, sig.args[0], args[0], args[1], 4)
        data = builder.extract_value(args[0], DATA)
        return builder.load(builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(32).as_pointer()), align=1)

    return types.uint32(array, types.intp), build


@intrinsic
def store_word(typing_context, array, index, word):
    """Write a uint32 little-endian to bytes ``index .. index + 4`` of a flat uint8 array."""

    def build(context, builder, sig, args):
        _check(context, builder, sig.args[0], args[0], args[1], 4)
        data = builder.extract_value(args[0], DATA)
        at = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(32).as_pointer())
        builder.store(args[2], at, align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.uint32), build
