"""What ``qxmix inspect`` says of a file of second moments, as data for JSON and as text."""

from __future__ import annotations

from collections import Counter
from typing import Literal, TypedDict

from qxmix.container.moments import Moments
from qxmix.container.source import show, show_path
from qxmix.quants.feedback.spans import SPAN, block_sizes
from qxmix.report.text import table

_STRING_WIDTH = 80


class EntryFacts(TypedDict):
    """What is said of a tensor's moments."""

    name: str
    n_cols: int
    blocks: list[int]
    """Columns of each."""
    n_matrices: int
    n_correlations: int
    counts: list[float]
    """Tokens that each matrix saw."""


class MomentsFacts(TypedDict):
    """Everything of a moments file but its values, as it goes into JSON."""

    kind: Literal["moments"]
    path: str
    sha256: str
    datasets: list[str]
    n_chunks: int
    chunk_size: int
    """Tokens."""
    block_size: int
    """Columns."""
    n_entries: int
    n_blocks: int
    entries: list[EntryFacts]


def moments_facts(moments: Moments) -> MomentsFacts:
    """What a file of moments says of itself."""
    return {
        "kind": "moments",
        "path": str(moments.path),
        "sha256": moments.sha256,
        "datasets": list(moments.datasets),
        "n_chunks": moments.n_chunks,
        "chunk_size": moments.chunk_size,
        "block_size": SPAN,
        "n_entries": len(moments.entries),
        "n_blocks": sum(len(block_sizes(e.n_cols)) * e.n_correlations for e in moments.entries.values()),
        "entries": [
            {"name": name, "n_cols": e.n_cols, "blocks": list(block_sizes(e.n_cols)), "n_matrices": e.n_matrices,
             "n_correlations": e.n_correlations, "counts": list(moments.counts[name])}
            for name, e in moments.entries.items()
        ],
    }  # fmt: skip


def moments_text(facts: MomentsFacts, *, every: bool, terminal: bool) -> str:
    """The facts of :func:`moments_facts` to read; ``every`` shows each entry."""
    entries = facts["entries"]
    n_tokens = facts["n_chunks"] * facts["chunk_size"]
    tokens = f" of {facts['chunk_size']:,} tokens, {n_tokens:,} in all" if n_tokens else ""
    blocks = f"{facts['n_blocks']:,} blocks of {facts['block_size']} columns or fewer"
    lines = [
        f"{show_path(facts['path'])}: second moments of what enters tensors, for feedback (--moments)",
        f"{facts['n_entries']:,} entries, {blocks}, {facts['n_chunks']:,} chunks{tokens}",
        "measured on " + (", ".join(show(d, _STRING_WIDTH) for d in facts["datasets"]) or "texts it does not name"),
        "of the model that has these tensors; such a file names none",
        f"sha256 {facts['sha256']}",
        *_unseen(entries),
        "",
    ]
    if every:
        titles: tuple[str, ...] = ("entry", ">columns", ">matrices", ">correlations", ">tokens")
        rows: list[tuple[str, ...]] = [
            (show(e["name"], _STRING_WIDTH)[1:-1], f"{e['n_cols']:,}", f"{e['n_matrices']:,}",
             f"{e['n_correlations']:,}", _range(e["counts"])) for e in entries
        ]  # fmt: skip
    else:
        titles = ("columns", ">entries", ">matrices", "blocks")
        kinds = Counter((e["n_cols"], e["n_matrices"], tuple(e["blocks"])) for e in entries)
        rows = [
            (f"{n_cols:,}", f"{n:,}", f"{n_matrices:,}", _blocks(blocks))
            for (n_cols, n_matrices, blocks), n in sorted(kinds.items())
        ]
    return "\n".join([*lines, table(titles, rows, terminal=terminal)])


def _unseen(entries: list[EntryFacts]) -> list[str]:
    """A line for each entry of which a matrix saw no token: its mean squares are all 1."""
    zeros = {e["name"]: e["counts"].count(0) for e in entries}
    return [
        f"{show(e['name'], _STRING_WIDTH)}: {zeros[e['name']]:,} of {e['n_matrices']:,} matrices saw no token"
        for e in entries
        if zeros[e["name"]]
    ]


def _blocks(sizes: tuple[int, ...]) -> str:
    """``3 of 256``, ``2 of 256, 1 of 64``."""
    return ", ".join(f"{n:,} of {size}" for size, n in Counter(sizes).items())


def _range(counts: list[float]) -> str:
    """``512``, or the least and the most of several."""
    least, most = min(counts), max(counts)
    return f"{most:,.0f}" if least == most else f"{least:,.0f} to {most:,.0f}"
