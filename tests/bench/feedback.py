"""What error feedback does to the error of the output, on text that took no part: a table per type, category and layer.

``python -m tests.bench.feedback MODEL CALIBRATION HELD_OUT [TYPE...] [--json FILE]``: a model, the moments it is
encoded with, and moments of other text, both of ``qxmix imatrix make --moments``.  Figures are ``tr(E M E^T)`` within
spans of 256 columns for the moments M of the other text, with feedback over that with the importance alone: 1 is no
gain.  On a sample of rows they are uncertain by more than what is looked for: of 64 rows of SmolLM2's ``ffn_down`` by 2
to 7 %, where one column or few have much of the error.
"""

from __future__ import annotations

from pathlib import Path
from statistics import geometric_mean
from typing import TYPE_CHECKING

import click
import numpy as np

from qxmix import read_header
from qxmix.container.moments_load import load_moments, read_second_moments
from qxmix.execute.sample import sample_rows
from qxmix.execute.source import Source
from qxmix.quants import QUANT_TYPES, codec_of, get
from qxmix.quants.feedback.correlations import make_factors
from qxmix.quants.feedback.options import Feedback
from qxmix.quants.feedback.spans import SPAN, block_sizes
from qxmix.recipe.categories import category_of, layer_of
from tests.bench.machine import write_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from qxmix.container.model import TensorInfo
    from qxmix.container.moments import Moments, SecondMoments

    Floats = NDArray[np.float32]


def spans(moments: SecondMoments) -> Iterator[NDArray[np.float64]]:
    """The diagonal blocks of the first matrix."""
    diag, packed, at = moments.diag[0].astype(np.float64), moments.correlations[0], 0
    for i, n in enumerate(block_sizes(len(diag))):
        size = n * (n - 1) // 2
        block = np.identity(n)
        block[np.tril_indices(n, -1)] = packed[at : at + size]
        block += np.tril(block, -1).T
        root = np.sqrt(diag[SPAN * i : SPAN * i + n])
        yield block * root * root[:, None]
        at += size


def output_error(x: Floats, y: Floats, held: Sequence[NDArray[np.float64]]) -> float:
    """``tr(E M E^T)`` within the spans."""
    total = 0.0
    for i, m in enumerate(held):
        e = x[:, SPAN * i : SPAN * i + len(m)].astype(np.float64) - y[:, SPAN * i : SPAN * i + len(m)]
        total += float(((e @ m) * e).sum())
    return total


def decoded(name: str, packed: NDArray[np.uint8], n_cols: int) -> Floats:
    y = np.empty((len(packed), n_cols), np.float32)
    codec_of(name).decode(packed, y)
    return y


def gains(x: Floats, types: Sequence[str], calibration: SecondMoments, held: SecondMoments) -> dict[str, float]:
    """The error of the output with feedback over that with the importance alone, by type."""
    columns, n_tokens = calibration.diag[0].copy(), float(calibration.correlation_counts[0])
    factors, failed = make_factors(calibration.correlations[0], columns, n_tokens, Feedback())
    assert failed == -1
    judge, n_cols = list(spans(held)), x.shape[1]
    found = {}
    for name in types:
        codec, packed = codec_of(name), np.empty((len(x), get(name).row_nbytes(n_cols)), np.uint8)
        codec.encode(x, columns, packed, 0)
        plain = output_error(x, decoded(name, packed, n_cols), judge)
        assert codec.feedback is not None
        codec.feedback(x, columns, factors, packed, 0)
        found[name] = output_error(x, decoded(name, packed, n_cols), judge) / plain
    return found


def weights_of(path: Path, tensor: TensorInfo, n_rows: int | None) -> Floats:
    source = Source(tensor, path, None, None)
    rows = sample_rows(tensor, (), n_rows)
    return source.decode(source.read(rows))


def measured(
    model: Path, tensor: TensorInfo, types: Sequence[str], n_rows: int | None, moments: Sequence[Moments]
) -> dict[str, float]:
    """The gains of the types that fit a tensor."""
    fitting = [name for name in types if tensor.n_cols % get(name).block_size == 0]
    calibration, held = (read_second_moments(each, tensor.name) for each in moments)
    return gains(weights_of(model, tensor, n_rows), fitting, calibration, held) if fitting else {}


@click.command()
@click.argument("model", type=Path)
@click.argument("calibration", type=Path)
@click.argument("held_out", type=Path)
@click.argument("types", nargs=-1)
@click.option("--layers", help="Layers to measure, as 3,17,25; all of them without it.")
@click.option("--rows", type=int, help="Rows of each tensor, about: the same in every run; all of them without it.")
@click.option("--json", "json_path", type=Path, help="Write the figures to this file, too.")
def main(
    model: Path, calibration: Path, held_out: Path, types: tuple[str, ...], layers: str | None, rows: int | None,
    json_path: Path | None,
) -> None:  # fmt: skip
    """Print the table."""
    wanted = {int(layer) for layer in layers.split(",")} if layers else None
    names = types or tuple(t.name for t in QUANT_TYPES if t.feeds_back)
    moments = load_moments(calibration), load_moments(held_out)
    found: dict[str, dict[str, dict[int, float]]] = {name: {} for name in names}
    for tensor in read_header(model).tensors:
        layer, category = layer_of(tensor.name), category_of(tensor.name)
        if tensor.name in moments[0].entries and layer is not None and (wanted is None or layer in wanted):
            for name, gain in measured(model, tensor, names, rows, moments).items():
                found[name].setdefault(category, {})[layer] = round(gain, 4)
            click.echo(tensor.name, err=True)
    for name, by_category in found.items():
        for category, by_layer in by_category.items():
            worst = max(by_layer, key=by_layer.__getitem__)
            mean = geometric_mean(by_layer.values())
            click.echo(f"{name:8} {category:12} mean {mean:.3f}, worst {by_layer[worst]:.3f} in layer {worst}")
    if json_path is not None:
        results = [{"type": name, "error": by_category} for name, by_category in found.items()]
        write_run(json_path, "feedback", {"layers": layers or "all", "rows": rows or "all"}, results, "type")


if __name__ == "__main__":
    main()
