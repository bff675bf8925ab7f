"""What ``qxmix inspect`` says of a model or an importance matrix, as data for JSON and as text."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from typing import Any

from qxmix.container.gguf_format import GENERAL_FILE_TYPE, ValueType
from qxmix.container.imatrix import Imatrix
from qxmix.container.model import MetadataField, ModelHeader, TensorInfo
from qxmix.container.source import show, show_path
from qxmix.importance.coverage import coverage
from qxmix.quants import ENGINES, QUANT_TYPES
from qxmix.report.imatrix import about_json, coverage_json, coverage_lines
from qxmix.report.text import human_nbytes, table

_MIXES = {
    11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M",
    21: "Q2_K_S", 22: "IQ3_XS", 27: "IQ3_M", 29: "IQ2_M", 146: "IQ3_KL",
}  # fmt: skip
"""File types that name a mix and not a type."""
_GUESSED = 1024
_STRING_WIDTH = 80


def file_type_name(file_type: int) -> str:
    """Name of a ``general.file_type``; where the engines differ both names, ``unknown`` where neither has it."""
    guessed = " (guessed)" if file_type & _GUESSED else ""
    file_type &= ~_GUESSED
    if file_type in _MIXES:
        return _MIXES[file_type] + guessed
    names = [next((t.name for t in QUANT_TYPES if t.ftype[i] == file_type), "") for i in range(len(ENGINES))]
    named = {n: e for n, e in zip(names, ENGINES, strict=True) if n}
    if len(named) > 1:
        return " or ".join(f"{n} ({e})" for n, e in named.items()) + guessed
    return next(iter(named), "unknown") + guessed


def model_facts(header: ModelHeader) -> dict[str, Any]:
    """Everything of a model's header but array payloads, ready for JSON."""
    n_weights = sum(t.n_weights for t in header.tensors)
    data_nbytes = sum(t.nbytes for t in header.tensors)
    stated = header.get(GENERAL_FILE_TYPE)
    file_type = stated if isinstance(stated, int) and not isinstance(stated, bool) else None
    return {
        "kind": "model",
        "files": [{"path": str(p), "nbytes": n} for p, n in zip(header.paths, header.file_nbytes, strict=True)],
        "file_nbytes": sum(header.file_nbytes),
        "architecture": header.architecture,
        "file_type": file_type,
        "file_type_name": None if file_type is None else file_type_name(file_type),
        "alignment": header.alignment,
        "n_tensors": len(header.tensors),
        "n_weights": n_weights,
        "data_nbytes": data_nbytes,
        "bpw": 8 * data_nbytes / n_weights if n_weights else 0.0,
        "types": _types(header.tensors),
        "metadata": [_field_facts(f) for f in header.metadata],
        "tensors": [
            {"name": t.name, "type": t.type, "shape": list(t.shape), "nbytes": t.nbytes, "shard": t.shard,
             "offset": t.offset} for t in header.tensors
        ],
    }  # fmt: skip


def model_text(facts: dict[str, Any], *, every: bool, terminal: bool) -> str:
    """The facts of :func:`model_facts` to read; ``every`` shows each tensor and whole strings."""
    files = facts["files"]
    lines = [show_path(files[0]["path"]) + (f" (first of {len(files)} shards)" if len(files) > 1 else "")]
    architecture = facts["architecture"] or "no architecture"
    mix = f", file type {facts['file_type']} {facts['file_type_name']}" if facts["file_type_name"] else ""
    lines.append(f"{architecture}{mix}, aligned to {facts['alignment']}")
    lines.append(
        f"{facts['n_tensors']:,} tensors, {facts['n_weights']:,} weights, {facts['bpw']:.3f} bpw, "
        f"{human_nbytes(facts['file_nbytes'])} ({facts['file_nbytes']:,} bytes)"
    )
    unknown = [t["type"] for t in facts["types"] if t["type"].startswith("UNKNOWN_")]
    if unknown:
        lines.append(f"Types that neither engine writes, their tensors can only be copied: {', '.join(unknown)}")
    for titles, rows in _model_tables(facts, every=every):
        lines += ["", table(titles, rows, terminal=terminal)]
    return "\n".join(lines)


