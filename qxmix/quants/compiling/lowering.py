"""How numba's instructions become LLVM's in kernels, where that is less than numba makes of them.

More than half of the text that LLVM was given for IQ3_K came of things that kernels do not need:

* A variable that is out of use is set to zero, whether it refers to memory or not, and references are counted to what
  somebody else keeps for as long as a kernel runs: its arguments and constants.
* An index is made positive that may count from the end.  Kernels have none that does; with ``NUMBA_BOUNDSCHECK=1`` a
  negative one is an ``IndexError``.
* An array's fields are unpacked, all of them, for each access.
* A loop over a range goes by an iterator (``loops``).
"""

from __future__ import annotations

from typing import Any

from numba.core import cgutils, ir, lowering, types
from numba.core.runtime.context import NRTContext

from qxmix.quants.common.array_fields import DATA, OWNER, SHAPE
from qxmix.quants.compiling.loops import Loops, Origins


class Runtime(NRTContext):  # type: ignore[misc]
    """How memory is kept, without all fields of an array for the one that keeps it."""

    def get_meminfos(self, builder: Any, ty: Any, val: Any) -> list[Any]:
        """What keeps the memory of a value."""
        if isinstance(ty, types.Array):
            return [(ty, builder.extract_value(val, OWNER))]
        return list(super().get_meminfos(builder, ty, val))


