"""How time grows: ``python -m tests.bench.scale [PART...] [--gigabytes 0.27,1.6,4] --json F``.

    threads   an apply of Q6_K by 1 and 2 threads; for 16 and 64 what follows from the parts that no thread shares
    size      an apply of Q4_0 by 2 threads, of models of these sizes
    tensors   a plan, in processor time, of a model of experts with so many tensors
    experts   a plan of one with so many experts in a tensor
    rules     a plan of a thousand tensors by so many rules

Applies are whole ones in this process, without its start: the source in the page cache, with an importance matrix.
"""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from qxmix import load_imatrix, load_recipe, make_plan, read_header
from qxmix.execute import Options, Progress, apply_all
from tests.bench.machine import write_run
from tests.bench.synthetic import make_imatrix, make_model
from tests.planning.models import header
from tests.planning.zoo import experts

if TYPE_CHECKING:
    from collections.abc import Callable

LAYER = 0.134
"""GB of a layer of the synthetic model."""
RECIPE = "ik_llama.cpp/iq3_xxs"

Row = dict[str, Any]


def _model(folder: Path, gigabytes: float) -> Path:
    path = make_model(folder / "model.gguf", max(1, round(gigabytes / LAYER)))
    make_imatrix(folder / "imatrix.dat", path)
    return path


def phases(model: Path, recipe: str, n_threads: int) -> dict[str, float]:
    """Wall time of an apply, plan included, by its phases."""
    starts: dict[str, float] = {"plan": time.perf_counter()}

    def note(progress: Progress) -> None:
        starts.setdefault(progress.phase, time.perf_counter())

    imatrix = load_imatrix(model.with_name("imatrix.dat"))
    plan = make_plan(load_recipe(recipe), read_header(model), imatrix)
    output = model.with_name("output.gguf")
    apply_all([(plan, output)], Options(n_workers=n_threads), note)
    starts["end"] = time.perf_counter()
    output.unlink()
    names = list(starts)
    return {a: round(starts[b] - starts[a], 4) for a, b in pairwise(names)}


def _least(model: Path, recipe: str, n_threads: int) -> dict[str, float]:
    """The fastest of three, the first of which loads the kernels."""
    return min((phases(model, recipe, n_threads) for _ in range(3)), key=lambda found: sum(found.values()))


def threads(gigabytes: float) -> list[Row]:
    """An apply by one and by two threads, and by more as its parts allow."""
    with TemporaryDirectory(dir=Path.cwd()) as name:
        model = _model(Path(name), gigabytes)
        found = {n: _least(model, "pure/q6_k", n) for n in (1, 2)}
    rows = [{"n": n, "seconds": round(sum(of.values()), 3), "phases": of} for n, of in found.items()]
    rest = sum(seconds for phase, seconds in found[2].items() if phase != "work")
    more = [{"n": n, "seconds": round(rest + found[1]["work"] / n, 3), "reasoned": True} for n in (16, 64)]
    return rows + more


def size(gigabytes: tuple[float, ...]) -> list[Row]:
    """Applies of models of several sizes."""
    rows = []
    for n in gigabytes:
        with TemporaryDirectory(dir=Path.cwd()) as name:
            found = _least(_model(Path(name), n), "pure/q4_0", 2)
        rows.append({"n": n, "seconds": round(sum(found.values()), 3), "phases": found})
    return rows


def _planned(n_layers: int, n_experts: int, recipe: Any) -> Row:
    head = header(
        experts("deepseek2", n_layers, 704, 256, n_experts, 16, 16, lead=3, shared=True, mla=(512, 128, 64, 128))
    )
    spent = []
    for _ in range(3):
        start = time.process_time()
        make_plan(recipe, head)
        spent.append(time.process_time() - start)
    return {"n_tensors": len(head.tensors), "seconds": round(min(spent), 4)}


def tensors() -> list[Row]:
    """Plans of more and more layers."""
    rows = [_planned(n, 64, load_recipe(RECIPE)) for n in (8, 30, 61, 240)]
    return [{"n": row["n_tensors"], **row} for row in rows]


def many_experts() -> list[Row]:
    """Plans of tensors with more and more experts."""
    return [{"n": n, **_planned(61, n, load_recipe(RECIPE))} for n in (8, 64, 256)]


def rules() -> list[Row]:
    """Plans by recipes of more and more rules, each for one tensor that the model has."""
    rows = []
    for n in (1, 10, 100, 1000):
        lines = [f"  - {{match: '^blk\\.{i % 61}\\.ffn_(up|down)_exps\\.{i}', type: q5_k}}" for i in range(n)]
        with TemporaryDirectory() as name:
            path = Path(name) / "many.yaml"
            path.write_text("qxmix: 1\nname: many\ntarget: ik_llama.cpp\ndefault: q4_k\nrules:\n" + "\n".join(lines))
            rows.append({"n": n, **_planned(61, 64, load_recipe(path))})
    return rows


@click.command()
@click.argument("names", metavar="[PART]...", nargs=-1)
@click.option("--gigabytes", default="0.27,1.6,4", show_default=True, help="Sizes of models; the first for threads.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures to this file, too.")
def main(names: tuple[str, ...], gigabytes: str, json_path: Path | None) -> None:
    """Measure the PARTs, or all."""
    sizes = tuple(map(float, gigabytes.split(",")))
    parts: dict[str, Callable[[], list[Row]]] = {
        "threads": lambda: threads(sizes[0]),
        "size": lambda: size(sizes),
        "tensors": tensors,
        "experts": many_experts,
        "rules": rules,
    }
    results = []
    for name in names or parts:
        results.append({"what": name, "rows": parts[name]()})
        for row in results[-1]["rows"]:
            click.echo(f"{name} {row}")
    if json_path is not None:
        write_run(json_path, "scale", {"recipe": RECIPE}, results, "what")


if __name__ == "__main__":
    main()
