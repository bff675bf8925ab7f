"""What ``qxmix imatrix stats`` and ``diff`` say, as data for JSON and as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypedDict

from qxmix.container.source import show_path
from qxmix.importance.coverage import THIN_SHARE, Coverage, numbers
from qxmix.report.text import table

if TYPE_CHECKING:
    from qxmix.container.imatrix import Imatrix
    from qxmix.importance.compare import Comparison, EntryChange
    from qxmix.importance.stats import EntryStats

    _Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
    """Titles and rows."""


class CoverageFacts(TypedDict):
    """How far the text reached the experts of one tensor, as it goes into JSON."""

    entry: str
    n_matrices: int
    mean: float
    """Tokens per expert on average."""
    unseen: list[int]
    """Experts that saw nothing."""
    thin: list[int]
    """Experts that saw little."""


def about_json(imatrix: Imatrix) -> dict[str, Any]:
    """What a matrix says of itself."""
    return {
        "path": str(imatrix.path),
        "sha256": imatrix.sha256,
        "datasets": list(imatrix.datasets),
        "n_chunks": imatrix.n_chunks,
        "chunk_size": imatrix.chunk_size,
        "counts_in": imatrix.counts_in,
    }


def stats_json(imatrix: Imatrix, entries: Sequence[EntryStats], covered: Sequence[Coverage]) -> dict[str, Any]:
    """The object that schemas/imatrix-stats.schema.json describes."""
    return about_json(imatrix) | {
        "entries": [asdict(e) for e in entries],
        "coverage": coverage_json(covered),
    }


def coverage_json(covered: Iterable[Coverage]) -> list[CoverageFacts]:
    """One object per tensor of stacked matrices; ``unseen`` and ``thin`` are the experts' indices."""
    return [
        {"entry": c.entry, "n_matrices": c.n_matrices, "mean": c.mean, "unseen": list(c.unseen), "thin": list(c.thin)}
        for c in covered
    ]


def stats_text(imatrix: Imatrix, entries: Sequence[EntryStats], covered: Sequence[Coverage], *, terminal: bool) -> str:
    """A table with a line per entry, layer after layer, then who saw too little."""
    rows = [
        (e.entry, f"{e.n_values:,}", f"{e.count:,.0f}", f"{e.sum:.4g}", f"{e.min:.3g}", f"{e.max:.4g}", f"{e.mean:.4g}",
         f"{e.carrying_percent:.1f} %", f"{e.entropy:.2f}", f"{e.evenness:.3f}",
         "" if e.similarity is None else f"{e.similarity:.4f}")
        for e in sorted(entries, key=lambda e: -1 if e.layer is None else e.layer)
    ]  # fmt: skip
    titles = ("entry", "?>values", f"?>{imatrix.counts_in}", ">sum", "?>min", "?>max", ">mean", ">90 % in", ">entropy",
              "?>evenness", ">like layer before")  # fmt: skip
    return "\n".join([table(titles, rows, terminal=terminal), *_coverage_part(covered)])


def _coverage_part(covered: Sequence[Coverage]) -> list[str]:
    if not covered:
        return []
    lines = list(coverage_lines(coverage_json(covered)))
    return ["", *(lines or [f"The text reached all experts of {len(covered):,} tensors."])]


def coverage_lines(covered: Iterable[CoverageFacts]) -> Iterator[str]:
    """``blk.1.ffn_up_exps.weight: 1 of 4 experts saw no text: 3``, a line per tensor with unseen or thin experts.

    Args:
        covered: What :func:`coverage_json` made.

    """
    for c in covered:
        unseen, thin = c["unseen"], c["thin"]
        parts = []
        if unseen:
            parts.append(f"{len(unseen):,} of {c['n_matrices']:,} experts saw no text: {numbers(unseen)}")
        if thin:
            parts.append(f"{len(thin):,} saw less than {100 * THIN_SHARE:.0f} % of the average: {numbers(thin)}")
        if parts:
            yield f"{c['entry']}: {'; '.join(parts)}"


def diff_json(a: Imatrix, b: Imatrix, found: Comparison) -> dict[str, Any]:
    """The object that schemas/imatrix-diff.schema.json describes."""
    return {
        "a": {"path": str(a.path), "sha256": a.sha256},
        "b": {"path": str(b.path), "sha256": b.sha256},
        "same": found.same,
        "entries": [c._asdict() for c in found.changes],
        "only_a": list(found.only_a),
        "only_b": list(found.only_b),
        "resized": list(found.resized),
    }


def diff_text(a: Imatrix, b: Imatrix, found: Comparison, *, every: bool, terminal: bool) -> str:
    """What moved, by category and by layer; ``every`` shows each entry."""
    lines = []
    for names, what in ((found.only_a, f"only in {show_path(a.path)}"), (found.only_b, f"only in {show_path(b.path)}"),
                        (found.resized, "of other sizes, so of another model")):  # fmt: skip
        if names:
            lines.append(f"{len(names):,} entries {what}: {names[0]}" + (", ..." if len(names) > 1 else ""))
    if found.same:
        return f"The same: {len(found.changes):,} entries, every value equal."
    groupings = (("category", _category), ("layer", _layer)) if found.changes else ()
    for key, of in groupings:
        lines += ["", table(*_grouped(key, found.changes, of), terminal=terminal)]
    if every:
        lines += ["", table(*_each(found.changes), terminal=terminal)]
    return "\n".join(lines).lstrip("\n")


def _category(change: EntryChange) -> str:
    return change.category


def _layer(change: EntryChange) -> str:
    return "none" if change.layer is None else str(change.layer)


def _grouped(key: str, changes: Iterable[EntryChange], of: Callable[[EntryChange], str]) -> _Table:
    groups: dict[str, list[EntryChange]] = {}
    for change in sorted(changes, key=lambda c: -1 if c.layer is None else c.layer):
        groups.setdefault(of(change), []).append(change)
    rows: list[tuple[str, ...]] = []
    for name, members in groups.items():
        most = max(members, key=lambda c: c.moved_percent)
        scales = [c.scale for c in members]
        rows.append(
            (name, f"{len(members):,}", f"{sum(c.moved_percent for c in members) / len(members):.2f} %",
             f"{most.moved_percent:.2f} %", most.entry, f"{min(scales):.3f} to {max(scales):.3f}")
        )  # fmt: skip
    return (key, ">tensors", ">moved", ">most", "in", ">mean of B over A's"), rows


def _each(changes: Iterable[EntryChange]) -> _Table:
    rows: list[tuple[str, ...]] = [
        (c.entry, f"{c.moved_percent:.2f} %", f"{c.scale:.4f}", "" if c.similarity is None else f"{c.similarity:.5f}",
         f"{c.count_a:,.0f}", f"{c.count_b:,.0f}") for c in changes
    ]  # fmt: skip
    return ("entry", ">moved", ">scale", ">cosine", ">count of A", ">of B"), rows
