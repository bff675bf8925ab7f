"""The README's tables of speed, made from the files of figures in ``results``: ``python -m tests.bench.report``.

``python -m tests.bench.kernels --json tests/bench/results/kernels-avx2.json`` (or ``-avx512``) measures, as
``tests.bench.apply --json`` does; this writes what was measured between the README's markers, and into
``qxmix/quants/measured.py`` the speeds by which times are estimated.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import TYPE_CHECKING, Any

import click

from qxmix.quants import QUANT_TYPES
from tests.bench import estimates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parents[2] / "README.md"
ENGINES = ("ik_llama.cpp", "llama.cpp")


@dataclass(frozen=True, slots=True)
class Run:
    """One file of figures."""

    machine: dict[str, Any]
    origin: str
    """Where figures come from that this tree's bench did not write; empty for the others."""
    results: tuple[dict[str, Any], ...]

    @property
    def title(self) -> str:
        """The machine, in words."""
        compiled, versions = self.machine.get("compiled_for"), self.machine.get("packages", {})
        facts = [f"{self.machine['vector_bits']} bits"]
        facts += [f"compiled for {compiled}"] if compiled else []
        facts += [f"{name} {versions[name]}" for name in ("ik-llama-cpp-python", "xllamacpp") if versions.get(name)]
        return f"{self.machine['processor']} ({', '.join(facts)})" + (f": {self.origin}" if self.origin else "")


def load_run(name: str) -> Run | None:
    """The figures in ``results/NAME.json``; None where there are none."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return None
    read = json.loads(path.read_text())
    return Run(read["machine"], read.get("origin", ""), tuple(read["results"]))


def _speed(speed: float) -> str:
    """Millions of weights per second, in two or three figures."""
    return f"{speed:.0f}" if speed >= 10 else f"{speed:.1f}"


def _times(speed: dict[str, float], who: str, peer: str) -> str:
    return f"{speed[who] / speed[peer]:.2f}x" if who in speed and peer in speed else "-"


def _cells(result: dict[str, Any] | None, path: str) -> list[str]:
    """Speed, and how many times that of either engine."""
    speed = result["speed"].get(path) if result else None
    return [_speed(speed["qxmix"]), *(_times(speed, "qxmix", e) for e in ENGINES)] if speed else ["-"] * 3


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def kernels_table(narrow: Run | None, wide: Run | None) -> str:
    """Every type that was measured: with and without an importance on AVX2, with one on AVX-512."""
    of = [{r["type"]: r for r in run.results} if run else {} for run in (narrow, wide)]
    names = [t.name for t in QUANT_TYPES if t.name in of[0] or t.name in of[1]]
    head = ["type", "Mw/s", *ENGINES, "Mw/s without", *ENGINES, "Mw/s AVX-512", *ENGINES]
    rows = []
    for name in names:
        first, second = of[0].get(name), of[1].get(name)
        rows.append([name, *_cells(first, "imatrix"), *_cells(first, "none"), *_cells(second, "imatrix")])
    notes = [f"{label}: {run.title}." for label, run in (("AVX2", narrow), ("AVX-512", wide)) if run]
    return "\n".join([_table(head, rows), "", *notes])


def exhaustive_table(run: Run) -> str:
    """The exhaustive search beside the engine's own gradient search."""
    measured = [(r["type"], r["speed"]) for r in run.results if "exhaustive" in r["speed"].get("imatrix", {})]
    rows = []
    for name, speed in measured:
        cells = [_speed(speed["imatrix"]["exhaustive"]), _times(speed["imatrix"], "exhaustive", "ik_llama.cpp")]
        rows.append([name, *cells, _times(speed["imatrix"], "qxmix", "exhaustive")])
    return _table(["type", "Mw/s exhaustive", "ik_llama.cpp's gradient", "qxmix's gradient to it"], rows)


def apply_table(run: Run) -> str:
    """Whole applies beside llama-quantize."""
    rows = []
    for result in run.results:
        seconds = result["seconds"]
        cells = [f"{seconds[who]:.2f}" for who in ("1", "2", "ik")]
        rows.append([result["mix"], *cells, f"{seconds['2'] / seconds['ik']:.2f}"])
    head = ["mix", "1 worker, s", "2 workers, s", "llama-quantize, 2 threads, s", "2 workers to it"]
    return "\n".join([_table(head, rows), "", f"{run.title}."])


FED = (
    ("q, k, v", ("attn_q", "attn_k", "attn_v")), ("attn_output", ("attn_output",)),
    ("gate, up", ("ffn_gate", "ffn_up")), ("ffn_down", ("ffn_down",)),
)  # fmt: skip
"""Columns of the table of feedback: the categories whose tensors are averaged."""


def _change(ratios: Iterable[float]) -> str:
    found = list(ratios)
    return f"{100 * (geometric_mean(found) - 1):+.1f} %" if found else "-"


_TOLERATED = 1.01
"""How many times the error with the importance alone that with feedback may be."""


