"""The weights of a loaded model, written and read in place.  In the engine's process only."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from ctypes import CDLL, c_char_p, c_int32, c_void_p, create_string_buffer
from typing import TYPE_CHECKING

from qxmix.engines.library import PACKAGES
from qxmix.errors import RunError

if TYPE_CHECKING:
    from qxmix.quants import Engine

_LOOKUP: dict[Engine, str] = {
    "ik_llama.cpp": "llama_get_model_tensor",
    "llama.cpp": "_ZNK11llama_model10get_tensorEPKc",
}
"""What finds a tensor of a model by name; llama.cpp has only the method ``llama_model::get_tensor`` of its C++."""
_SLICE_NBYTES = 1 << 22


class Weights:
    """The tensors of a model that was loaded without mapping the file, by name."""

    def __init__(self, engine: Engine, library: CDLL, model: int) -> None:
        """Find out how tensors are found.

        Raises:
            RunError: this version of the engine does not export that.

        """
        try:
            self._lookup = getattr(library, _LOOKUP[engine])
        except AttributeError:
            msg = f"this version of {engine} does not show its tensors; install another of {PACKAGES[engine][1]}"
            raise RunError(msg) from None
        self._lookup.restype, self._lookup.argtypes = c_void_p, [c_void_p, c_char_p]
        self._engine = engine
        self._lib = library
        self._model = model
        self._found: dict[str, int] = {}
        self.twins: Mapping[str, tuple[int, ...]] = {}
        """Addresses of further tensors of a name, which hold the same data and are written with it."""

    def lookup(self, name: bytes) -> int | None:
        """Address of the tensor that the engine finds by ``name``."""
        address: int | None = self._lookup(self._model, name)
        return address

    def facts(self, name: str) -> tuple[int, int]:
        """Type id and bytes of a tensor as the engine holds it.

        Raises:
            RunError: the engine has no such tensor.

        """
        address = self._address(name)
        # The first field of every version of ggml_tensor.
        return c_int32.from_address(address).value, self._lib.ggml_nbytes(address)

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Overwrite the bytes of a tensor from ``offset`` on."""
        for address in self._addresses(name):
            assert offset + len(data) <= self._lib.ggml_nbytes(address), "beyond the tensor the engine would abort"
            self._lib.ggml_backend_tensor_set(address, data, offset, len(data))

    def crcs(self, name: str) -> list[int]:
        """CRC-32 of the bytes of each tensor of that name."""
        return [self._crc(address) for address in self._addresses(name)]

    def _crc(self, address: int) -> int:
        n_bytes = self._lib.ggml_nbytes(address)
        buffer = create_string_buffer(min(n_bytes, _SLICE_NBYTES))
        crc = 0
        for start in range(0, n_bytes, _SLICE_NBYTES):
            n = min(_SLICE_NBYTES, n_bytes - start)
            self._lib.ggml_backend_tensor_get(address, buffer, start, n)
            crc = zlib.crc32(memoryview(buffer)[:n], crc)
        return crc

    def _addresses(self, name: str) -> tuple[int, ...]:
        return (self._address(name), *self.twins.get(name, ()))

    def _address(self, name: str) -> int:
        if name not in self._found:
            address = self.lookup(name.encode())
            if not address:
                raise RunError(f"{self._engine} does not load the tensor {name}")
            self._found[name] = address
        return self._found[name]
