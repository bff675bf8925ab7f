"""Weights that ik_llama.cpp holds more than once.

A model without a tensor ``output.weight`` multiplies with its embeddings in the end, and without mapping the engine
reads them twice: what finds a tensor by name finds the one where tokens are looked up.  The other is seen in use.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from ctypes import CDLL

from qxmix.engines.library import EvalCallback, Opaque, ask_for_each_operation
from qxmix.engines.tensors import TensorStruct, check_layout


class TwinFinder:
    """The callback of a context that notes which tensors a pass reads, by name."""

    def __init__(self, library: CDLL) -> None:
        """Keep it for as long as the context runs."""
        self._lib = library
        self._callback = EvalCallback(self._call)
        self._error: BaseException | None = None
        self._found: dict[str, set[int]] = defaultdict(set)

    def install(self, params: Opaque) -> None:
        """Set the callback in context parameters of ik_llama.cpp."""
        ask_for_each_operation(params, self._callback)

    def twins(self, lookup: Callable[[bytes], int | None]) -> Mapping[str, tuple[int, ...]]:
        """To each name the addresses of tensors that have it, other than the one that ``lookup`` finds.

        Raises:
            RunError: this version of the engine has tensors of another layout.

        """
        if self._error is not None:
            raise self._error
        found = {}
        for name, addresses in self._found.items():
            first = lookup(name.encode())
            if first and addresses - {first}:
                found[name] = tuple(sorted(addresses - {first}))
        return found

    def _call(self, address: int, asked: bool, _data: object) -> bool:  # noqa: ARG002, FBT001 - C calls it
        try:
            if not self._found:
                check_layout(self._lib, address)
            for source in filter(None, TensorStruct.from_address(address).src):
                tensor = TensorStruct.from_address(source)
                # Cut out of another, it has that one's data; the name of an intermediate result is no weight's.
                if not tensor.view_src:
                    self._found[tensor.name.decode(errors="replace")].add(source)
        except BaseException as error:  # noqa: BLE001 - it cannot pass through C; twins() raises it
            self._error = self._error or error
        return False
