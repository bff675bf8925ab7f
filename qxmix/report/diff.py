"""A difference as text, the same part of many layers with the same change in one line, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qxmix.diff import Change, Diff, Entry, Side
from qxmix.recipe.categories import part_of
from qxmix.report.groups import layer_ranges
from qxmix.report.text import human_nbytes, markdown, table, wrapped

if TYPE_CHECKING:
    from qxmix.solve.predict import Prediction


_TITLES = ("tensors", "layers", ">n", "A", "B", ">size")
_EQUAL = "No difference: every tensor has the same type in both."


def diff_text(diff: Diff, *, terminal: bool = False) -> str:
    """Both sides, the groups of changes, and what they come to; lines without a newline at the end."""
    sides = (f"A  {diff.a.label}: {_side(diff.a)}", f"B  {diff.b.label}: {_side(diff.b)}")
    head = [wrapped(side, terminal=terminal) for side in sides]
    if not diff.changes:
        return "\n".join([*head, "", _EQUAL])
    drawn = table(_TITLES, _rows(diff), terminal=terminal)
    return "\n".join([*head, "", drawn, "", _sum(diff)])


def diff_markdown(diff: Diff, predicted: Sequence[Prediction] = ()) -> str:
    """The same as a comment for a pull request.

    Args:
        diff: The difference.
        predicted: What A and B are predicted to lose, or nothing.

    """
    sides = (diff.a, diff.b)
    figures: list[tuple[str, Sequence[float | None], str]] = [
        ("bytes of tensors", [s.nbytes for s in sides], ","),
        ("bytes of files", [s.file_nbytes for s in sides], ","),
        ("bits per weight", [s.bpw for s in sides], ".4f"),
        ("fallbacks", [s.n_fallbacks for s in sides], ","),
        ("predicted divergence", [p.value for p in predicted], ".4g"),
    ]
    rows = [
        (title, f"{a:{style}}", f"{b:{style}}", f"{b - a:+{style}}" if b != a else "")
        for title, (a, b), style in ((t, v, s) for t, v, s in figures if len(v) == len(sides))
        if a is not None and b is not None
    ]
    parts = [markdown(("", f">A: {diff.a.label}", f">B: {diff.b.label}", ">change"), rows)]
    parts += [markdown(_TITLES, _rows(diff)), _sum(diff)] if diff.changes else [_EQUAL]
    if predicted:
        within = " and ".join(
            f"{side} within {p.low:.2g} to {p.high:.2g}" for side, p in zip("AB", predicted, strict=True)
        )
        parts.append(f"Predicted: {within}.")
    return "\n\n".join(parts)


def diff_json(diff: Diff) -> dict[str, object]:
    """The difference ready for ``json.dumps``."""
    sides = {
        key: {"label": s.label, "n_tensors": len(s.entries), "nbytes": s.nbytes, "bpw": s.bpw}
        for key, s in (("a", diff.a), ("b", diff.b))
    }
    changes = [
        {
            "name": c.name,
            "a": None if c.a is None else c.a.type,
            "b": None if c.b is None else c.b.type,
            "nbytes_delta": c.delta,
        }
        for c in diff.changes
    ]
    return {**sides, "equal": not diff.changes, "nbytes_delta": _total(diff.changes), "changes": changes}


def _rows(diff: Diff) -> list[tuple[str, ...]]:
    """The same part of many layers with the same change is one row."""
    groups: dict[tuple[str, str, str], list[Change]] = {}
    for change in diff.changes:
        part = part_of(change.name)
        groups.setdefault((part, _type(change.a, change.b), _type(change.b, change.a)), []).append(change)
    order = {part: i for i, part in enumerate(dict.fromkeys(part for part, _, _ in groups))}
    return [
        (part, layer_ranges(c.name for c in changes), f"{len(changes):,}", a, b, _signed(_total(changes)))
        for (part, a, b), changes in sorted(groups.items(), key=lambda g: order[g[0][0]])
    ]


def _sum(diff: Diff) -> str:
    delta = _total(diff.changes)
    total = f"{len(diff.changes):,} of {len({*diff.a.entries, *diff.b.entries}):,} tensors differ, {_signed(delta)}"
    return total + (f" ({delta:+,} bytes)" if delta is not None else "")


def _side(side: Side) -> str:
    size = "size unknown" if side.nbytes is None else f"{human_nbytes(side.nbytes)} of tensors"
    bpw = "" if side.bpw is None else f", {side.bpw:.4f} bits per weight"
    return f"{len(side.entries):,} tensors, {size}{bpw}"


def _type(entry: Entry | None, other: Entry | None) -> str:
    """The type, and the shape where only that differs."""
    if entry is None:
        return "-"
    if other is not None and entry.type == other.type and entry.shape is not None:
        return f"{entry.type} {' x '.join(map(str, entry.shape))}"
    return entry.type


def _total(changes: Sequence[Change]) -> int | None:
    deltas = [c.delta for c in changes]
    return None if None in deltas else sum(d for d in deltas if d is not None)


def _signed(nbytes: int | None) -> str:
    if nbytes is None:
        return "size unknown"
    return ("+" if nbytes >= 0 else "-") + human_nbytes(abs(nbytes))
