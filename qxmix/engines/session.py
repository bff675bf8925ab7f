"""A model in an engine in a child process, as a context manager."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Self, cast

import numpy as np
from numpy.typing import NDArray

from qxmix import system
from qxmix.engines.frames import Message, receive, receive_payload, send
from qxmix.engines.library import library_path
from qxmix.errors import RunError
from qxmix.processors import n_processors
from qxmix.quants import Engine

ROWS_PER_SLICE = 16
"""Rows of logits that are held at a time: with 256,000 tokens 16 MB, twice that as float64."""
_LAST_WORDS = (
    r"GGML_ASSERT|GGML_ABORT|what\(\):",
    r"error loading model|failed to open|no such file",
    r"\berror\b|Error",
    r"failed|abort|invalid",
)
"""What marks the line that tells why an engine gave up, in the order of trust."""
_TAIL_NBYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Generated:
    """What a model made of a prompt."""

    tokens: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Observed:
    """Who gathers what goes into the products of a model, in the engine's process."""

    consumer: str
    """Where the factory of an ``observe.Consumer`` is: ``package.module:name``."""
    arguments: Mapping[str, object] = field(default_factory=dict)
    """Keywords for the factory; what JSON can carry."""
    fused: bool = True
    """Whether the engine may join products that have the same input, as it does by default."""
    encoder: bool = False
    """Whether the model makes embeddings and no logits, as BERT does."""


class EngineProcess:
    """A child process with an engine in it; no death of it is the death of this one."""

    def __init__(self, engine: Engine) -> None:
        """Start the child.

        Raises:
            RunError: the engine is not installed.

        """
        library_path(engine)  # before any process: the common mistake gets the quickest answer
        self.engine = engine
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._log_start = 0
        code = f"import sys; sys.path.append(sys.argv[1]); from qxmix.engines.child import main; main({engine!r})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, str(Path(__file__).parents[2])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child, at whatever it is."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            try:
                cast("BinaryIO", stream).close()
            except OSError:  # a request that the dead child never read; what it is called depends on the system
                continue
        self._process.wait()
        self._log.close()

    def request(self, message: Message, payload: bytes = b"") -> Message:
        """Send ``message`` and wait for the answer; its payload is still to be read.

        Raises:
            RunError: the engine refused, or the child died of the request; with the engine's last words.

        """
        self._log_start = self._log.seek(0, os.SEEK_END)
        try:
            send(cast("BinaryIO", self._process.stdin), message, payload)
            answer = receive(cast("BinaryIO", self._process.stdout))
        except OSError:
            answer = None
        if answer is None:
            raise RunError(self._obituary())
        if "error" in answer:
            words = last_words(self._log_lines())
            raise RunError(f"{answer['error']}: {words}" if words else str(answer["error"]))
        return answer

    def read(self, answer: Message) -> bytes:
        """Read the whole payload of ``answer``."""
        return receive_payload(cast("BinaryIO", self._process.stdout), answer)

    def read_exactly(self, n_bytes: int) -> bytes:
        """Read the next ``n_bytes`` of a payload.

        Raises:
            RunError: the child died meanwhile.

        """
        data = cast("BinaryIO", self._process.stdout).read(n_bytes)
        if len(data) < n_bytes:
            raise RunError(self._obituary())
        return data

    def type_names(self, ids: list[int]) -> list[str]:
        """Name each tensor type id as the engine does; empty for one that it has retired."""
        return cast("list[str]", self.request({"op": "type_names", "ids": ids})["names"])

    def _log_lines(self) -> list[str]:
        """What the engine has printed since the last request."""
        n_bytes = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(self._log_start, n_bytes - _TAIL_NBYTES))
        lines = self._log.read().decode(errors="replace").splitlines()
        return [line.strip() for line in lines if line.strip()]

    def _obituary(self) -> str:
        code = self._process.wait()
        why = system.fault(code)
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}{why and f' ({why})'}"
        lines = self._log_lines()
        return f"{self.engine} ended with {how}: {last_words(lines) or ''.join(lines[-1:]) or 'it said nothing'}"


def last_words(lines: list[str]) -> str:
    """The line of an engine's log that best tells why it refused; empty where none stands out."""
    for pattern in _LAST_WORDS:
        for line in reversed(lines):
            if re.search(pattern, line):
                return line
    return ""


