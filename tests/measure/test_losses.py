"""Losses of single tensors and whole recipes, in the engine."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gguf
import jsonschema
import numpy as np
import pytest

from qxmix.container.header import read_header
from qxmix.engines.evaluate import Settings as EvalSettings
from qxmix.engines.evaluate import evaluate
from qxmix.errors import ModelFileError, RunError
from qxmix.execute.source import Source
from qxmix.measure import inputs
from qxmix.measure.journal import open_journal
from qxmix.measure.model import Settings
from qxmix.measure.run import make_job, measure
from qxmix.measure.score import KldScorer, Passage
from qxmix.measure.sensitivity import with_sensitivities
from qxmix.measure.swap import Swap
from qxmix.measurement.file import dumps
from qxmix.measurement.model import MeasuredTensor, Point, Trial
from qxmix.quants.api import dequantize, quantize
from qxmix.resources import data_dir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from qxmix.measurement.model import Measurement

TYPES = ("Q4_0", "Q8_0")
NAME = "blk.1.ffn_down.weight"


def passage(text: bytes, *, first_chunk: int = 1, n_chunks: int = 2) -> Passage:
    return Passage(text, 128, first_chunk, n_chunks, 128, 1)


def run(model: Path, journal: Path, settings: Settings) -> Measurement:
    with open_journal(journal) as results:
        return measure(make_job(read_header(model), None, settings), results)


@pytest.fixture(scope="module")
def measured(demo_moe_model: Path, demo_text: bytes, tmp_path_factory: pytest.TempPathFactory) -> Measurement:
    path = tmp_path_factory.mktemp("measured") / "j"
    return run(demo_moe_model, path, Settings(types=TYPES, n_rows=None, passage=passage(demo_text)))


def test_every_tensor_is_measured_and_the_file_is_as_its_schema_says(measured: Measurement) -> None:
    assert {t.sensitivity.origin for t in measured.tensors if t.sensitivity} == {"measured"}
    assert all(t.sensitivity is not None and t.sensitivity.value > 0 for t in measured.tensors)
    assert [p.tensors for p in measured.points].count(("token_embd.weight",)) == 1
    assert len(measured.points) == len(measured.tensors)
    assert {p.type for p in measured.points} == {"Q4_0"}  # nearest to an error of 0.006
    assert measured.run is not None
    assert (measured.run.n_ctx, measured.run.first_chunk, measured.run.n_chunks) == (128, 1, 2)
    assert 0 < measured.run.noise_floor < min(p.loss for p in measured.points)
    assert len(measured.joint) == 3
    assert [p.loss for p in measured.joint] == sorted((p.loss for p in measured.joint), reverse=True)
    schema = json.loads((data_dir("schemas") / "measurement.schema.json").read_text())
    jsonschema.validate(json.loads(dumps(measured)), schema)


def test_a_point_is_what_a_file_of_the_decoded_weights_gives(
    measured: Measurement, demo_moe_model: Path, tmp_path: Path, demo_text: bytes
) -> None:
    name = "blk.1.ffn_down_exps.weight"
    point = next(p for p in measured.points if p.tensors == (name,))
    path = tmp_path / "changed.gguf"
    path.write_bytes(demo_moe_model.read_bytes())
    tensor = next(t for t in gguf.GGUFReader(path, "r+").tensors if t.name == name)
    x = np.array(tensor.data, np.float32)
    rows = x.reshape(-1, x.shape[-1])
    back = dequantize(quantize(rows, point.type), point.type, rows.shape[1]).astype(np.float16)
    tensor.data[:] = back.reshape(x.shape)
    assert isinstance(tensor.data.base, np.memmap)
    tensor.data.base.flush()
    assert point.error == pytest.approx(((back - rows) ** 2).sum() / (rows**2).sum(), rel=1e-4)
    # The chunks that were measured are the second and the third.
    losses = []
    for n_chunks in (1, 3):
        settings = EvalSettings("ik_llama.cpp", n_ctx=128, n_chunks=n_chunks, n_threads=1)
        (found,) = evaluate([path], demo_text, base=demo_moe_model, settings=settings)
        assert found.summary.mean_kld is not None
        losses.append(found.summary.mean_kld)
    assert point.loss == pytest.approx((3 * losses[1] - losses[0]) / 2, rel=1e-3)


def test_a_budget_is_kept_and_the_rest_is_filled(demo_model: Path, demo_text: bytes, tmp_path: Path) -> None:
    settings = Settings(
        types=("Q8_0",), n_rows=64, passage=passage(demo_text, n_chunks=1), n_measurements=9, joint=False
    )
    found = run(demo_model, tmp_path / "j", settings)
    origins = [t.sensitivity.origin for t in found.tensors if t.sensitivity]
    assert origins.count("measured") == len(found.points) == 9
    assert len(origins) == len(found.tensors)
    assert found.joint == ()
    none = run(demo_model, tmp_path / "j", replace(settings, n_measurements=None, seconds=0.0))
    assert len(none.points) == 1


def test_tie_groups_share_their_loss(demo_model: Path, demo_text: bytes, tmp_path: Path) -> None:
    text = passage(demo_text, n_chunks=1)
    settings = Settings(types=("Q8_0",), n_rows=64, passage=text, tied=True, n_measurements=7, joint=False)
    found = run(demo_model, tmp_path / "j", settings)
    point = next(p for p in found.points if len(p.tensors) == 3)
    values = [t.sensitivity for t in found.tensors if t.name in point.tensors]
    assert len(values) == 3
    assert len(set(values)) == 1


def test_resuming_gives_the_same(demo_model: Path, demo_text: bytes, tmp_path: Path) -> None:
    text = passage(demo_text, n_chunks=1)
    settings = Settings(types=TYPES, n_rows=64, passage=text, n_measurements=6)
    whole = run(demo_model, tmp_path / "j", settings)
    lines = (tmp_path / "j").read_bytes().splitlines(keepends=True)
    for keep in (0, len(lines) - 8, len(lines) - 2):
        (tmp_path / "k").write_bytes(b"".join(lines[:keep]))
        assert run(demo_model, tmp_path / "k", settings) == whole


def test_all_passes_are_in_the_time_that_is_told(
    demo_model: Path, demo_text: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the noise floor, of the base again and of inputs, too: of few losses they were a third."""
    told: dict[str, float] = {}
    ran: list[str] = []

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: object) -> object:
            ran.append(name)
            return call(*args)

        return counting

    for owner, name in ((KldScorer, "loss"), (KldScorer, "is_base"), (inputs, "_observed")):
        monkeypatch.setattr(owner, name, counted(name, getattr(owner, name)))
    monkeypatch.setattr("qxmix.measure.run._run_base", lambda scorer, _: float(10 + 0 * sum(scorer.keep())))
    settings = Settings(types=TYPES, n_rows=64, passage=passage(demo_text, n_chunks=1), n_measurements=3)
    with open_journal(tmp_path / "j") as journal:
        measure(make_job(read_header(demo_model), None, settings), journal, on_estimate=told.__setitem__)
    assert ran.count("loss") == 3 + 3 + 1
    assert told["6 passes"] == pytest.approx(10 * len(ran))


