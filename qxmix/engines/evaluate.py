"""Perplexity of files on a text and their divergence from a base, with bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from qxmix.container.header import read_header
from qxmix.container.model import ModelHeader
from qxmix.container.weights import require_weights
from qxmix.engines.chunks import cut, refuse_short, score_chunk
from qxmix.engines.memory import memory_nbytes
from qxmix.engines.scores import Positions, Summary, summarize
from qxmix.engines.session import Session
from qxmix.errors import ModelFileError, Problem
from qxmix.quants import Engine

N_UBATCH = 512
"""Tokens that an engine computes at a time, its own default; results differ in the fifth digit with it."""
_SMALL_UBATCH = {"Q4_1": 16, "Q5_1": 8}
"""ik_llama.cpp's kernel for 32 and more tokens at a time is wrong for these types on processors with AVX2 and no
AVX-512: a file that reproduces the weights to 2e-4 got perplexity 132 where small batches and llama.cpp give 22.8."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a text is cut and run."""

    engine: Engine = "ik_llama.cpp"
    n_ctx: int = 512
    """Tokens per chunk; the second half of each is scored."""
    n_chunks: int | None = None
    """Chunks from the start of the text; None for all whole ones."""
    n_threads: int | None = None
    """Threads of the engine; None for one per processor."""
    first_chunk: int = 0
    """Chunks to skip at the start of the text."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The scores of one file."""

    path: Path
    nbytes: int
    """Bytes of the file, all its shards together."""
    summary: Summary
    base: Summary | None
    """Scores of the base on the same tokens."""


def evaluate(
    paths: Sequence[Path],
    text: bytes,
    *,
    base: Path | None = None,
    settings: Settings | None = None,
    on_chunk: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Evaluated]:
    """Score every file on ``text`` the way ``llama-perplexity`` does, and against ``base`` if there is one.

    The tokens of the second half of each chunk are scored, but for the first of them.  Base and files run one child
    process each and go through the chunks in step, so that no logits are kept; files that do not fit into memory
    together take turns, each time with the base.

    Args:
        paths: GGUF files; of a model in shards, the first.
        text: UTF-8.
        base: the model to compare with, usually the F16 one that the files were made from.
        settings: how the text is cut and run.
        on_chunk: called with the number of chunks that are done and of all chunks, over all turns.

    Raises:
        ModelFileError: a file is no model that the engine can score, or the text is too short.
        RunError: the engine is missing, or gives up.

    """
    settings = settings or Settings()
    text = checked_text(text)
    refuse_short(text, settings.n_ctx)
    headers = {path: read_header(path) for path in (*paths, *([base] if base else []))}
    _check_headers(headers, settings.engine)
    groups = list(_groups(paths, headers, base))
    results: list[Evaluated] = []
    for turn, group in enumerate(groups):

        def report(done: int, total: int, turn: int = turn) -> None:
            on_chunk(turn * total + done, len(groups) * total)

        results += _evaluate_group(group, base, headers, text, settings, report)
    return results


def checked_text(text: bytes) -> bytes:
    """The text as the engines' tools read their prompts, without a last newline.

    Raises:
        ModelFileError: it is not UTF-8.

    """
    try:
        text.decode()
    except UnicodeDecodeError as error:
        msg = f"the text is not UTF-8: byte {error.start} is {text[error.start]:#04x}; convert it first"
        raise ModelFileError(msg) from None
    return text.removesuffix(b"\n")


def check_text(model: Path, text: bytes, settings: Settings) -> None:
    """Let pass a text that ``model`` can be run on: asked before files are written that it shall be run on.

    Raises:
        ModelFileError: the engine cannot score the model, or the text is too short.
        RunError: the engine is missing, or gives up.

    """
    refuse_short(text, settings.n_ctx)
    headers = {model: read_header(model)}
    _check_headers(headers, settings.engine)
    with _opened(model, headers[model], settings) as session:
        cut([session], checked_text(text), settings.n_ctx, settings.n_chunks, first=settings.first_chunk)


def _opened(path: Path, header: ModelHeader, settings: Settings) -> Session:
    n_ubatch = ubatch_for(header, settings.engine)
    return Session(settings.engine, path, n_ctx=settings.n_ctx, n_ubatch=n_ubatch, n_threads=settings.n_threads)


def check_types(headers: Mapping[Path, ModelHeader], engine: Engine) -> None:
    """Let pass models whose types ``engine`` has.

    Raises:
        ModelFileError: one has others; all of them at once.

    """
    if problems := list(_foreign(headers, engine)):
        raise ModelFileError(problems)


def _foreign(headers: Mapping[Path, ModelHeader], engine: Engine) -> Iterator[Problem]:
    for path, header in headers.items():
        require_weights(header)  # an engine would call the file corrupted
        foreign = {t.type for t in header.tensors if t.quant_type is None or engine not in t.quant_type.engines}
        if foreign:
            msg = f"{engine} cannot run the types {', '.join(sorted(foreign))}; try the other --engine"
            yield Problem(str(path), msg)


def _check_headers(headers: Mapping[Path, ModelHeader], engine: Engine) -> None:
    """Let pass models that ``engine`` can run to predict tokens.

    Raises:
        ModelFileError: one is not; all of them at once.

    """
    problems = list(_foreign(headers, engine))
    for path, header in headers.items():
        if header.get(f"{header.architecture}.attention.causal") is False:
            msg = f"a {header.architecture} model encodes texts and predicts no tokens, so it has no perplexity"
            problems.append(Problem(str(path), msg))
    if problems:
        raise ModelFileError(problems)


def _groups(paths: Sequence[Path], headers: dict[Path, ModelHeader], base: Path | None) -> Iterator[list[Path]]:
    """Split ``paths`` so that each group fits into half of the memory together with the base, or has one file."""
    room = memory_nbytes() // 2 - (sum(headers[base].file_nbytes) if base else 0)
    group: list[Path] = []
    used = 0
    for path in paths:
        n = sum(headers[path].file_nbytes)
        if group and used + n > room:
            yield group
            group, used = [], 0
        group.append(path)
        used += n
    if group:
        yield group


def _evaluate_group(
    paths: list[Path],
    base: Path | None,
    headers: dict[Path, ModelHeader],
    text: bytes,
    settings: Settings,
    on_chunk: Callable[[int, int], None],
) -> list[Evaluated]:
    with ExitStack() as stack:
        base_session = stack.enter_context(_opened(base, headers[base], settings)) if base else None
        sessions = [stack.enter_context(_opened(path, headers[path], settings)) for path in paths]
        everyone = ([base_session] if base_session else []) + sessions
        chunks = cut(everyone, text, settings.n_ctx, settings.n_chunks, first=settings.first_chunk)
        scored = []
        for tokens in chunks.tokens:
            scored.append(score_chunk(tokens, chunks.first_scored, sessions, base_session))
            on_chunk(len(scored), len(chunks.tokens))
    base_summary = summarize(Positions.joined([of_base for _, of_base in scored if of_base])) if base else None
    return [
        Evaluated(
            path,
            sum(headers[path].file_nbytes),
            summarize(Positions.joined([of_files[i] for of_files, _ in scored])),
            base_summary,
        )
        for i, path in enumerate(paths)
    ]


def ubatch_for(header: ModelHeader, engine: Engine) -> int:
    """Tokens that an engine may compute at a time without wrong results."""
    if engine != "ik_llama.cpp":
        return N_UBATCH
    return min((_SMALL_UBATCH.get(t.type, N_UBATCH) for t in header.tensors), default=N_UBATCH)
