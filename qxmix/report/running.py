"""What running a model takes, as text and JSON."""

from __future__ import annotations

from qxmix.report.text import human_nbytes, table, wrapped
from qxmix.running.model import PARTS, Cache, Placed, Running

_SPLIT = (
    "What is on which device follows the engines' rules and sums to the whole; it was not tried on GPUs. CUDA0 is what "
    "they call the first one of NVIDIA."
)


SUMMARY = (">on GPUs", ">in memory", "?fits")
"""Titles of :func:`summary`."""


def summary(found: Running | None) -> tuple[str, str, str]:
    """Sums on the GPUs and in memory, and whether they fit; for tables of several."""
    if found is None:
        return "", "", ""
    unknown = "?" if found.cache.why_unknown else ""
    *gpus, cpu = found.devices
    lacking = {"VRAM": found.lacking_vram, "RAM": found.lacking_ram}
    told = " and ".join(f"{human_nbytes(n)} of {what}" for what, n in lacking.items() if n)
    fits = f"lacks {told}" if told else "yes" if found.use.vram or found.use.ram else ""
    sums = human_nbytes(sum(d.nbytes for d in gpus)) + unknown if gpus else "", human_nbytes(cpu.nbytes) + unknown
    return *sums, fits


def running_text(found: Running, *, terminal: bool) -> str:
    """A column for each device, the flags, and what is not known."""
    use = found.use
    title = f"To run in {use.engine} with a context of {use.n_ctx:,}, cache {use.kv_type.name}"
    title += f", {use.n_parallel} sequences" if use.n_parallel > 1 else ""
    parts = [p for p in PARTS if any(d.weights.get(p) for d in found.devices)]
    rows = [[p, *(_size(d.weights.get(p, 0)) for d in found.devices)] for p in parts]
    unknown = "?" if found.cache.why_unknown else ""
    rows.append(["cache", *(unknown or _size(d.cache) for d in found.devices)])
    rows.append(["compute, estimate", *(_size(d.compute) for d in found.devices)])
    rows.append(["sum", *(human_nbytes(d.nbytes) + unknown for d in found.devices)])
    if any(d.room is not None for d in found.devices):
        rows.append(["of", *("" if d.room is None else human_nbytes(d.room) for d in found.devices)])
    lines = [table(("", *(f">{d.device}" for d in found.devices)), rows, terminal=terminal)]
    lines += [_missing(d) for d in found.devices if d.missing]
    if found.cache.why_unknown:
        lines.append(f"The size of the cache is not known: {found.cache.why_unknown}.")
    if found.unlatent is not None:
        lines.append(_unlatent(found.unlatent))
    lines.append(f"Flags: {' '.join(found.flags)}")
    if use.vram:
        lines.append(_SPLIT)
    return "\n".join([wrapped(title, terminal=terminal), *(wrapped(line, terminal=False) for line in lines)])


def _unlatent(cache: Cache) -> str:
    if cache.why_unknown:
        return f"What the cache takes with -mla 0 is not known: {cache.why_unknown}."
    size = human_nbytes(cache.nbytes)
    return f"The cache holds MLA's latent; with -mla 0, of keys and values of every head, it would take {size}."


def _size(nbytes: int) -> str:
    return human_nbytes(nbytes) if nbytes else ""


def _missing(device: Placed) -> str:
    return f"{device.device} has too little room: {human_nbytes(device.missing)} are missing."


def running_json(found: Running) -> dict[str, object]:
    """As ``running`` in ``schemas/plan.schema.json``."""
    full = found.unlatent
    return {
        "engine": found.use.engine,
        "n_ctx": found.use.n_ctx,
        "kv_type": found.use.kv_type.name,
        "n_parallel": found.use.n_parallel,
        "cache_nbytes": None if found.cache.why_unknown else found.cache.nbytes,
        "cache_unknown": found.cache.why_unknown or None,
        "cache_nbytes_without_latent": None if full is None or full.why_unknown else full.nbytes,
        "devices": [
            {
                "device": d.device,
                "weights": d.weights,
                "cache_nbytes": d.cache,
                "compute_nbytes_estimate": d.compute,
                "nbytes": d.nbytes,
                "room_nbytes": d.room,
            }
            for d in found.devices
        ],
        "flags": list(found.flags),
    }