class Lower(lowering.Lower):  # type: ignore[misc]
    """Builds LLVM's instructions of a function; whatever is not here numba builds."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.origins = Origins(self.func_ir.blocks)
        self._loops = Loops(self)
        self._referring: dict[Any, bool] = {}

    def lower_inst(self, inst: Any) -> Any:
        """Build an instruction."""
        if isinstance(inst, ir.SetItem | ir.StaticSetItem):
            pointer = self._element(inst.target, inst)
            if pointer is not None:
                return self._set(pointer, inst)
        elif isinstance(inst, ir.Assign) and self._loops.build(inst.target.name, inst.value):
            return None
        return super().lower_inst(inst)

    def lower_expr(self, resty: Any, expr: Any) -> Any:
        """Build an expression of a type."""
        if expr.op in {"getitem", "static_getitem"}:
            pointer = self._element(expr.value, expr)
            if pointer is not None:
                kind = self.typeof(expr.value.name)
                value = self.context.unpack_value(self.builder, kind.dtype, pointer, align=_alignment(kind))
                return self.context.cast(self.builder, value, kind.dtype, resty)
        elif expr.op == "getattr" and expr.attr == "shape" and isinstance(self.typeof(expr.value.name), types.Array):
            return self.builder.extract_value(self.loadvar(expr.value.name), SHAPE)
        elif self._loops.made(expr):
            return cgutils.pack_struct(self.builder, self._loops.numbers(expr, resty.dtype))
        return super().lower_expr(resty, expr)

    def lower_binop(self, resty: Any, expr: Any, op: Any) -> Any:
        """Build an operation on two values; numba looks four times for what takes them, and for powers known before."""
        if not (expr.static_lhs is expr.static_rhs is ir.UNDEFINED):
            return super().lower_binop(resty, expr, op)
        typing = self.context.typing_context
        function, wanted = typing.resolve_value_type(op), self.fndesc.calltypes[expr].args
        values = [self._cast_var(each, kind) for each, kind in zip((expr.lhs, expr.rhs), wanted, strict=True)]
        signature = typing.resolve_function_type(function, wanted, {})
        value = self.context.get_function(function, signature)(self.builder, values)
        return self.context.cast(self.builder, value, signature.return_type, resty)

    def _set(self, pointer: Any, inst: Any) -> None:
        kind = self.typeof(inst.target.name)
        value = self._cast_var(inst.value, kind.dtype)
        self.context.pack_value(self.builder, kind.dtype, value, pointer, align=_alignment(kind))

    def _element(self, array: Any, access: Any) -> Any:
        """Pointer to the element of an array that is meant; None where it is no array or not one element."""
        kind = self.typeof(array.name)
        if not isinstance(kind, types.Array) or kind.layout != "C":
            return None
        indices = self._indices(access)
        if indices is None or len(indices) != kind.ndim:
            return None
        builder, fields, checked = self.builder, self.loadvar(array.name), self.context.enable_boundscheck
        at = None
        for axis, index in enumerate(indices):
            size = builder.extract_value(fields, [SHAPE, axis]) if axis or checked else None
            if checked:
                cgutils.do_boundscheck(self.context, builder, index, size, axis)
            at = index if at is None else builder.add(builder.mul(at, size), index)
        return builder.gep(builder.extract_value(fields, DATA), [at], inbounds=True)

    def _indices(self, access: Any) -> list[Any] | None:
        """LLVM's values of the whole numbers that are the index of an access; None where it is anything else."""
        known = isinstance(access, ir.StaticSetItem) or getattr(access, "op", None) == "static_getitem"
        variable = access.index_var if known else access.index
        if variable is None or (known and _counts_from_the_end(access.index)):
            return None
        kind = self.typeof(variable.name)
        if isinstance(kind, types.Integer):
            numbers, of = [self.loadvar(variable.name)], [kind]
        elif isinstance(kind, types.containers.BaseTuple) and all(isinstance(each, types.Integer) for each in kind):
            numbers, of = cgutils.unpack_tuple(self.builder, self.loadvar(variable.name)), list(kind)
        else:
            return None
        return [self.context.cast(self.builder, n, t, types.intp) for n, t in zip(numbers, of, strict=True)]

    def _counted(self, name: str) -> bool:
        """Whether a variable counts among the references to some memory.

        What it has of an argument or a constant is kept by others.
        """
        borrowed = isinstance(self.origins.of(name), ir.Arg | ir.Global | ir.FreeVar)
        return not borrowed and self._refers(self.typeof(name))

    def _refers(self, kind: Any) -> bool:
        """Whether there is memory that values of a type keep."""
        found = self._referring.get(kind)
        if found is None:
            found = self._referring[kind] = self.context.data_model_manager[kind].contains_nrt_meminfo()
        return found

    def lower_assign(self, ty: Any, inst: Any) -> Any:
        """Build what is assigned to a variable of a type."""
        value = inst.value
        if not self._counted(inst.target.name):
            if isinstance(value, ir.Arg):
                kind = self.typeof(f"arg.{value.name}")
                if not isinstance(kind, types.misc.Omitted):
                    return self.context.cast(self.builder, self.fnargs[value.index], kind, ty)
            elif isinstance(value, ir.Var):
                return self._cast_var(value, ty)
            elif isinstance(value, ir.Global | ir.FreeVar):
                return self.context.get_constant_generic(self.builder, ty, value.value)
        return super().lower_assign(ty, inst)

    def storevar(self, value: Any, name: str, argidx: int | None = None) -> None:
        """Let a variable have a value."""
        if name in self._singly_assigned_vars or self._counted(name):
            super().storevar(value, name, argidx=argidx)
        else:
            self.builder.store(value, self.getvar(name))

    def delvar(self, name: str) -> None:
        """End the use of a variable."""
        if self._counted(name):
            super().delvar(name)

    def alloca_lltype(self, name: str, lltype: Any, datamodel: Any = None) -> Any:
        """Give a variable a place in memory, as yet without a value unless that is looked at before it gets one."""
        if datamodel is None or datamodel.contains_nrt_meminfo():
            return super().alloca_lltype(name, lltype, datamodel=datamodel)
        with self.builder.goto_entry_block():
            return self.builder.alloca(lltype, name=name)

    def incref(self, typ: Any, val: Any) -> None:
        """Let one more refer to the memory of a value."""
        if self._refers(typ):
            super().incref(typ, val)

    def decref(self, typ: Any, val: Any) -> None:
        """Let one less refer to it."""
        if self._refers(typ):
            super().decref(typ, val)


def _counts_from_the_end(index: Any) -> bool:
    """Whether numba has to make something of an index that is known."""
    return any(not isinstance(each, int) or each < 0 for each in (index if isinstance(index, tuple) else (index,)))


def _alignment(kind: Any) -> int | None:
    return None if kind.aligned else 1
