"""The weights of a loaded model, written and read in place.  In the engine's process only."""

from __future__ import annotations

import zlib
from ctypes import create_string_buffer
from typing import TYPE_CHECKING

from qxmix.engines.tensors import TensorStruct, check_layout
from qxmix.errors import RunError

if TYPE_CHECKING:
    from ctypes import CDLL

_SLICE_NBYTES = 1 << 22


class Weights:
    """The tensors of a model that ik_llama.cpp loaded without mapping the file, by name."""

    def __init__(self, library: CDLL, model: int) -> None:
        self._lib = library
        self._model = model
        self._found: dict[str, int] = {}

    def facts(self, name: str) -> tuple[int, int]:
        """Type id and bytes of a tensor as the engine holds it.

        Raises:
            RunError: the engine has no such tensor, or keeps it in another way.

        """
        t = TensorStruct.from_address(self._address(name))
        return t.type, self._lib.ggml_nbytes(self._found[name])

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Overwrite the bytes of a tensor from ``offset`` on."""
        address = self._address(name)
        assert offset + len(data) <= self._lib.ggml_nbytes(address), "beyond the tensor the engine would abort"
        self._lib.ggml_backend_tensor_set(address, data, offset, len(data))

    def crc(self, name: str) -> int:
        """CRC-32 of a tensor's bytes."""
        address = self._address(name)
        n_bytes = self._lib.ggml_nbytes(address)
        buffer = create_string_buffer(min(n_bytes, _SLICE_NBYTES))
        crc = 0
        for start in range(0, n_bytes, _SLICE_NBYTES):
            n = min(_SLICE_NBYTES, n_bytes - start)
            self._lib.ggml_backend_tensor_get(address, buffer, start, n)
            crc = zlib.crc32(memoryview(buffer)[:n], crc)
        return crc

    def _address(self, name: str) -> int:
        if name not in self._found:
            address = self._lib.llama_get_model_tensor(self._model, name.encode())
            if not address:
                msg = f"ik_llama.cpp does not load the tensor {name}"
                raise RunError(msg)
            check_layout(self._lib, address, name)
            self._found[name] = address
        return self._found[name]
