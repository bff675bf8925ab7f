"""A model loaded into this process by an engine: tokens, logits, text, embeddings."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qxmix.engines.library import Batch, context_params, model_params, open_library
from qxmix.engines.observe import Observer
from qxmix.engines.twins import TwinFinder
from qxmix.engines.weights import Weights
from qxmix.errors import RunError

if TYPE_CHECKING:
    from qxmix.quants import Engine

_TWINS_N_CTX = 32
"""Tokens of the context that tensors are looked for in; the caches of some models want that many."""


class LoadedModel:
    """One model and one context.  Every method may end the process: engines abort rather than report."""

    def __init__(
        self,
        engine: Engine,
        path: str,
        *,
        n_ctx: int,
        n_ubatch: int,
        n_threads: int,
        n_sequences: int = 1,
        in_place: bool = False,
        encoder: bool = False,
        observer: Observer | None = None,
    ) -> None:
        """Load ``path`` for up to ``n_ctx`` tokens.

        Args:
            engine: who runs it.
            path: a GGUF file.
            n_ctx: tokens of context, those of all sequences together.
            n_ubatch: tokens that are computed at a time.
            n_threads: threads of the engine.
            n_sequences: how many texts there are side by side.
            in_place: whether ``weights`` shall be overwritten.
            encoder: whether ``run`` makes embeddings, since the model has no logits.
            observer: what sees the inputs of all products.

        Raises:
            RunError: the engine refuses the file, and says why on standard error.

        """
        self._engine, self._n_ctx, self._observer = engine, n_ctx, observer
        self._lib = library = open_library(engine)
        library.llama_backend_init()
        how = model_params(library, engine, in_place=in_place)
        self._model = library.llama_model_load_from_file(path.encode(), how)
        if not self._model:
            raise RunError(f"{engine} cannot load {path}")
        self._vocab = library.llama_model_get_vocab(self._model)
        params = context_params(library, engine, n_ctx=n_ctx, n_ubatch=n_ubatch, n_sequences=n_sequences)
        if observer:
            observer.install(params)
        self._context = self._opened(params, n_ctx)
        self._check_sizes(n_ctx, n_ubatch)
        library.llama_set_n_threads(self._context, n_threads, n_threads)
        self.n_vocab: int = library.llama_vocab_n_tokens(self._vocab)
        self.add_bos: bool = library.llama_vocab_get_add_bos(self._vocab)
        self.bos: int = library.llama_vocab_bos(self._vocab)
        self.n_embd: int = library.llama_model_n_embd(self._model)
        self.weights = Weights(engine, library, self._model) if in_place else None
        """Its tensors, to be overwritten."""
        if encoder:
            library.llama_set_embeddings(self._context, True)  # noqa: FBT003 - C
        elif self.weights and engine == "ik_llama.cpp":
            self.weights.twins = self._twins(self.weights)
        if observer:
            self._make_room(observer, n_ubatch)

    def _opened(self, params: object, n_ctx: int) -> object:
        """A context of the model, of so many tokens."""
        context = self._lib.llama_init_from_model(self._model, params)
        if not context:
            raise RunError(f"{self._engine} has no room for a context of {n_ctx} tokens")
        return context

    def _check_sizes(self, n_ctx: int, n_ubatch: int) -> None:
        # An engine may round its context up, never down.
        if self._lib.llama_n_ctx(self._context) < n_ctx or self._lib.llama_n_ubatch(self._context) != n_ubatch:
            raise RunError(f"{self._engine} did not take the sizes it was given; install another version of it")

    def _twins(self, weights: Weights) -> Mapping[str, tuple[int, ...]]:
        """Find what the engine holds twice, by a pass of one token in a context of its own."""
        finder = TwinFinder(self._lib)
        params = context_params(self._lib, self._engine, n_ctx=_TWINS_N_CTX, n_ubatch=_TWINS_N_CTX)
        finder.install(params)
        context, self._context = self._context, self._opened(params, _TWINS_N_CTX)
        try:
            self._decode(np.zeros(1, np.int32), 0, np.ones(1, np.int8))
        finally:
            self._lib.llama_free(self._context)
            self._context = context
        return finder.twins(weights.lookup)

    def _make_room(self, observer: Observer, n_tokens: int) -> None:
        """Run some tokens unobserved, so that the engine's scratch memory gets the size that a whole pass needs.

        Observed, a pass is computed in pieces, each with scratch of the size that its own operations ask for, and
        ik_llama.cpp's joined up and gate of experts ask for too little: they wrote beyond it.  Scratch never shrinks.
        """
        observer.paused = True
        self._decode(np.zeros(n_tokens, np.int32), 0, np.ones(n_tokens, np.int8))
        self.clear()
        observer.paused = False

    def tokenize(self, text: bytes) -> NDArray[np.int32]:
        """Tokens of ``text`` (UTF-8), with what the model wants around it; control tokens in it stay text."""
        own = "llama_vocab_tokenize" if self._engine == "ik_llama.cpp" else "llama_tokenize"
        function = getattr(self._lib, own)
        tokens = np.empty(len(text) + 16, np.int32)
        n = function(self._vocab, text, len(text), tokens.ctypes.data, tokens.size, True, False)  # noqa: FBT003 - C
        if n < 0:
            raise RunError(f"{self._engine} could not tokenize the text")
        return tokens[:n]

    def text(self, tokens: NDArray[np.int32]) -> str:
        """The text of ``tokens``; bytes that are no UTF-8 are shown as replacement characters."""
        own = "llama_token_to_piece_vocab" if self._engine == "ik_llama.cpp" else "llama_token_to_piece"
        function = getattr(self._lib, own)
        buffer = ctypes.create_string_buffer(1024)
        pieces = []
        for token in tokens.tolist():
            n = function(self._vocab, token, buffer, len(buffer), 0, False)  # noqa: FBT003 - C
            pieces.append(buffer.raw[: max(n, 0)])
        return b"".join(pieces).decode("utf-8", "replace")

    def clear(self) -> None:
        """Forget all tokens so far."""
        if self._engine == "ik_llama.cpp":
            self._lib.llama_kv_cache_clear(self._context)
        else:
            memory = self._lib.llama_get_memory(self._context)
            if memory:  # encoders have none
                self._lib.llama_memory_clear(memory, True)  # noqa: FBT003 - C

    def logits(self, tokens: NDArray[np.int32], first_row: int, position: int = 0) -> NDArray[np.float32]:
        """Run ``tokens`` from ``position`` on; return the logits (n, n_vocab) after each of them from ``first_row`` on.

        The result is the engine's own memory: it holds until the next call.
        """
        outputs = np.zeros(tokens.size, np.int8)
        outputs[first_row:] = 1
        self._decode(tokens, position, outputs)
        rows = self._lib.llama_get_logits(self._context)
        return np.ctypeslib.as_array(rows, (tokens.size - first_row, self.n_vocab))

    def run(self, tokens: NDArray[np.int32], n_sequences: int) -> None:
        """Run the tokens (n,) of ``n_sequences`` texts of one length, one after the other, for the observer.

        Logits of all of them are asked for: else the last layer computes the rest alone.
        """
        self.clear()
        self._decode(tokens, 0, np.ones(tokens.size, np.int8), n_sequences)

    def generate(self, prompt: bytes, n_tokens: int) -> NDArray[np.int32]:
        """Continue ``prompt`` by up to ``n_tokens`` tokens, always the likeliest, until model or context end it."""
        self.clear()
        step = self.tokenize(prompt)
        position = 0
        made: list[int] = []
        while len(made) < n_tokens and position < self._n_ctx:
            scores = self.logits(step, step.size - 1, position)[-1]
            if not np.isfinite(scores).all():
                raise RunError(f"{self._engine} gives logits that are no numbers after {len(made)} tokens")
            likeliest = int(scores.argmax())
            if self._lib.llama_vocab_is_eog(self._vocab, likeliest):
                break
            made.append(likeliest)
            position += step.size
            step = np.array([likeliest], np.int32)
        return np.array(made, np.int32)

    def embedding(self, text: bytes) -> NDArray[np.float32]:
        """The pooled embedding (n_embd,) of ``text``, as the model pools it, not normalized."""
        self.clear()
        self._lib.llama_set_embeddings(self._context, True)  # noqa: FBT003 - C
        tokens = self.tokenize(text)
        self._decode(tokens, 0, np.ones(tokens.size, np.int8))
        pooled = self._lib.llama_get_embeddings_seq(self._context, 0)
        if not pooled:
            raise RunError(f"{self._engine} gives no embedding: the model does not pool")
        return np.ctypeslib.as_array(pooled, (self.n_embd,)).copy()

    def _decode(
        self, tokens: NDArray[np.int32], position: int, outputs: NDArray[np.int8], n_sequences: int = 1
    ) -> None:
        n = tokens.size
        if not 0 < n <= self._n_ctx - position:
            problem = f"{n} tokens do not fit into a context of {self._n_ctx}" if n else "the text has no tokens"
            raise RunError(problem)
        tokens = np.ascontiguousarray(tokens, np.int32)
        positions = np.tile(np.arange(position, position + n // n_sequences, dtype=np.int32), n_sequences)
        counts = np.ones(n, np.int32)
        sequence = np.repeat(np.arange(n_sequences, dtype=np.int32), n // n_sequences)
        sequences = sequence.ctypes.data + 4 * np.arange(n, dtype=np.uint64)
        batch = Batch(
            n_tokens=n,
            token=tokens.ctypes.data,
            pos=positions.ctypes.data,
            n_seq_id=counts.ctypes.data,
            seq_id=sequences.ctypes.data,
            logits=outputs.ctypes.data,
        )
        code = self._lib.llama_decode(self._context, batch)
        if self._observer:
            self._observer.check()
        if code != 0:
            raise RunError(f"{self._engine} failed to run {n} tokens at position {position} (code {code})")
