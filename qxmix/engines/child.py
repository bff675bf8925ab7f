"""The process in which an engine runs: it reads requests from standard input and answers on standard output.

Engines abort, print and leak; here they do it alone.  What they print goes to standard error, where the parent reads
the last words of a child that died.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from qxmix.engines.frames import Message, receive, receive_payload, send
from qxmix.engines.library import open_library
from qxmix.engines.model import LoadedModel
from qxmix.engines.observe import Consumer, Observer, make_consumer
from qxmix.engines.reference import Reference
from qxmix.engines.weights import Weights
from qxmix.errors import QxmixError
from qxmix.parent import end_with_parent

if TYPE_CHECKING:
    from qxmix.quants import Engine


class _Service:
    """Answers requests about one engine and, once loaded, one model."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loaded: LoadedModel | None = None
        self._consumer: Consumer | None = None
        self._tokens: dict[int, tuple[NDArray[np.int32], int]] = {}

    @property
    def _model(self) -> LoadedModel:
        assert self._loaded is not None, "load comes first"
        return self._loaded

    @property
    def _weights(self) -> Weights:
        assert self._model.weights is not None, "load it in place"
        return self._model.weights

    def load(self, request: Message, _payload: bytes) -> tuple[Message, bytes]:
        """Load ``path``; answer with the facts of its vocabulary."""
        sizes = {key: cast("int", request[key]) for key in ("n_ctx", "n_ubatch", "n_threads", "n_sequences")}
        in_place, encoder = (cast("bool", request[key]) for key in ("in_place", "encoder"))
        path = cast("str", request["path"])
        observer = self._observer(request)
        self._reference = Reference(sizes["n_threads"])
        self._loaded = model = LoadedModel(
            self._engine, path, **sizes, in_place=in_place, encoder=encoder, observer=observer
        )
        return {"n_vocab": model.n_vocab, "add_bos": model.add_bos, "bos": model.bos}, b""

    def tokenize(self, _request: Message, payload: bytes) -> tuple[Message, bytes]:
        """Tokens of the text in the payload, as int32."""
        return {}, self._model.tokenize(payload).tobytes()

    def logits(self, request: Message, payload: bytes) -> tuple[Message, memoryview]:
        """Logits after each of the payload's tokens from ``first_row`` on but the last, as rows of float32."""
        tokens = np.frombuffer(payload, np.int32)
        self._model.clear()
        # What follows the last token is not known, so nobody scores that prediction.
        rows = self._model.logits(tokens, cast("int", request["first_row"]))[:-1]
        return {"n_rows": len(rows)}, rows.data.cast("B")

    def _observer(self, request: Message) -> Observer | None:
        if request["consumer"] is None:
            return None
        self._consumer = make_consumer(cast("str", request["consumer"]), cast("Message", request["arguments"]))
        return Observer(open_library(self._engine), self._consumer, fused=cast("bool", request["fused"]))

    def run(self, request: Message, payload: bytes) -> tuple[Message, bytes]:
        """Run the payload's tokens, those of ``n_sequences`` texts one after the other, for the consumer."""
        self._model.run(np.frombuffer(payload, np.int32), cast("int", request["n_sequences"]))
        return {}, b""

    def gathered(self, _request: Message, _payload: bytes) -> tuple[Message, bytes]:
        """What the consumer has gathered."""
        assert self._consumer is not None, "a consumer comes first"
        return self._consumer.result()

    def facts(self, request: Message, _payload: bytes) -> tuple[Message, bytes]:
        """Type and bytes of the tensor ``name``."""
        type_id, n_bytes = self._weights.facts(cast("str", request["name"]))
        return {"type_id": type_id, "tensor_nbytes": n_bytes}, b""

    def write(self, request: Message, payload: bytes) -> tuple[Message, bytes]:
        """Overwrite the tensor ``name`` from ``offset`` on with the payload."""
        self._weights.write(cast("str", request["name"]), cast("int", request["offset"]), payload)
        return {}, b""

    def crc(self, request: Message, _payload: bytes) -> tuple[Message, bytes]:
        """CRC-32 of each tensor ``name``."""
        return {"crcs": self._weights.crcs(cast("str", request["name"]))}, b""

    def keep(self, request: Message, payload: bytes) -> tuple[Message, bytes]:
        """Run the payload's tokens as ``chunk`` and keep the logits from ``first_row`` on for comparison."""
        chunk = cast("int", request["chunk"])
        self._tokens[chunk] = np.frombuffer(payload, np.int32), cast("int", request["first_row"])
        logits = self._chunk(chunk)
        self._reference.keep(chunk, logits)
        return {"finite": bool(np.isfinite(logits).all())}, b""

    def same(self, request: Message, _payload: bytes) -> tuple[Message, bytes]:
        """Whether ``chunk`` has the logits that were kept, to the bit."""
        chunk = cast("int", request["chunk"])
        return {"same": self._reference.same(chunk, self._chunk(chunk))}, b""

    def kld(self, request: Message, _payload: bytes) -> tuple[Message, bytes]:
        """Divergence of what was kept of ``chunk`` from what is computed now, as float64."""
        chunk = cast("int", request["chunk"])
        return {}, self._reference.kld(chunk, self._chunk(chunk)).tobytes()

    def _chunk(self, chunk: int) -> NDArray[np.float32]:
        tokens, first_row = self._tokens[chunk]
        self._model.clear()
        return self._model.logits(tokens, first_row)[:-1]

    def generate(self, request: Message, payload: bytes) -> tuple[Message, bytes]:
        """Continue the payload's text greedily; answer with the text, and the tokens as int32."""
        tokens = self._model.generate(payload, cast("int", request["n_tokens"]))
        return {"text": self._model.text(tokens)}, tokens.tobytes()

    def embedding(self, _request: Message, payload: bytes) -> tuple[Message, bytes]:
        """Embed the payload's text, as float32."""
        return {}, self._model.embedding(payload).tobytes()

    def type_names(self, request: Message, _payload: bytes) -> tuple[Message, bytes]:
        """Name each of ``ids`` as the engine does; an id it has retired has no name."""
        library = open_library(self._engine)
        names = [library.ggml_type_name(type_id) or b"" for type_id in cast("list[int]", request["ids"])]
        return {"names": [name.decode(errors="replace") for name in names]}, b""


def serve(engine: Engine, requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer requests until their stream ends."""
    service = _Service(engine)
    while (request := receive(requests)) is not None:
        payload = receive_payload(requests, request)
        try:
            answer, data = getattr(service, cast("str", request["op"]))(request, payload)
        except QxmixError as error:
            answer, data = {"error": str(error)}, b""
        send(replies, answer, data)


def main(engine: Engine) -> None:
    """Take over standard input and output for the protocol, then serve."""
    # An interrupt reaches the whole process group; the parent decides what becomes of this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(engine, requests, replies)
    sys.stderr.flush()
    os._exit(0)  # without the engines' own clean-up, which is slow and at times fatal