def _model_tables(facts: dict[str, Any], *, every: bool) -> Iterator[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
    """Titles and rows of each table of a model."""
    total = max(1, facts["data_nbytes"])
    yield ("type", ">tensors", ">weights", ">bytes", ">bpw", ">share"), [
        (t["type"], f"{t['n_tensors']:,}", f"{t['n_weights']:,}", f"{t['nbytes']:,}", f"{t['bpw']:.3f}",
         f"{100 * t['nbytes'] / total:.1f} %") for t in facts["types"]
    ]  # fmt: skip
    yield (
        ("metadata key", "?type", "value"),
        [(f["key"], f["type"], _value_text(f, every=every)) for f in facts["metadata"]],
    )
    if len(facts["files"]) > 1:
        yield ("shard", ">bytes"), [(show_path(f["path"]), f"{f['nbytes']:,}") for f in facts["files"]]
    if every:
        yield (
            ("tensor", "type", ">shape", ">bytes", ">offset"),
            [
                (t["name"], t["type"], " x ".join(map(str, t["shape"])), f"{t['nbytes']:,}", f"{t['offset']:,}")
                for t in facts["tensors"]
            ],
        )


def imatrix_facts(imatrix: Imatrix) -> dict[str, Any]:
    """Everything of an importance matrix but its values, ready for JSON."""
    return {"kind": "imatrix"} | about_json(imatrix) | {
        "n_entries": len(imatrix.entries),
        "n_values": sum(v.size for v in imatrix.entries.values()),
        "entries": [
            {"name": name, "n_values": v.size, "min": float(v.min()), "mean": float(v.mean(dtype="f8")),
             "max": float(v.max()), "n_zeros": int((v == 0).sum()), "counts": imatrix.counts[name].tolist()}
            for name, v in imatrix.entries.items()
        ],
        "coverage": coverage_json(coverage(imatrix)),
    }  # fmt: skip


def imatrix_text(facts: dict[str, Any], *, every: bool, terminal: bool) -> str:
    """The facts of :func:`imatrix_facts` to read; ``every`` shows each entry."""
    entries = facts["entries"]
    zeros = [e for e in entries if e["n_zeros"]]
    lines = [
        f"{show_path(facts['path'])}: importance matrix",
        f"{facts['n_entries']:,} entries, {facts['n_values']:,} values, {facts['n_chunks']:,} chunks",
        "measured on " + (", ".join(show(d, _STRING_WIDTH) for d in facts["datasets"]) or "texts it does not name"),
        f"sha256 {facts['sha256']}",
        f"values from {min(e['min'] for e in entries):.4g} to {max(e['max'] for e in entries):.4g}"
        + (f"; entries with columns of importance 0: {len(zeros)}" if zeros else ""),
        *coverage_lines(facts["coverage"]),
    ]
    if every:
        rows = [
            (e["name"], f"{e['n_values']:,}", f"{e['min']:.4g}", f"{e['mean']:.4g}", f"{e['max']:.4g}",
             f"{e['n_zeros']:,}", _counts_text(e["counts"])) for e in entries
        ]  # fmt: skip
        titles = ("entry", ">values", ">min", ">mean", ">max", ">zeros", f">{facts['counts_in']}")
        lines += ["", table(titles, rows, terminal=terminal)]
    return "\n".join(lines)


def _counts_text(counts: list[float]) -> str:
    """``512``, or the least and the most of several."""
    least, most = min(counts), max(counts)
    return f"{most:,.0f}" if least == most else f"{least:,.0f} to {most:,.0f}"


def _types(tensors: tuple[TensorInfo, ...]) -> list[dict[str, Any]]:
    """Counts and bytes per type, the largest first."""
    types: dict[str, dict[str, Any]] = {}
    for t in tensors:
        row = types.setdefault(t.type, {"type": t.type, "n_tensors": 0, "n_weights": 0, "nbytes": 0})
        row["n_tensors"] += 1
        row["n_weights"] += t.n_weights
        row["nbytes"] += t.nbytes
    for row in types.values():
        row["bpw"] = 8 * row["nbytes"] / row["n_weights"]
    return sorted(types.values(), key=lambda row: (-row["nbytes"], row["type"]))


def _field_facts(field: MetadataField) -> dict[str, Any]:
    if field.array is None:
        value = field.value
        if isinstance(value, float) and not isfinite(value):
            value = str(value)  # JSON has no NaN and no infinity
        return {"key": field.key, "type": ValueType(field.value_type).name.lower(), "value": value}
    element_type, count = field.array
    return {"key": field.key, "type": f"array of {ValueType(element_type).name.lower()}", "count": count}


def _value_text(facts: dict[str, Any], *, every: bool) -> str:
    if "count" in facts:
        return f"{facts['count']:,} elements"
    value = facts["value"]
    if isinstance(value, str):
        return show(value, len(value) if every else _STRING_WIDTH)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.7g}" if isinstance(value, float) else str(value)