def _each(errors: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[tuple[float, str, str, str]]:
    """Ratio, type, category and layer of every tensor that was measured."""
    return [
        (ratio, name, category, layer)
        for name, by_category in errors.items()
        for category, by_layer in by_category.items()
        for layer, ratio in by_layer.items()
    ]


def feedback_table(run: Run, speeds: Run | None) -> str:
    """The error of the output with feedback beside that with the importance alone, and the speed."""
    speed = {r["type"]: r["speed"] for r in speeds.results} if speeds else {}
    rows = []
    errors = {r["type"]: r["error"] for r in run.results}
    for name, error in ((t.name, errors[t.name]) for t in QUANT_TYPES if t.name in errors):
        cells = [_change(v for c in of for v in error.get(c, {}).values()) for _, of in FED]
        worst, _, category, layer = max(_each({name: error}))
        fed = [_speed(speed[name]["feedback"]), _times(speed[name], "feedback", "imatrix")] if name in speed else []
        rows.append([name, *cells, f"{_change([worst])} ({category} {layer})", *(fed or ["-", "-"])])
    head = ["type", *(title for title, _ in FED), "worst of all (layer)", "Mw/s", "times the speed without"]
    each = _each(errors)
    layers = {layer for *_, layer in each}
    beyond = [f"{name} {category} {layer} ({_change([r])})" for r, name, category, layer in each if r > _TOLERATED]
    told = f"Of {len(each):,} tensors and types on {len(layers)} layers"
    return "\n".join([_table(head, rows), "", f"{told} more than 1 % above: {', '.join(beyond) or 'none'}."])


def brute_table(run: Run) -> str:
    """The exhaustive searches beside trying every rounding."""
    rows = [[r["type"], f"{r['blocks']:,}", str(r["worse"]), f"{r['worst']:.0e}"] for r in run.results]
    return _table(["search of", "blocks", "worse than the best", "largest relative difference"], rows)


GROWING = {
    "threads": "threads, an apply to Q6_K", "size": "GB of a model, an apply to Q4_0 by two threads",
    "tensors": "tensors, a plan", "experts": "experts of 1,086 tensors, a plan",
    "rules": "rules for 1,086 tensors, a plan",
}  # fmt: skip
"""What the bench of growth calls its parts, and the table."""


def scale_table(run: Run) -> str:
    """How time grows with what there is more of."""
    parts, rows = {r["what"]: r["rows"] for r in run.results}, []
    for title, found in ((title, parts[what]) for what, title in GROWING.items() if what in parts):
        cells = [f"{r['n']:g}: {r['seconds']:.2g}{' *' if r.get('reasoned') else ''}" for r in found]
        rows.append([title, "; ".join(cells)])
    notes = ["*: follows from the parts that threads share and those that they do not."] if "threads" in parts else []
    return "\n".join([_table(["more", "how many: seconds"], rows), "", *notes, f"{run.title}."])


_BUSY = 1.5
"""Wall time by processor time from which on others had the processors: a first use waits for little else."""


def cold_table(run: Run) -> str:
    """What the first use costs by compiling and with shipped kernels."""
    rows, busy = [], False
    for result in run.results:
        found = [result["seconds"][how] for how in ("here", "with shipped kernels")]
        busy |= any(seconds["wall"] > _BUSY * seconds["processor"] for seconds in found)
        rows.append([result["first"], *(f"{seconds[of]:.2g}" for of in ("processor", "wall") for seconds in found)])
    head = ["first use of", "processor s, compiled", "processor s, shipped", "wall s, compiled", "wall s, shipped"]
    note = "; the machine was busy, and its wall time long." if busy else "."
    return "\n".join([_table(head, rows), "", f"{run.title}{note}"])


TABLES: dict[str, tuple[Callable[..., str], tuple[str, ...]]] = {
    "kernels": (kernels_table, ("kernels-avx2", "kernels-avx512")),
    "exhaustive": (exhaustive_table, ("kernels-avx2",)),
    "brute": (brute_table, ("brute",)),
    "scale": (scale_table, ("scale",)),
    "cold": (cold_table, ("cold",)),
    "apply": (apply_table, ("apply-avx2",)),
    "feedback": (feedback_table, ("feedback", "feedback-speed")),
}
"""By the names of the README's markers: what makes the table, and of which files; the first of them must be there."""


def tables() -> dict[str, str]:
    """What stands between the README's markers, by their names; those that were measured."""
    runs = {name: [load_run(file) for file in files] for name, (_, files) in TABLES.items()}
    return {name: TABLES[name][0](*found) for name, found in runs.items() if found[0] is not None}


def filled(readme: str) -> str:
    """The README with the tables as they are measured now.

    Raises:
        ValueError: it has no place for one of them.

    """
    for name, table in tables().items():
        start, end = f"<!-- speed: {name} -->", f"<!-- end: {name} -->"
        before, found, rest = readme.partition(start)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"the README has no place {start} ... {end}")
        readme = f"{before}{start}\n{table}\n{end}{after}"
    return readme


def estimated() -> str:
    """The module of speeds that estimates go by, as it is measured now."""
    kernels, feedback = load_run("kernels-avx2"), load_run("feedback-speed")
    assert kernels is not None
    assert feedback is not None
    return estimates.estimates(kernels, feedback)


@click.command()
def main() -> None:
    """Write the tables into the README, and the speeds that estimates go by into the package."""
    README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8")
    estimates.MODULE.write_text(estimated(), encoding="utf-8")


if __name__ == "__main__":
    main()
