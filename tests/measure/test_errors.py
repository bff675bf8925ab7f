"""Errors: the real encoders, against the plain formula on whole tensors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest

from qxmix.container.header import read_header
from qxmix.container.imatrix_load import load_imatrix
from qxmix.errors import ModelFileError, RecipeError
from qxmix.measure.candidates import choose_tensors
from qxmix.measure.encode import errors
from qxmix.measure.errors import estimate, measure_errors
from qxmix.measure.journal import open_journal
from qxmix.measure.model import Job, Settings
from qxmix.measure.run import make_job
from qxmix.quants import get
from qxmix.quants.api import dequantize, quantize
from tests.planning.models import Model, header

if TYPE_CHECKING:
    from pathlib import Path

    from qxmix.measurement.model import MeasuredTensor

TYPES = ("Q4_0", "Q8_0")
WHOLE = Settings(types=TYPES, n_rows=None)


def run(job: Job, path: Path, n_workers: int = 1) -> tuple[MeasuredTensor, ...]:
    job = replace(job, settings=replace(job.settings, n_workers=n_workers))
    with open_journal(path) as journal, ThreadPoolExecutor(n_workers) as executor:
        return measure_errors(job, journal, executor, lambda _n: None)[0]


def expected(model: Path, name: str, type_name: str, importance: dict[str, np.ndarray]) -> tuple[float, float]:
    data = np.array(next(t for t in gguf.GGUFReader(model).tensors if t.name == name).data, np.float32)
    matrices = data.reshape(-1, *data.shape[-2:])
    found = importance.get(name)
    xx = dd = xy = yy = 0.0
    for i, x in enumerate(matrices):
        n_cols = x.shape[1]
        w = None if found is None else found[i * n_cols : (i + 1) * n_cols]
        y = dequantize(quantize(x, type_name, w), type_name, n_cols).astype(np.float64)
        weight = np.ones(n_cols) if w is None else w.astype(np.float64)
        xx += (weight * x.astype(np.float64) ** 2).sum()
        yy += (weight * y**2).sum()
        xy += (weight * x * y).sum()
        dd += (weight * (x - y) ** 2).sum()
    return dd / xx, xy / np.sqrt(xx * yy)


@pytest.mark.parametrize("weighted", [True, False])
def test_errors_are_those_of_the_plain_formula(
    demo_moe_model: Path, demo_moe_imatrix: Path, tmp_path: Path, weighted: bool
) -> None:
    imatrix = load_imatrix(demo_moe_imatrix) if weighted else None
    entries = dict(imatrix.entries) if imatrix else {}
    job = make_job(read_header(demo_moe_model), imatrix, WHOLE)
    tensors = {t.name: t for t in run(job, tmp_path / "j")}
    for name in ("token_embd.weight", "blk.0.attn_k.weight", "blk.1.ffn_down_exps.weight"):
        assert [t.type for t in tensors[name].trials] == list(TYPES)
        assert tensors[name].n_rows == int(np.prod(tensors[name].shape[1:]))
        for trial in tensors[name].trials:
            error, cosine = expected(demo_moe_model, name, trial.type, entries)
            assert trial.error == pytest.approx(error, rel=1e-5)
            assert trial.cosine == pytest.approx(cosine, abs=1e-6)
            assert trial.nbytes == get(trial.type).nbytes(tensors[name].shape)


def test_workers_and_resuming_change_nothing(demo_model: Path, tmp_path: Path) -> None:
    job = make_job(read_header(demo_model), None, WHOLE)
    whole = run(job, tmp_path / "a", n_workers=3)
    assert run(job, tmp_path / "b") == whole
    journal = tmp_path / "b"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[: len(lines) // 2]) + lines[-1][:20])
    assert run(job, journal) == whole
    assert sorted(journal.read_bytes().splitlines()) == sorted(line.strip() for line in lines)


def test_what_is_known_is_not_encoded_again(demo_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = read_header(demo_model)
    few = run(make_job(header, None, replace(WHOLE, types=("Q8_0",))), tmp_path / "j")
    asked: list[str] = []

    def noted(*args: Any) -> object:
        asked.extend(args[3])
        return errors(*args)

    monkeypatch.setattr("qxmix.measure.errors.errors", noted)
    both = run(make_job(header, None, WHOLE), tmp_path / "j")
    assert set(asked) == {"Q4_0"}
    assert [t.trials[-1] for t in both] == [t.trials[0] for t in few]


def test_a_sample_is_near_the_whole(demo_model: Path, tmp_path: Path) -> None:
    header = read_header(demo_model)
    whole = run(make_job(header, None, WHOLE), tmp_path / "j")
    some = run(make_job(header, None, replace(WHOLE, n_rows=64)), tmp_path / "j")
    assert sum(t.n_rows for t in some) < sum(t.n_rows for t in whole)
    for a, b in zip(some, whole, strict=True):
        for of_some, of_whole in zip(a.trials, b.trials, strict=True):
            assert of_some.error == pytest.approx(of_whole.error, rel=0.2)


def test_weights_that_cannot_be_read_are_not_measured() -> None:
    shapes = {"blk.0.attn_q.weight": (64, 64), "blk.1.attn_q.weight": (64, 64), "blk.0.attn_v.weight": (64, 64)}
    model = Model("llama", {"block_count": 2}, shapes, types={"blk.1.attn_q.weight": "F64"})
    found = choose_tensors(header(model), "ik_llama.cpp")
    assert [t.name for t in found] == ["blk.0.attn_q.weight", "blk.0.attn_v.weight"]


def test_types_that_rows_or_importance_do_not_allow(demo_model: Path, demo_imatrix: Path) -> None:
    settings = Settings(types=("q4_k", "iq2_xxs", "Q8_0"))
    for imatrix, of_attention in ((None, ("Q4_K", "Q8_0")), (load_imatrix(demo_imatrix), ("IQ2_XXS", "Q4_K", "Q8_0"))):
        job = make_job(read_header(demo_model), imatrix, settings)
        allowed = dict(zip((t.name for t in job.tensors), job.allowed, strict=True))
        assert allowed["blk.0.attn_q.weight"] == of_attention
        assert allowed["blk.0.ffn_down.weight"] == ("Q8_0",)  # rows of 448
        assert allowed["token_embd.weight"] == ("Q4_K", "Q8_0")  # no importance for what sees tokens
        assert not any("norm" in name for name in allowed)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (Settings(types=("q4_j",)), "unknown type 'q4_j'; did you mean Q4_"),
        (Settings(types=("iq4_ks",), target="llama.cpp"), r"IQ4_KS is not a type of llama\.cpp"),
        (Settings(types=("i8",)), "I8 cannot be written"),
    ],
)
def test_types_that_are_none_are_told(demo_model: Path, settings: Settings, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        make_job(read_header(demo_model), None, settings)


@pytest.mark.parametrize("target", ["ik_llama.cpp", "llama.cpp", "any"])
def test_default_types_span_the_range_and_all_is_more(demo_model: Path, target: str) -> None:
    header = read_header(demo_model)
    default = make_job(header, None, Settings(target=target)).types  # type: ignore[arg-type]
    assert 10 <= len(default) <= 12
    assert get(default[0]).bpw < 2.3
    assert default[-1] == "Q8_0"
    assert not any(name.endswith("_KT") for name in default)
    everything = make_job(header, None, Settings(target=target, types=("all",))).types  # type: ignore[arg-type]
    assert set(default) < set(everything)
    assert not {"F16", "F32", "BF16"} & set(everything)
    assert not any(get(name).base for name in everything)


def test_a_file_of_headers_only_is_refused(demo_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "hollow.gguf"
    header = read_header(demo_model)
    with path.open("wb") as file:
        file.write(demo_model.read_bytes()[: min(t.offset for t in header.tensors)])
        file.truncate(demo_model.stat().st_size)
    with pytest.raises(ModelFileError, match=r"hollow\.gguf: \d+ of its \d+ matrices begin with zeros alone"):
        make_job(read_header(path), None, WHOLE)


def test_a_model_that_is_elsewhere_is_refused(demo_model: Path) -> None:
    for weights, told in (("absent", "none of its weights"), ("remote", "on another machine")):
        with pytest.raises(ModelFileError, match=told):
            make_job(replace(read_header(demo_model), weights=weights), None, WHOLE)  # type: ignore[arg-type]


def test_weights_that_are_no_numbers_are_told(demo_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "nan.gguf"
    path.write_bytes(demo_model.read_bytes())
    tensor = next(t for t in gguf.GGUFReader(path, "r+").tensors if t.name == "blk.2.ffn_up.weight")
    tensor.data[7, 7] = np.nan
    assert isinstance(tensor.data.base, np.memmap)
    tensor.data.base.flush()
    with pytest.raises(ModelFileError, match=r"nan\.gguf: blk\.2\.ffn_up\.weight: has weights that are NaN"):
        run(make_job(read_header(path), None, WHOLE), tmp_path / "j")


def test_the_time_is_estimated(demo_model: Path) -> None:
    assert 0 < estimate(make_job(read_header(demo_model), None, WHOLE)) < 60
