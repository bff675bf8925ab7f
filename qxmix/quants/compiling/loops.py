"""Loops over ranges, built without numba's iterators, which divide to count the turns and go by way of pairs in memory.

A loop has three numbers in memory, which LLVM takes into registers: the next one, where it ends, and by how much it
goes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir as llvm
from numba.core import cgutils, ir, types

_WITH_STEP = 3
"""How many arguments a range has that says by how much it goes."""


class Origins:
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


class _Loop(NamedTuple):
    """Pointers to the next number, to where the range ends and to by how much it goes."""

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


class Loops:
    """Builds the instructions of a function that have to do with ranges; ``lower`` is what builds the others."""

    def __init__(self, lower: Any) -> None:
        self._lower = lower
        self._loops: dict[str, _Loop] = {}
        self._turns: dict[str, tuple[Any, Any]] = {}

    def build(self, name: str, expr: Any) -> bool:
        """Build what is assigned to a variable; whether it has to do with a range, and was built."""
        built = _BUILT.get(expr.op) if isinstance(expr, ir.Expr) else None
        return built is not None and bool(getattr(self, built)(name, expr))

    def made(self, value: Any) -> bool:
        """Whether a value is a call of ``range``."""
        return _is(value, "call") and getattr(self._lower.typeof(value.func.name), "typing_key", None) is range

    def numbers(self, call: Any, kind: Any) -> list[Any]:
        """Where the range of a call starts and ends and by how much it goes, in LLVM's values of a numba type."""
        given = [self._lower._cast_var(each, kind) for each in call.args]  # noqa: SLF001 - numba's own name for it
        zero, one = (self._lower.context.get_constant(kind, number) for number in (0, 1))
        return [zero, *given, one] if len(given) == 1 else [*given, one][:_WITH_STEP]

    def _range_of(self, iterator: str) -> Any:
        """The call that makes the range that an iterator runs through; None where it is anything else."""
        origins = self._lower.origins
        started = origins.of(iterator)
        if started is None and isinstance(self._lower.typeof(iterator), types.iterators.RangeIteratorType):
            msg = "a loop of a kernel runs through one of several ranges"
            raise NotImplementedError(msg)
        call = origins.of(started.value.name) if _is(started, "getiter") else None
        return call if self.made(call) else None

    def _loop(self, iterator: str) -> _Loop | None:
        call, name = self._range_of(iterator), self._lower.origins.first_name(iterator)
        if call is None:
            return None
        if name not in self._loops:
            kind = self._lower.typeof(name).yield_type
            number = self._lower.context.get_value_type(kind)
            at, stop, step = (cgutils.alloca_once(self._lower.builder, number) for _ in range(3))
            self._loops[name] = _Loop(at, stop, step, self._goes_up(call), kind.signed)
        return self._loops[name]

    def _goes_up(self, call: Any) -> bool:
        if len(call.args) < _WITH_STEP:
            return True
        step = self._lower.origins.of(call.args[2].name)
        known = step.value if isinstance(step, ir.Const | ir.Global | ir.FreeVar) else None
        return isinstance(known, int) and known > 0

    def _start(self, name: str, _expr: Any) -> bool:
        loop = self._loop(name)
        if loop is None:
            return False
        numbers = self.numbers(self._range_of(name), self._lower.typeof(name).yield_type)
        for number, pointer in zip(numbers, (loop.at, loop.stop, loop.step), strict=True):
            self._lower.builder.store(number, pointer)
        return self._nothing(name)

    def _turn(self, name: str, expr: Any) -> bool:
        loop, builder = self._loop(expr.value.name), self._lower.builder
        if loop is None:
            return False
        number = builder.load(loop.at)
        self._turns[name] = number, loop.goes_on(builder, number)
        builder.store(builder.add(number, builder.load(loop.step), flags=["nsw"]), loop.at)
        return self._nothing(name)

    def _part(self, name: str, expr: Any) -> bool:
        turn = self._turns.get(expr.value.name)
        if turn is None:
            return False
        self._lower.storevar(turn[expr.op == "pair_second"], name)
        return True

    def _nothing(self, name: str) -> bool:
        """Let a variable hold what nobody reads."""
        kind = self._lower.context.get_value_type(self._lower.typeof(name))
        self._lower.storevar(llvm.Constant(kind, llvm.Undefined), name)
        return True


_BUILT = {"getiter": "_start", "iternext": "_turn", "pair_first": "_part", "pair_second": "_part"}
"""Which of its methods builds which of numba's expressions."""


def _is(value: Any, op: str) -> bool:
    return isinstance(value, ir.Expr) and value.op == op
