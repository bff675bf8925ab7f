"""What goes into the matrices of a model while it runs, handed to a consumer in the engine's process.

ik_llama.cpp's scheduler asks before each operation whether somebody wants to see it, and calls again when it is done.
The second input of a matrix product is what an importance matrix is made of.  Which input belongs to which matrix::

    op                  matrices               input   expert numbers
    MUL_MAT             src 0                  src 1
    MUL_MAT_ID          src 0                  src 1   src 2
    FUSED_UP_GATE       src 0 and src 1        src 2
    MOE_FUSED_UP_GATE   src 0 and, if, src 1   src 2   src 3
"""

from __future__ import annotations

from collections.abc import Iterator
from ctypes import CDLL, c_bool
from importlib import import_module
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qxmix.engines.frames import Message
from qxmix.engines.library import EvalCallback, Opaque, ask_for_each_operation
from qxmix.engines.tensors import TensorStruct, array_of, check_layout

_OPS = {
    b"MUL_MAT": ((0,), 1, None),
    b"MUL_MAT_ID": ((0,), 1, 2),
    b"FUSED_UP_GATE": ((0, 1), 2, None),
    b"MOE_FUSED_UP_GATE": ((0, 1), 2, 3),
}


class Consumer(Protocol):
    """What gathers activations.  It lives in the engine's process and is told of nothing but through these."""

    def wants(self, name: str) -> bool:
        """Whether the input of this tensor matters; asked for every product of every pass."""

    def take(self, name: str, rows: NDArray[np.float32], experts: NDArray[np.int32] | None) -> None:
        """Take the input of one product.

        Args:
            name: the matrix.
            rows: (n, n_cols) activations, one row per token and slot, in the engine's memory: valid during the call.
            experts: (n, k) the experts that each row goes to, or None where the tensor is one matrix (or, as in
                attention over latent heads, several that each have rows of their own, one after the other).

        """

    def result(self) -> tuple[Message, bytes]:
        """What was gathered so far, for the other process."""


def make_consumer(place: str, arguments: Message) -> Consumer:
    """Call the factory at ``place`` (``package.module:name``) with ``arguments``."""
    module, _, name = place.partition(":")
    consumer: Consumer = getattr(import_module(module), name)(**arguments)
    return consumer


class Observer:
    """The callback of one context; keep it for as long as the context runs."""

    def __init__(self, library: CDLL, consumer: Consumer, *, fused: bool = True) -> None:
        self._lib = library
        self._fused = fused
        self._consumer = consumer
        self._callback = EvalCallback(self._call)
        self._error: BaseException | None = None
        self.paused = False
        """Whether to see nothing for a while."""
        self._names: dict[int, bytes] = {}

    def install(self, params: Opaque) -> None:
        """Set the callback in context parameters, and whether the engine may join products of one input."""
        from ik_llama_cpp import _ctypes_api  # noqa: PLC0415 - loads the engine, so only here, in the child

        ask_for_each_operation(params, self._callback)
        declared = _ctypes_api.llama_context_params
        for name in ("fused_moe_up_gate", "fused_up_gate", "fused_mmad"):
            c_bool.from_buffer(params, getattr(declared, name).offset).value = self._fused

    def check(self) -> None:
        """Raise what the consumer raised during the last pass."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _call(self, address: int, asked: bool, _data: object) -> bool:  # noqa: FBT001 - C calls it
        try:
            if not self._names:
                check_layout(self._lib, address)
            return self._done(TensorStruct.from_address(address), asked=asked)
        except BaseException as error:  # noqa: BLE001 - it cannot pass through C; check() raises it
            self._error = self._error or error
            return False  # ends the pass

    def _done(self, node: TensorStruct, *, asked: bool) -> bool:
        op = self._names.get(node.op)
        if op is None:
            op = self._names[node.op] = self._lib.ggml_op_name(node.op)
        if op not in _OPS or self.paused:
            return False
        names = [name for name in _matrices(node, _OPS[op][0]) if self._consumer.wants(name)]
        if asked or not names:
            return bool(names)
        rows, experts = _input(node, _OPS[op][1], _OPS[op][2])
        for name in names:
            self._consumer.take(name, rows, experts)
        return True


def _matrices(node: TensorStruct, places: tuple[int, ...]) -> Iterator[str]:
    for place in places:
        if node.src[place]:
            name = TensorStruct.from_address(node.src[place]).name
            # "blk.0.attn_kv_b.weight (view)": the engine names what it cuts out of a tensor after it
            yield name.decode(errors="replace").partition(" ")[0]


def _input(
    node: TensorStruct, place: int, experts_place: int | None
) -> tuple[NDArray[np.float32], NDArray[np.int32] | None]:
    values = array_of(TensorStruct.from_address(node.src[place]))
    if experts_place is None:
        return values.reshape(-1, values.shape[-1]), None  # type: ignore[return-value] # float32, as array_of checks
    experts = array_of(TensorStruct.from_address(node.src[experts_place]))[0, 0]
    # values: (1, n_tokens, 1 or n_used, n_cols): either one row for all experts of a token or one for each
    n_slots = values.shape[2]
    return values.reshape(-1, values.shape[-1]), experts if n_slots == 1 else experts.reshape(-1, 1)  # type: ignore[return-value]