class Session(EngineProcess):
    """A model loaded by an engine in a child process.

    Use it as a context manager.  Every method raises RunError where the engine refuses or dies.
    """

    def __init__(
        self,
        engine: Engine,
        path: Path,
        *,
        n_ctx: int = 512,
        n_ubatch: int = 512,
        n_threads: int | None = None,
        n_sequences: int = 1,
        in_place: bool = False,
        observed: Observed | None = None,
    ) -> None:
        """Load ``path`` (of a model in shards, the first one).

        Args:
            engine: who runs it.
            path: a GGUF file.
            n_ctx: tokens of context, those of all sequences together.
            n_ubatch: tokens that are computed at a time; results differ a little with it.
            n_threads: threads of the engine; None for one per processor that this process may use.
            n_sequences: how many texts ``run`` may be given at once.
            in_place: whether weights will be overwritten; the whole model is then in memory.
            observed: what gathers the inputs of products, for ``run`` and ``gathered`` (ik_llama.cpp only).

        """
        super().__init__(engine)
        self.path = path
        request: Message = {
            "op": "load",
            "path": str(path),
            "n_ctx": n_ctx,
            "n_ubatch": min(n_ubatch, n_ctx),
            "n_threads": n_threads or n_processors(),
            "n_sequences": n_sequences,
            "in_place": in_place,
            "consumer": observed and observed.consumer,
            "arguments": observed and dict(observed.arguments),
            "encoder": bool(observed and observed.encoder),
            "fused": observed and observed.fused,
        }
        try:
            facts = self.request(request)
        except BaseException:
            self.close()
            raise
        self.n_vocab = cast("int", facts["n_vocab"])
        self.bos = cast("int", facts["bos"]) if facts["add_bos"] else None
        """The token that starts a text, or None where the model wants none."""

    def tokenize(self, text: bytes) -> NDArray[np.int32]:
        """Tokens (n,) of UTF-8 ``text``, start-of-text token included where the model wants one."""
        return np.frombuffer(self.read(self.request({"op": "tokenize"}, text)), np.int32)

    def logits(self, tokens: NDArray[np.int32], first_row: int) -> Iterator[NDArray[np.float32]]:
        """Run ``tokens`` from an empty context; when they are done, return the logits in slices of some rows.

        The slices are (up to ``ROWS_PER_SLICE``, n_vocab): the predictions after ``tokens[first_row]`` and so on, but
        for the one after the last token.  All of them must be read before anything else is asked.
        """
        answer = self.request({"op": "logits", "first_row": first_row}, tokens.astype(np.int32).tobytes())
        return self._slices(cast("int", answer["n_rows"]))

    def _slices(self, n_rows: int) -> Iterator[NDArray[np.float32]]:
        for start in range(0, n_rows, ROWS_PER_SLICE):
            n = min(ROWS_PER_SLICE, n_rows - start)
            yield np.frombuffer(self.read_exactly(n * self.n_vocab * 4), np.float32).reshape(n, self.n_vocab)

    def run(self, tokens: NDArray[np.int32]) -> None:
        """Run one text (n,), or several of one length side by side (n_sequences, n), for what is observed."""
        n_sequences = len(tokens) if tokens.ndim > 1 else 1
        self.request({"op": "run", "n_sequences": n_sequences}, tokens.astype(np.int32).tobytes())

    def gathered(self) -> tuple[Message, bytes]:
        """What the consumer of an observed session has gathered so far."""
        answer = self.request({"op": "gathered"})
        return answer, self.read(answer)

    def generate(self, prompt: str, n_tokens: int) -> Generated:
        """Continue ``prompt`` by up to ``n_tokens`` tokens, taking the likeliest each time."""
        answer = self.request({"op": "generate", "n_tokens": n_tokens}, prompt.encode())
        tokens = np.frombuffer(self.read(answer), np.int32)
        return Generated(tuple(tokens.tolist()), str(answer["text"]))

    def embedding(self, text: str) -> NDArray[np.float32]:
        """The embedding (n_embd,) of ``text`` from an encoder model, pooled as the model says, not normalized."""
        return np.frombuffer(self.read(self.request({"op": "embedding"}, text.encode())), np.float32)
