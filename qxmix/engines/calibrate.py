"""Importance matrices and second moments, measured by running a text through ik_llama.cpp."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qxmix.container.identity import header_sha256
from qxmix.container.imatrix import Imatrix
from qxmix.container.model import ModelHeader
from qxmix.container.moments import SecondMoments
from qxmix.engines.chunks import cut, refuse_short
from qxmix.engines.embed import is_encoder
from qxmix.engines.evaluate import N_UBATCH, check_types, checked_text, ubatch_for
from qxmix.engines.gather import Shape, State, States
from qxmix.engines.memory import memory_nbytes
from qxmix.engines.session import Observed, Session
from qxmix.errors import RunError
from qxmix.planning.gate import never_quantized
from qxmix.quants import ENGINES, Engine
from qxmix.quants.feedback.correlations import pack_correlations
from qxmix.recipe.categories import category_of, layer_of

_ENGINE: Engine = "ik_llama.cpp"
_KEEP_SECONDS = 10.0
"""Least time between two writes of the state ..."""
_KEEP_SHARE = 20
"""... and how many times as long as a write takes."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Which text is run, and what is gathered."""

    n_ctx: int = 512
    """Tokens per chunk."""
    first_chunk: int = 0
    n_chunks: int | None = None
    """Chunks from the first on; None for all whole ones."""
    n_threads: int | None = None
    """Threads of the engine; None for one per processor."""
    chunks_per_pass: int | None = None
    """Chunks that run side by side; None for as many as 512 tokens hold.  More of them read weights that do not fit
    into memory, as of many experts, less often; the logits of all their tokens are in memory at once."""
    memory_nbytes: int | None = None
    """Bound on the sums, in bytes; None for half of the machine's memory.  Where they do not fit, the text is run
    several times, each time for some of the tensors."""
    moments: bool = False
    """Whether second moments are gathered besides."""
    output: bool = False
    """Whether the output matrix gets an entry, too; llama-imatrix does so with --process-output."""
    fused: bool = True
    """Whether the engine may join products that have the same input, as it does by default."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A text that was run through a model."""

    header: ModelHeader
    text_name: str
    settings: Settings
    n_chunks: int
    state: States

    @property
    def unseen(self) -> tuple[str, ...]:
        """Tensors that the engine never multiplied with anything: those of layers that it does not run."""
        return tuple(n for n in gathered_tensors(self.header, self.settings) if n not in self.state)

    def imatrix(self, path: Path) -> Imatrix:
        """The importances, as the content of the file ``path`` to be; entries in the order of the model."""
        entries, counts = {}, {}
        for tensor in self.header.tensors:
            if tensor.name in self.state:
                found = self.state.sums(tensor.name)
                each = found.counts[:, None]
                mean = np.divide(found.sums, each, where=each > 0, out=np.ones_like(found.sums))
                entries[tensor.name] = mean.astype(np.float32).reshape(-1)
                counts[tensor.name] = found.counts.astype(np.float32)
        size = self.settings.n_ctx
        return Imatrix(path, "", entries, (self.text_name,), self.n_chunks, counts, "tokens", size)

    def moments(self) -> Mapping[str, SecondMoments]:
        """The second moments of each tensor, made when they are asked for."""
        return _MomentsOf(self.state, [t.name for t in self.header.tensors if t.name in self.state])


