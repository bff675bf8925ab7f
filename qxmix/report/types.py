"""The tensor types as a table and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qxmix.report.text import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qxmix.quants import QuantType


def types_text(types: Sequence[QuantType], *, terminal: bool = False) -> str:
    """One line per type."""
    rows = [
        (
            t.name,
            f"{t.bpw:.4g}",
            str(t.block_size),
            str(t.block_nbytes),
            str(t.row_meta_nbytes or ""),
            str(t.row_group) if t.row_group > 1 else "",
            "both" if len(t.engines) > 1 else t.engines[0],
            t.importance,
            _use(t),
        )
        for t in types
    ]
    titles = ("type", ">bpw", ">block", ">bytes", ">per row", ">rows", "engines", "importance", "qxmix")
    return table(titles, rows, terminal=terminal)


def types_json(types: Sequence[QuantType]) -> list[dict[str, object]]:
    """One object per type, ready for ``json.dumps``."""
    return [
        {
            "name": t.name,
            "id": t.id,
            "bpw": t.bpw,
            "block_size": t.block_size,
            "block_nbytes": t.block_nbytes,
            "row_meta_nbytes": t.row_meta_nbytes,
            "row_group": t.row_group,
            "base": t.base or None,
            "engines": list(t.engines),
            "importance": t.importance,
            "use": _use(t),
        }
        for t in types
    ]


def _use(quant_type: QuantType) -> str:
    """``encodes`` with kernels, ``plans`` with only the sizes, ``copies`` what must not be chosen."""
    if not quant_type.writable:
        return "copies"
    return "encodes" if quant_type.codec else "plans"
