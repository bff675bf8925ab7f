"""The tensor types as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from qxmix.quants import QuantType
from qxmix.recipe.model import SEARCHES
from qxmix.report.text import table, wrapped

_READS = {"ignored": "", "optional": "helps", "required": "needed"}


def types_text(types: Sequence[QuantType], *, terminal: bool = False) -> str:
    """One line per type, and what the columns mean."""
    rows = [
        (
            t.name,
            f"{t.bpw:.4g}",
            f"{t.block_nbytes}/{t.block_size}",
            _row(t),
            "both" if len(t.engines) > 1 else t.engines[0],
            _READS[t.importance],
            "yes" if t.searches else ("lattice" if t.finds_lattices else ""),
            "yes" if t.takes_factor else "",
            _use(t),
        )
        for t in types
    ]
    titles = ("type", ">bpw", "?>block", "?row", "engines", "imatrix", "search", "?scale", "qxmix")
    meaning = (
        "block: bytes/weights; row: bytes in front of each row, rows interleaved (x4)\n"
        "imatrix: whether an importance matrix helps the encoder, or must be given\n"
        f"search: whether a recipe's `search` ({', '.join(SEARCHES)}) changes what it finds;\n"
        "lattice: `exhaustive` does, of blocks that sit on one\n"
        "scale: whether a recipe's `scale` changes the scales that it stores\n"
        "qxmix: whether it encodes the type, only plans or only copies it"
    )
    return f"{table(titles, rows, terminal=terminal)}\n\n{wrapped(meaning, terminal=terminal)}"


def _row(quant_type: QuantType) -> str:
    meta = f"+{quant_type.row_meta_nbytes}" if quant_type.row_meta_nbytes else ""
    group = f"x{quant_type.row_group}" if quant_type.row_group > 1 else ""
    return " ".join(part for part in (meta, group) if part)


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
            "searches": [s for s in SEARCHES if t.heeds(s)],
            "takes_factor": t.takes_factor,
            "use": _use(t),
        }
        for t in types
    ]


def _use(quant_type: QuantType) -> str:
    """``encodes`` with kernels, ``plans`` with only the sizes, ``copies`` what must not be chosen."""
    if not quant_type.writable:
        return "copies"
    return "encodes" if quant_type.codec else "plans"
