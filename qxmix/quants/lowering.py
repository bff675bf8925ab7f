"""How numba's instructions become LLVM's in kernels, where that is less than numba makes of them.

A third of the text that LLVM was given for IQ3_K came of four things that kernels do not need:

* A variable that is out of use is set to zero, whether it refers to memory or not.
* An index is made positive that may count from the end.  Kernels have none that does; with ``NUMBA_BOUNDSCHECK=1`` a
  negative one is an ``IndexError``.
* A loop over a range counts its turns, for which it divides, and goes by way of an iterator and of pairs in memory.
* An array's fields are unpacked, all of them, for each access.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir as llvm
from numba.core import cgutils, ir, lowering, types
from numba.core.runtime.context import NRTContext

from qxmix.quants.common.array_fields import DATA, OWNER, SHAPE

_WITH_STEP = 3
"""How many arguments a range has that says by how much it goes."""


class Runtime(NRTContext):  # type: ignore[misc]
    """How memory is kept, without all fields of an array for the one that keeps it."""

    def get_meminfos(self, builder: Any, ty: Any, val: Any) -> list[Any]:
        if isinstance(ty, types.Array):
            return [(ty, builder.extract_value(val, OWNER))]
        return list(super().get_meminfos(builder, ty, val))


class _Loop(NamedTuple):
    """A range that is run through: pointers to the next number and to where it ends and by how much it goes."""

    at: Any
    stop: Any
    step: Any
    up: bool
    """Whether it is known to go up."""
    signed: bool

    def goes_on(self, builder: Any, number: Any) -> Any:
        """Whether the number is before the end."""
        stop, step = builder.load(self.stop), builder.load(self.step)
        compare = builder.icmp_signed if self.signed else builder.icmp_unsigned
        up = compare("<", number, stop)
        if self.up:
            return up
        return builder.select(builder.icmp_signed(">", step, step.type(0)), up, compare(">", number, stop))


class _Origins:
    """What the variables of a function are, where they are assigned once."""

    def __init__(self, blocks: Any) -> None:
        self._values: dict[str, Any] = {}
        for block in blocks.values():
            for assignment in block.find_insts(ir.Assign):
                name = assignment.target.name
                self._values[name] = None if name in self._values else assignment.value

    def first_name(self, name: str) -> str:
        """The variable that this one is a copy of, or itself."""
        while isinstance(value := self._values.get(name), ir.Var):
            name = value.name
        return name

    def of(self, name: str) -> Any:
        """What the variable or what it is a copy of is assigned; None where that is more than one thing."""
        return self._values.get(self.first_name(name))


def _is(value: Any, op: str) -> bool:
    return isinstance(value, ir.Expr) and value.op == op


class Lower(lowering.Lower):  # type: ignore[misc]
    """Numba's, but for what stands above."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._origins = _Origins(self.func_ir.blocks)
        self._loops: dict[str, _Loop] = {}
        self._turns: dict[str, tuple[Any, Any]] = {}
        self._referring: dict[Any, bool] = {}

    def _refers(self, kind: Any) -> bool:
        """Whether there is memory that values of a type keep."""
        found = self._referring.get(kind)
        if found is None:
            found = self._referring[kind] = self.context.data_model_manager[kind].contains_nrt_meminfo()
        return found

    def _borrows(self, name: str) -> bool:
        """Whether what a variable refers to is kept for as long as the function runs by somebody else."""
        return isinstance(self._origins.of(name), ir.Arg | ir.Global | ir.FreeVar)

    def incref(self, typ: Any, val: Any) -> None:
        if self._refers(typ):
            super().incref(typ, val)

    def decref(self, typ: Any, val: Any) -> None:
        if self._refers(typ):
            super().decref(typ, val)

    def alloca_lltype(self, name: str, lltype: Any, datamodel: Any = None) -> Any:
        if datamodel is None or datamodel.contains_nrt_meminfo():
            return super().alloca_lltype(name, lltype, datamodel=datamodel)
        with self.builder.goto_entry_block():
            return self.builder.alloca(lltype, name=name)

    def storevar(self, value: Any, name: str, argidx: int | None = None) -> None:
        if name in self._singly_assigned_vars or (self._refers(self.typeof(name)) and not self._borrows(name)):
            super().storevar(value, name, argidx=argidx)
        else:
            self.builder.store(value, self.getvar(name))

    def delvar(self, name: str) -> None:
        if self._refers(self.typeof(name)) and not self._borrows(name):
            super().delvar(name)

    def lower_assign(self, ty: Any, inst: Any) -> Any:
        if self._borrows(inst.target.name):
            value = inst.value
            if isinstance(value, ir.Arg):
                kind = self.typeof("arg." + value.name)
                if not isinstance(kind, types.Omitted):
                    return self.context.cast(self.builder, self.fnargs[value.index], kind, ty)
            elif isinstance(value, ir.Var):
                return self.context.cast(self.builder, self.loadvar(value.name), self.typeof(value.name), ty)
        return super().lower_assign(ty, inst)

    def lower_inst(self, inst: Any) -> Any:
        if isinstance(inst, ir.SetItem | ir.StaticSetItem):
            found = self._element(inst.target, inst)
            if found is not None:
                return self._set(found, inst)
        elif isinstance(inst, ir.Assign) and isinstance(inst.value, ir.Expr):
            if inst.value.op in _RANGES and self._by_range(inst.target.name, inst.value):
                return None
        return super().lower_inst(inst)

    def lower_expr(self, resty: Any, expr: Any) -> Any:
        if expr.op in {"getitem", "static_getitem"}:
            found = self._element(expr.value, expr)
            if found is not None:
                kind, pointer = found
                value = self.context.unpack_value(self.builder, kind.dtype, pointer, align=_alignment(kind))
                return self.context.cast(self.builder, value, kind.dtype, resty)
        elif expr.op == "getattr" and expr.attr == "shape" and isinstance(self.typeof(expr.value.name), types.Array):
            return self.builder.extract_value(self.loadvar(expr.value.name), SHAPE)
        elif self._makes_range(expr):
            return cgutils.pack_struct(self.builder, self._numbers(expr, resty.dtype))
        return super().lower_expr(resty, expr)

    def _set(self, found: tuple[Any, Any], inst: Any) -> None:
        kind, pointer = found
        value = self._cast_var(inst.value, kind.dtype)
        self.context.pack_value(self.builder, kind.dtype, value, pointer, align=_alignment(kind))

    def _element(self, array: Any, access: Any) -> tuple[Any, Any] | None:
        """Type of an array and pointer to the element that is meant; None where it is none or more than one."""
        kind = self.typeof(array.name)
        if not isinstance(kind, types.Array) or kind.layout != "C":
            return None
        indices = self._indices(access)
        if indices is None or len(indices) != kind.ndim:
            return None
        builder, fields = self.builder, self.loadvar(array.name)
        at = None
        for axis, index in enumerate(indices):
            size = builder.extract_value(fields, [SHAPE, axis]) if axis or self.context.enable_boundscheck else None
            if self.context.enable_boundscheck:
                cgutils.do_boundscheck(self.context, builder, index, size, axis)
            at = index if at is None else builder.add(builder.mul(at, size), index)
        return kind, builder.gep(builder.extract_value(fields, DATA), [at])

    def _indices(self, access: Any) -> list[Any] | None:
        """LLVM's values of the whole numbers that are the index of an access; None where it is anything else."""
        known = isinstance(access, ir.StaticSetItem) or (isinstance(access, ir.Expr) and access.op == "static_getitem")
        variable = access.index_var if known else access.index
        if variable is None or (known and _counts_from_the_end(access.index)):
            return None
        kind = self.typeof(variable.name)
        if isinstance(kind, types.Integer):
            numbers, of = [self.loadvar(variable.name)], [kind]
        elif isinstance(kind, types.BaseTuple) and all(isinstance(each, types.Integer) for each in kind):
            numbers, of = cgutils.unpack_tuple(self.builder, self.loadvar(variable.name)), list(kind)
        else:
            return None
        return [self.context.cast(self.builder, n, t, types.intp) for n, t in zip(numbers, of, strict=True)]

    def _by_range(self, name: str, expr: Any) -> bool:
        """Build what has to do with a range; whether it was that."""
        return bool(getattr(self, _RANGES[expr.op])(name, expr))

    def _range_of(self, iterator: str) -> Any:
        """The call that makes the range that an iterator runs through; None where it is anything else."""
        made = self._origins.of(iterator)
        if made is None and isinstance(self.typeof(iterator), types.RangeIteratorType):
            msg = "a kernel runs through one of two ranges"
            raise NotImplementedError(msg)
        call = self._origins.of(made.value.name) if _is(made, "getiter") else None
        return call if self._makes_range(call) else None

    def _makes_range(self, value: Any) -> bool:
        return _is(value, "call") and getattr(self.typeof(value.func.name), "typing_key", None) is range

    def _numbers(self, call: Any, kind: Any) -> list[Any]:
        """Where a range starts and ends and by how much it goes."""
        given = [self._cast_var(each, kind) for each in call.args]
        zero, one = self.context.get_constant(kind, 0), self.context.get_constant(kind, 1)
        return [zero, *given, one] if len(given) == 1 else [*given, one][:_WITH_STEP]

    def _loop(self, iterator: str) -> _Loop | None:
        call = self._range_of(iterator)
        if call is None:
            return None
        name = self._origins.first_name(iterator)
        if name not in self._loops:
            kind = self.typeof(name).yield_type
            number = self.context.get_value_type(kind)
            at, stop, step = (cgutils.alloca_once(self.builder, number) for _ in range(3))
            self._loops[name] = _Loop(at, stop, step, self._goes_up(call), kind.signed)
        return self._loops[name]

    def _goes_up(self, call: Any) -> bool:
        step = self._origins.of(call.args[2].name) if len(call.args) == _WITH_STEP else None
        known = step.value if isinstance(step, ir.Const | ir.Global | ir.FreeVar) else None
        return len(call.args) < _WITH_STEP or (isinstance(known, int) and known > 0)

    def _start(self, name: str, _expr: Any) -> bool:
        loop, call = self._loop(name), self._range_of(name)
        if loop is None:
            return False
        for number, pointer in zip(self._numbers(call, self.typeof(name).yield_type), loop, strict=False):
            self.builder.store(number, pointer)
        return self._nothing(name)

    def _turn(self, name: str, expr: Any) -> bool:
        loop = self._loop(expr.value.name)
        if loop is None:
            return False
        number = self.builder.load(loop.at)
        self._turns[name] = number, loop.goes_on(self.builder, number)
        self.builder.store(self.builder.add(number, self.builder.load(loop.step), flags=["nsw"]), loop.at)
        return self._nothing(name)

    def _part(self, name: str, expr: Any) -> bool:
        turn = self._turns.get(expr.value.name)
        if turn is None:
            return False
        self.storevar(turn[expr.op == "pair_second"], name)
        return True

    def _nothing(self, name: str) -> bool:
        """Let a variable hold what nobody reads."""
        kind = self.context.get_value_type(self.typeof(name))
        self.storevar(llvm.Constant(kind, llvm.Undefined), name)
        return True


_RANGES = {"getiter": "_start", "iternext": "_turn", "pair_first": "_part", "pair_second": "_part"}
"""Which of its methods builds which of numba's instructions where a range is meant."""


def _counts_from_the_end(index: Any) -> bool:
    """Whether numba has to make something of an index that is known."""
    return any(not isinstance(each, int) or each < 0 for each in (index if isinstance(index, tuple) else (index,)))


def _alignment(kind: Any) -> int | None:
    return None if kind.aligned else 1
