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

from qxmix.engines.frames import Message, receive, receive_payload, send
from qxmix.engines.library import open_library
from qxmix.engines.model import LoadedModel
from qxmix.errors import QxmixError

if TYPE_CHECKING:
    from qxmix.quants import Engine


class _Service:
    """Answers requests about one engine and, once loaded, one model."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loaded: LoadedModel | None = None

    @property
    def _model(self) -> LoadedModel:
        assert self._loaded is not None, "load comes first"
        return self._loaded

    def load(self, request: Message, _payload: bytes) -> tuple[Message, bytes]:
        """Load ``path``; answer with the facts of its vocabulary."""
        sizes = {key: cast("int", request[key]) for key in ("n_ctx", "n_ubatch", "n_threads")}
        self._loaded = model = LoadedModel(self._engine, cast("str", request["path"]), **sizes)
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
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(engine, requests, replies)
    sys.stderr.flush()
    os._exit(0)  # without the engines' own clean-up, which is slow and at times fatal