class DriftingScorer(KldScorer):
    """An engine that does not come back to the base."""

    def is_base(self) -> bool:
        return False


def test_a_base_that_does_not_come_back_takes_back_what_was_measured(
    demo_model: Path, demo_text: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qxmix.measure.score.KldScorer", DriftingScorer)
    settings = Settings(types=("Q8_0",), n_rows=64, passage=passage(demo_text, n_chunks=1), n_measurements=2)
    with pytest.raises(RunError, match="the last 2 losses are thrown away"):
        run(demo_model, tmp_path / "j", settings)
    results = [json.loads(line) for line in (tmp_path / "j").read_bytes().splitlines()]
    assert [value for _, value in results[-2:]] == [None, None]


def test_a_loss_of_zero_is_no_measurement() -> None:
    trials = (Trial("Q4_0", 18, 0.006, 0.99),)
    tensors = [MeasuredTensor(f"blk.{i}.ffn_up.weight", (32, 1), 1, trials, None) for i in range(3)]
    points = [
        Point((tensors[0].name,), "Q4_0", 0.006, 0.012, 0.001),
        Point((tensors[1].name,), "Q4_0", 0.006, 0.0, 0.0),
        Point((tensors[2].name,), "Q4_0", 0.006, 0.0006, 0.001),
    ]
    found = [t.sensitivity for t in with_sensitivities(tensors, points, 0.0)]
    assert [s.origin for s in found if s] == ["measured", "filled", "measured"]
    assert [s.value for s in found if s] == pytest.approx([2.0, 0.2**0.5, 0.1])
    # Below the noise there is nothing.
    assert [s.value for s in (t.sensitivity for t in with_sensitivities(tensors, points, 0.0006)) if s][2] == 0


def test_several_points_of_a_tensor_are_averaged() -> None:
    tensor = MeasuredTensor("blk.0.ffn_up.weight", (32, 1), 1, (Trial("Q4_0", 18, 0.006, 0.99),), None)
    points = [Point((tensor.name,), t, 0.01, loss, 0.001) for t, loss in (("Q4_0", 0.01), ("Q8_0", 0.03))]
    (found,) = with_sensitivities([tensor], points, 0.0)
    assert found.sensitivity is not None
    assert found.sensitivity.value == pytest.approx(2.0)
    assert found.sensitivity.error == pytest.approx(1.0)
    (alone,) = with_sensitivities([tensor], points[:1], 0.0)
    assert alone.sensitivity is not None
    assert alone.sensitivity.error == pytest.approx(0.1)


def test_two_numbers_of_bits_are_two_points(demo_model: Path, demo_text: bytes, tmp_path: Path) -> None:
    text = passage(demo_text, n_chunks=1)
    settings = Settings(types=TYPES, n_rows=64, passage=text, bits=(8.0, 4.0), n_measurements=31, joint=False)
    found = run(demo_model, tmp_path / "j", settings)
    assert [p.type for p in found.points] == ["Q8_0"] * 30 + ["Q4_0"]


def test_texts_that_do_not_do(demo_model: Path, demo_text: bytes, tmp_path: Path) -> None:
    for text, told in (
        (passage(b"the world"), "needs at least 256; take a longer text"),
        (passage(demo_text, first_chunk=500), r"no chunk 500: it has \d+, .* give a smaller --first-chunk"),
        (
            passage(demo_text, first_chunk=1, n_chunks=500),
            r"not 501 \(--first-chunk and --chunks\); take a longer text",
        ),
        (passage(demo_text, n_chunks=500), "has .* chunks of 128 tokens"),
    ):
        with pytest.raises(ModelFileError, match=told):
            run(demo_model, tmp_path / "j", Settings(types=TYPES, n_rows=64, passage=text))


def test_a_base_of_few_bits_is_refused(tmp_path: Path, demo_text: bytes) -> None:
    path = tmp_path / "q4.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    packed = gguf.quants.quantize(np.ones((64, 64), np.float32), gguf.GGMLQuantizationType.Q4_0)
    writer.add_tensor("blk.0.ffn_up.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(
        ModelFileError, match=r"weights are Q4_0; losses are measured on a base of F32, F16, BF16, Q8_0"
    ):
        make_job(read_header(path), None, Settings(types=TYPES, passage=passage(demo_text)))


@pytest.mark.parametrize("own", ["F32", "F16", "BF16", "Q8_0"])
def test_a_swap_holds_what_the_type_decodes_to_in_every_base(own: str, tmp_path: Path) -> None:
    x = np.random.default_rng(5).standard_normal((96, 256)).astype(np.float32)
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    kind = gguf.GGMLQuantizationType[own]
    writer.add_tensor(NAME, gguf.quants.quantize(x, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_header(path)
    source = Source(header.tensors[0], path, None, None)
    stored = gguf.quants.dequantize(gguf.GGUFReader(path).tensors[0].data, kind).reshape(x.shape)
    wanted = dequantize(quantize(stored, "Q4_0"), "Q4_0", 256)
    with ThreadPoolExecutor(2) as executor:
        swap = Swap(source, "Q4_0", executor, 2)
        data = np.frombuffer(b"".join(piece for _, piece in swap), np.uint8)
    assert data.size == header.tensors[0].nbytes
    back = gguf.quants.dequantize(data.reshape(96, -1), kind).reshape(x.shape)
    limit = {"F32": 0, "F16": 1e-3, "BF16": 8e-3, "Q8_0": 0.03}[own]
    assert np.abs(back - wanted).max() <= limit * np.abs(wanted).max()
    assert swap.error == pytest.approx(((back - stored) ** 2).sum() / (stored**2).sum(), rel=1e-4)
