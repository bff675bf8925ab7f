"""The same bits as something else: arrays as flat ones, or of another type, and float32 as uint32.

``ravel`` and ``view`` do so, too, for arrays of any layout, but numba compiles code of its own for them with the first
kernel: 1.2 s of the 2 s that Q8_0's encoder took.  Kernels are given C-contiguous arrays alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qxmix.quants.jit import Late, intrinsic

if TYPE_CHECKING:
    from llvmlite import ir
    from numba.core import errors, imputils, types
    from numba.np import arrayobj
else:
    ir = Late("llvmlite.ir")
    errors, types = Late("numba.core.errors"), Late("numba.core.types")
    imputils, arrayobj = Late("numba.core.imputils"), Late("numba.np.arrayobj")


def _flat(array: Any, dtype: Any) -> tuple[Any, Any]:
    """The type of the flat array over the same bytes, and what builds it."""
    if array.layout != "C":
        raise errors.TypingError("only a C-contiguous array has flat contents")
    found = array.copy(ndim=1, dtype=dtype)

    def build(context, builder, sig, args):
        old = arrayobj.make_array(array)(context, builder, args[0])
        new = arrayobj.make_array(found)(context, builder)
        before, after = (context.get_abi_sizeof(context.get_data_type(kind.dtype)) for kind in (array, found))
        size = ir.Constant(old.nitems.type, after)
        n = builder.udiv(builder.mul(old.nitems, ir.Constant(size.type, before)), size)
        data = builder.bitcast(old.data, context.get_data_type(found.dtype).as_pointer())
        arrayobj.populate_array(new, data=data, shape=[n], strides=[size], itemsize=size, meminfo=old.meminfo)
        value = new._getvalue()  # noqa: SLF001 - numba's own name for it
        return imputils.impl_ret_borrowed(context, builder, sig.return_type, value)

    return found, build


@intrinsic
def flattened(typing_context, array):
    """The elements of a C-contiguous array in one dimension: the array's own, not a copy."""
    found, build = _flat(array, array.dtype)
    return found(array), build


@intrinsic
def flat_as(typing_context, array, dtype):
    """The bytes of a C-contiguous array as elements of another type, in one dimension; those that are whole."""
    found, build = _flat(array, dtype.dtype)
    return found(array, dtype), build


@intrinsic
def in_rows(typing_context, array, length):
    """The elements of a C-contiguous array in rows of ``length``, (n, length): the array's own, all that fill rows."""
    if array.layout != "C":
        raise errors.TypingError("only a C-contiguous array has flat contents")
    found = array.copy(ndim=2)

    def build(context, builder, sig, args):
        old = arrayobj.make_array(array)(context, builder, args[0])
        new = arrayobj.make_array(found)(context, builder)
        n_cols = context.cast(builder, args[1], sig.args[1], types.intp)
        shape, strides = [builder.udiv(old.nitems, n_cols), n_cols], [builder.mul(n_cols, old.itemsize), old.itemsize]
        arrayobj.populate_array(
            new, data=old.data, shape=shape, strides=strides, itemsize=old.itemsize, meminfo=old.meminfo
        )
        return imputils.impl_ret_borrowed(context, builder, sig.return_type, new._getvalue())  # noqa: SLF001

    return found(array, length), build


@intrinsic
def bits_of(typing_context, value):
    """The bits of a float32."""
    kind = types.uint32(types.float32)
    return kind, lambda context, builder, sig, args: builder.bitcast(args[0], ir.IntType(32))


@intrinsic
def float_of(typing_context, bits):
    """The float32 with these bits."""
    kind = types.float32(types.uint32)
    return kind, lambda context, builder, sig, args: builder.bitcast(args[0], ir.FloatType())
