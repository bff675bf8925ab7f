"""Sums of bytes that are looked up in small tables: 64 places at a time, of each a byte of every table.

A table has 16 bytes and stays in a register; the CPU looks up 64 (AVX-512), 32 (AVX2) or 16 (SSSE3, NEON) at a time.
The "fast scan" of product quantization (Andre, Kermarrec and Le Scouarnec 2015) does this with SSSE3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qxmix.quants.common.array_fields import DATA, N_ITEMS
from qxmix.quants.jit import Late, intrinsic

if TYPE_CHECKING:
    from llvmlite import ir
    from numba.core import cgutils, errors, types
else:
    ir = Late("llvmlite.ir")
    cgutils, errors, types = Late("numba.core.cgutils"), Late("numba.core.errors"), Late("numba.core.types")

PLACES = 64
"""Places whose sums are made together."""
ENTRIES = 16
"""Bytes of a table."""


def _bytes(n: int) -> Any:
    return ir.VectorType(ir.IntType(8), n)


def _lanes(first: int, n: int) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), n), list(range(first, first + n)))


def _same(n: int, lane: int) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), n), [lane] * n)


def _call(builder: Any, name: str, result: Any, args: list[Any]) -> Any:
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


def _part(context: Any, builder: Any, array: Any, at: Any, vector: Any) -> Any:
    """Where elements ``at ..`` of a flat array are, as many as the vector has; checked where bounds are."""
    if context.enable_boundscheck:
        size = builder.extract_value(array, N_ITEMS)
        for end in (at, builder.add(at, at.type(vector.count - 1))):
            cgutils.do_boundscheck(context, builder, end, size)
    return builder.bitcast(builder.gep(builder.extract_value(array, DATA), [at]), vector.as_pointer())


def _loaded(context: Any, builder: Any, array: Any, at: Any, vector: Any) -> Any:
    size = vector.element.width // 8 if isinstance(vector.element, ir.IntType) else 4
    return builder.load(_part(context, builder, array, at, vector), align=size)


def _selected(builder: Any, table: Any, index: Any) -> Any:
    """What ``_looked_up`` does, by choices between two, bit by bit, for any CPU."""
    entries = [builder.shuffle_vector(table, table, _same(PLACES, i)) for i in range(ENTRIES)]
    for bit in range(ENTRIES.bit_length() - 1):
        mask = ir.Constant(index.type, [1 << bit] * PLACES)
        is_set = builder.icmp_unsigned("!=", builder.and_(index, mask), ir.Constant(index.type, [0] * PLACES))
        entries = [builder.select(is_set, odd, even) for even, odd in zip(entries[::2], entries[1::2], strict=True)]
    return entries[0]


def _looked_up(context: Any, builder: Any, table: Any, index: Any) -> Any:
    """The bytes of ``table``, (PLACES,) with its entries repeated, at ``index``, numbers below ENTRIES."""
    triple, _, flags = context.codegen().magic_tuple()
    features, arm = flags.split(","), triple.startswith(("aarch64", "arm64"))
    if "+avx512bw" in features:
        name, n = "llvm.x86.avx512.pshuf.b.512", 64
    elif "+avx2" in features:
        name, n = "llvm.x86.avx2.pshuf.b", 32
    elif "+ssse3" in features:
        name, n = "llvm.x86.ssse3.pshuf.b.128", 16
    elif "+neon" in features and arm:
        name, n = "llvm.aarch64.neon.tbl1.v16i8", 16
    else:
        return _selected(builder, table, index)
    table = builder.shuffle_vector(table, table, _lanes(0, n))
    parts = [builder.shuffle_vector(index, index, _lanes(at, n)) for at in range(0, PLACES, n)]
    found = [_call(builder, name, part.type, [table, part]) for part in parts]
    while len(found) > 1:
        n *= 2
        found = [builder.shuffle_vector(*pair, _lanes(0, n)) for pair in zip(found[::2], found[1::2], strict=True)]
    return found[0]


@intrinsic
def sum_looked_up(typing_context, tables, codes, at, n_chunks, n, sums):
    """The sums of ``PLACES * n_chunks`` places to ``sums``, not above 255; returns the least of them.

    Each of the ``n`` tables, a constant, is ENTRIES of ``tables``; from ``at`` on, ``codes`` has PLACES numbers of
    entries for each table, chunk after chunk.
    """
    if not isinstance(n, types.scalars.IntegerLiteral):
        raise errors.RequireLiteralValue("the number of tables must be a constant")
    count = n.literal_value

    def build(context, builder, sig, args):
        word, vector = ir.IntType(64), _bytes(PLACES)
        repeated = ir.Constant(ir.VectorType(ir.IntType(32), PLACES), [i % ENTRIES for i in range(PLACES)])
        entries = [_loaded(context, builder, args[0], word(k * ENTRIES), _bytes(ENTRIES)) for k in range(count)]
        entries = [builder.shuffle_vector(one, one, repeated) for one in entries]
        least = cgutils.alloca_once_value(builder, ir.Constant(vector, [255] * PLACES))
        with cgutils.for_range(builder, args[3]) as loop:
            total = None
            for k, table in enumerate(entries):
                place = builder.add(builder.mul(loop.index, word(count * PLACES)), word(k * PLACES))
                index = _loaded(context, builder, args[1], builder.add(args[2], place), vector)
                term = _looked_up(context, builder, table, index)
                total = _call(builder, f"llvm.uadd.sat.v{PLACES}i8", vector, [total, term]) if total else term
            to = _part(context, builder, args[5], builder.mul(loop.index, word(PLACES)), vector)
            builder.store(total, to, align=1)
            builder.store(_call(builder, f"llvm.umin.v{PLACES}i8", vector, [builder.load(least), total]), least)
        found = _call(builder, f"llvm.vector.reduce.umin.v{PLACES}i8", ir.IntType(8), [builder.load(least)])
        return builder.zext(found, word)

    return types.int64(tables, codes, types.int64, types.int64, n, sums), build


@intrinsic
def bits_within(typing_context, sums, at, limit):
    """Which of PLACES bytes from ``at`` on are not above ``limit``, as bits of an integer, the first one lowest."""

    def build(context, builder, sig, args):
        vector = _bytes(PLACES)
        one, nothing = builder.trunc(args[2], ir.IntType(8)), ir.Constant(vector, ir.Undefined)
        one = builder.insert_element(nothing, one, ir.Constant(ir.IntType(32), 0))
        every = builder.shuffle_vector(one, one, _same(PLACES, 0))
        within = builder.icmp_unsigned("<=", _loaded(context, builder, args[0], args[1], vector), every)
        return builder.bitcast(within, ir.IntType(PLACES))

    return types.int64(sums, types.int64, types.int64), build


@intrinsic
def weighted_distance(typing_context, w, v, at, vectors, place, n):
    """``sum(w * (q - v) ** 2)`` of the ``n`` numbers, a constant, from ``at`` on and from ``place`` on.

    ``vectors`` are int8.  Halves are added to halves, as a vector of the CPU is summed up.
    """
    if not isinstance(n, types.scalars.IntegerLiteral):
        raise errors.RequireLiteralValue("the number of weights must be a constant")
    count = n.literal_value

    def build(context, builder, sig, args):
        floats = ir.VectorType(ir.FloatType(), count)
        weight, value = (_loaded(context, builder, array, args[2], floats) for array in args[:2])
        q = builder.sitofp(_loaded(context, builder, args[3], args[4], _bytes(count)), floats)
        d = builder.fsub(q, value)
        total, left = builder.fmul(weight, builder.fmul(d, d)), count
        while left > 1:
            left //= 2
            total = builder.fadd(*(builder.shuffle_vector(total, total, _lanes(first, left)) for first in (0, left)))
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    return types.float32(w, v, types.int64, vectors, types.int64, n), build


@intrinsic
def put_scaled(typing_context, to, place, scale, x, at, n):
    """Write ``scale`` times the ``n`` numbers, a constant, from ``at`` on to ``place`` and what follows it."""
    if not isinstance(n, types.scalars.IntegerLiteral):
        raise errors.RequireLiteralValue("the number of weights must be a constant")
    floats = ir.VectorType(ir.FloatType(), n.literal_value)

    def build(context, builder, sig, args):
        nothing = ir.Constant(floats, ir.Undefined)
        scale = builder.insert_element(nothing, args[2], ir.Constant(ir.IntType(32), 0))
        scale = builder.shuffle_vector(scale, nothing, _same(floats.count, 0))
        product = builder.fmul(scale, _loaded(context, builder, args[3], args[4], floats))
        builder.store(product, _part(context, builder, args[0], args[1], floats), align=4)
        return context.get_dummy_value()

    return types.void(to, types.int64, types.float32, x, types.int64, n), build
