"""A base that stays loaded while single tensors of it are replaced, scored and put back."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import numpy as np
from numpy.typing import NDArray

from qxmix.container.model import ModelHeader, TensorInfo
from qxmix.container.source import opened
from qxmix.engines.chunks import Chunks
from qxmix.engines.memory import available_nbytes
from qxmix.engines.session import Session
from qxmix.errors import ModelFileError, RunError
from qxmix.quants import Engine

_SMALLER_BASE = "give a smaller base of the same model, such as its Q8_0"
_SLICE_NBYTES = 1 << 24
"""Bytes of weights that are on their way at a time."""


class Resident(Session):
    """A model whose weights can be replaced, with the logits that it has without.

    Use it as a context manager.  Every method raises RunError where the engine refuses or dies.
    """

    def __init__(
        self,
        engine: Engine,
        header: ModelHeader,
        *,
        n_ctx: int = 512,
        n_ubatch: int = 512,
        n_threads: int | None = None,
    ) -> None:
        """Load a model whole into memory.

        Raises:
            ModelFileError: it does not fit.

        """
        _require_memory(header, sum(header.file_nbytes) + _twice(engine, header), "it has", _SMALLER_BASE)
        super().__init__(engine, header.path, n_ctx=n_ctx, n_ubatch=n_ubatch, n_threads=n_threads, in_place=True)
        self._header = header
        self._tensors = {t.name: t for t in header.tensors}
        self._n_chunks = 0
        self._checked: set[str] = set()

    def keep_chunks(self, chunks: Chunks) -> Iterator[int]:
        """Run the base on each chunk and keep its logits in the engine's process; yields after each.

        Raises:
            ModelFileError: they are no numbers, or there is no room for them.

        """
        self._n_chunks = 0
        # Logits and probabilities in float32.
        n_bytes = 8 * chunks.tokens.shape[0] * (chunks.tokens.shape[1] - chunks.first_scored - 1) * self.n_vocab
        _require_memory(self._header, n_bytes, "the logits that are kept for comparison have", "run fewer chunks")
        for i, tokens in enumerate(chunks.tokens):
            request = {"op": "keep", "chunk": i, "first_row": chunks.first_scored}
            if not self.request(request, tokens.astype(np.int32).tobytes())["finite"]:
                msg = f"{self.engine} computes logits from it that are no numbers; the file may be damaged"
                raise ModelFileError.at(self.path, msg)
            self._n_chunks = i + 1
            yield i

    def kld(self) -> NDArray[np.float64]:
        """Divergence (n_scored,) of the base from the model as it is now, in nats per position, over all chunks.

        Raises:
            RunError: the logits are no numbers.

        """
        parts = []
        for i in range(self._n_chunks):
            parts.append(np.frombuffer(self.read(self.request({"op": "kld", "chunk": i})), np.float64))
            if not np.isfinite(parts[-1]).all():
                raise RunError(f"{self.engine} computes logits that are no numbers from what was put in")
        return np.concatenate(parts)

    def is_base(self) -> bool:
        """Whether the first chunk gives the base's logits, to the bit."""
        return bool(self.request({"op": "same", "chunk": 0})["same"])

    @contextmanager
    def swapped(self, contents: Mapping[str, Iterable[tuple[int, bytes]]]) -> Iterator[None]:
        """Replace the data of tensors inside the block; behind it they are those of the file again.

        Args:
            contents: to each name pieces of data, in the type that the tensor has in the base: where in the tensor, in
                bytes, and the bytes.

        Raises:
            RunError: the engine holds the tensor otherwise than the file, or it cannot be put back.

        """
        for name in contents:
            self._check(self._tensors[name])
        try:
            for name, pieces in contents.items():
                for offset, data in pieces:
                    self.request({"op": "write", "name": name, "offset": offset}, data)
            yield
        except Exception:
            self._restore(contents)
            raise
        except BaseException:
            # An interrupt may have come in the middle of an answer: nothing can be asked after that.
            self.close()
            raise
        self._restore(contents)

    def _check(self, tensor: TensorInfo) -> None:
        if tensor.name in self._checked:
            return
        self._checked.add(tensor.name)
        answer = self.request({"op": "facts", "name": tensor.name})
        if (answer["type_id"], answer["tensor_nbytes"]) != (tensor.type_id, tensor.nbytes):
            raise RunError(f"{self.engine} does not hold {tensor.name} as it is in the file, so it cannot be replaced")

    def _restore(self, names: Iterable[str]) -> None:
        for name in names:
            self._put_back(self._tensors[name])

    def _put_back(self, tensor: TensorInfo) -> None:
        crc = 0
        with opened(self._header.paths[tensor.shard]) as file:
            for start in range(0, tensor.nbytes, _SLICE_NBYTES):
                at = tensor.offset + start
                data = file[at : at + min(_SLICE_NBYTES, tensor.nbytes - start)]
                crc = zlib.crc32(data, crc)
                self.request({"op": "write", "name": tensor.name, "offset": start}, data)
        if set(cast("list[int]", self.request({"op": "crc", "name": tensor.name})["crcs"])) != {crc}:
            raise RunError(f"{self.engine} did not take {tensor.name} back as it is in the file")


def _twice(engine: Engine, header: ModelHeader) -> int:
    """Bytes that the engine reads a second time: embeddings that are the output, too."""
    tensors = {t.name: t.nbytes for t in header.tensors}
    if engine != "ik_llama.cpp" or "output.weight" in tensors:
        return 0
    return tensors.get("token_embd.weight", 0)


def _require_memory(header: ModelHeader, n_bytes: int, what: str, remedy: str) -> None:
    free = available_nbytes()
    if free is not None and n_bytes > free:
        msg = (
            f"does not fit into memory: {what} {n_bytes / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free; "
            f"close other programs, or {remedy}"
        )
        raise ModelFileError.at(header.path, msg)