class _MomentsOf(Mapping[str, SecondMoments]):
    """A mapping that holds no values: those of one tensor of a large model take a gigabyte."""

    def __init__(self, state: States, names: list[str]) -> None:
        self._state, self._names = state, names

    def __getitem__(self, name: str) -> SecondMoments:
        found = self._state.sums(name)
        each = found.counts[:, None]
        mean = np.divide(found.sums, each, where=each > 0, out=np.ones_like(found.sums))
        packed = [pack_correlations(b.astype(np.float64), found.shape.n_cols) for b in found.blocks]
        counts, rows = found.counts.astype(np.float32), found.rows.astype(np.float32)
        return SecondMoments(mean.astype(np.float32), counts, np.stack(packed), rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def gathered_tensors(header: ModelHeader, settings: Settings) -> dict[str, list[int]]:
    """The matrices whose input is gathered, and the numbers of each one's :class:`~qxmix.engines.gather.Shape`.

    They are those that an engine quantizes, without the token embeddings, which see no activations, and without the
    output unless it is asked for.  The experts of ``ffn_down`` have inputs of their own and a correlation each; those
    of up and gate share theirs.
    """
    found = {}
    for t in header.tensors:
        quantized = any(not never_quantized(t, (e,), header.architecture) for e in ENGINES)
        named = "token_embd" not in t.name and (settings.output or t.name != "output.weight")
        if quantized and named:
            own = t.n_matrices if category_of(t.name) == "ffn_down" else 1
            found[t.name] = [t.n_cols, t.n_matrices, own if settings.moments else 0]
    return found


def calibrate(
    header: ModelHeader,
    text: bytes,
    text_name: str,
    state: Path,
    settings: Settings,
    *,
    resume: bool = False,
    on_chunk: Callable[[int, int], None] = lambda _done, _total: None,
) -> Calibration:
    """Run a text through a model and sum up what goes into its matrices.

    Args:
        header: the model.
        text: UTF-8.
        text_name: what the result calls it.
        state: where the sums are kept on the way, those of further sweeps beside it; whoever has made files of the
            result discards them.
        settings: which chunks, and what of them.
        resume: whether to go on with the state that is there.
        on_chunk: called with the number of chunks that are done and of all chunks.

    Raises:
        ModelFileError: the engine cannot run the model, the text is too short, or an activation is no number.
        RunError: the engine is missing or gives up, or the state is that of another job.

    """
    text = checked_text(text)
    refuse_short(text, settings.n_ctx)
    check_types({header.path: header}, _ENGINE)
    parts = sweeps(gathered_tensors(header, settings), settings.memory_nbytes or memory_nbytes() // 2)
    paths = [state if i == 0 else state.with_name(f"{state.name}{i + 1}") for i in range(len(parts))]
    n_chunks = 0
    for i, (tensors, path) in enumerate(zip(parts, paths, strict=True)):

        def report(done: int, total: int, i: int = i) -> None:
            on_chunk(i * total + done, len(parts) * total)

        # Without a matrix that all tokens enter nothing tells how far it came, and it starts over.
        going_on = resume and path.exists() and State(path).n_tokens > 0
        n_chunks = _sweep(header, text, settings, tensors, path, resume=going_on, on_chunk=report)
    return Calibration(header, text_name, settings, n_chunks, States(paths))


def sweeps(tensors: dict[str, list[int]], nbytes: int) -> list[dict[str, list[int]]]:
    """Split the tensors, in order, so that the sums of each part take at most ``nbytes``, or it is a single layer.

    Layers stay whole: their matrices share inputs, and those of attention tell how many tokens were seen.
    """
    parts: list[dict[str, list[int]]] = [{}]
    used = 0
    for _, names in groupby(tensors, layer_of):
        layer = {name: tensors[name] for name in names}
        need = sum(Shape(*numbers).nbytes for numbers in layer.values())
        if parts[-1] and used + need > nbytes:
            parts.append({})
            used = 0
        parts[-1].update(layer)
        used += need
    return parts


def _sweep(
    header: ModelHeader,
    text: bytes,
    settings: Settings,
    tensors: dict[str, list[int]],
    state: Path,
    *,
    resume: bool,
    on_chunk: Callable[[int, int], None],
) -> int:
    """Run the text once for some of the tensors; returns how many chunks it has."""
    identity = _identity(header, text, settings, tensors)
    if resume and State(state).identity != identity:
        msg = "was begun with another model, text or other settings; give the same ones, or --overwrite to start over"
        raise RunError.at(state, msg)
    arguments = {"state": str(state), "tensors": tensors, "identity": identity, "resume": resume}
    observed = Observed("qxmix.engines.gather:Gatherer", arguments, settings.fused, is_encoder(header))
    n_ubatch = ubatch_for(header, _ENGINE)
    n_chunks = settings.chunks_per_pass or max(1, N_UBATCH // settings.n_ctx)
    n_tokens = n_chunks * settings.n_ctx
    with Session(
        _ENGINE, header.path, n_ctx=n_tokens, n_ubatch=n_tokens if n_ubatch == N_UBATCH else n_ubatch,
        n_threads=settings.n_threads, n_sequences=n_chunks, observed=observed,
    ) as session:  # fmt: skip
        chunks = cut([session], text, settings.n_ctx, settings.n_chunks, first=settings.first_chunk).tokens
        n_done = State(state).n_tokens // settings.n_ctx if resume else 0
        _run(session, chunks, n_done, n_chunks, settings.first_chunk, on_chunk)
    return len(chunks)


def _run(
    session: Session,
    chunks: NDArray[np.int32],
    n_done: int,
    n_at_once: int,
    first_chunk: int,
    on_chunk: Callable[[int, int], None],
) -> None:
    """Run the chunks from ``n_done`` on, and let the state be written now and then, and at the end."""
    written, pause = time.monotonic(), _KEEP_SECONDS
    for index in range(n_done, len(chunks), n_at_once):
        on_chunk(index, len(chunks))
        group = chunks[index : index + n_at_once]
        try:
            session.run(group)
        except RunError as error:
            raise RunError.at(session.path, _blamed(session, group, first_chunk + index, error)) from error
        began = time.monotonic()
        if began - written > pause:
            session.gathered()
            written = time.monotonic()
            pause = max(_KEEP_SECONDS, _KEEP_SHARE * (written - began))
    session.gathered()
    on_chunk(len(chunks), len(chunks))


def _blamed(session: Session, group: NDArray[np.int32], first: int, error: RunError) -> str:
    """The error with the chunk that it is about, found by running those of a pass one by one."""
    if len(group) > 1:
        for i, tokens in enumerate(group):
            try:
                session.run(tokens)
            except RunError as again:
                return f"chunk {first + i} of the text: {again}"
    which = f"chunk {first}" if len(group) == 1 else f"chunks {first} to {first + len(group) - 1}"
    return f"{which} of the text: {error}"


def _identity(header: ModelHeader, text: bytes, settings: Settings, tensors: dict[str, list[int]]) -> str:
    """What must be the same for a run to go on with another's sums."""
    files = [(n, p.stat().st_mtime_ns) for n, p in zip(header.file_nbytes, header.paths, strict=True)]
    facts = [header_sha256(header), files, hashlib.sha256(text).hexdigest(), settings.n_ctx, settings.first_chunk,
             settings.n_chunks, settings.fused, tensors]  # fmt: skip
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
