"""What apply writes, against encoders called directly and against the gguf package's reader."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest

from qxmix import quants
from qxmix.errors import ModelFileError, PlanError, RunError
from qxmix.execute import Progress, apply
from qxmix.planning.memory import BASE_NBYTES
from tests.execute.plans import SHAPES, f16_model, plan_for, uniform_imatrix, weights, write_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MIX = {"output.weight": "Q8_0", "blk.1.attn_q.weight": "IQ4_NL", "token_embd.weight": "F32"}


def encoded(data: NDArray[np.float32], type_name: str, importance: NDArray[np.float32] | None) -> bytes:
    """One matrix after the other, each in one call of the encoder."""
    encode = quants.codec_of(type_name).encode
    matrices = data.reshape(-1, *data.shape[-2:])
    out = []
    for i, matrix in enumerate(matrices):
        n_cols = matrix.shape[1]
        columns = np.zeros(0, np.float32) if importance is None else importance[i * n_cols : (i + 1) * n_cols].copy()
        packed = np.zeros((len(matrix), quants.get(type_name).row_nbytes(n_cols)), np.uint8)
        encode(np.ascontiguousarray(matrix), columns, packed, 0)
        out.append(packed.tobytes())
    return b"".join(out)


def test_every_tensor_is_what_its_encoder_makes_of_it(tmp_path: Path) -> None:
    """Each matrix in one call, the largest of them several leaves long: the chunk of a whole tensor."""
    shapes = {**SHAPES, "blk.1.ffn_up.weight": (512, 9000)}
    model = f16_model(tmp_path / "model.gguf", shapes)
    imatrix = uniform_imatrix(tmp_path / "i.dat", shapes)
    plan = plan_for(model, MIX, imatrix=imatrix)
    result = apply(plan, tmp_path / "out.gguf", n_workers=2)
    reader = gguf.GGUFReader(tmp_path / "out.gguf")
    assert [t.name for t in reader.tensors] == list(shapes)
    sources = weights(shapes)
    for tensor, planned in zip(reader.tensors, plan.tensors, strict=True):
        source = sources[tensor.name]
        if planned.action == "copy":
            assert tensor.data.tobytes() == source.tobytes()
        else:
            half = source.astype(np.float16).astype(np.float32)
            assert tensor.data.tobytes() == encoded(half, planned.type, imatrix.entries[tensor.name])
    assert (tmp_path / "out.gguf").stat().st_size == plan.file_nbytes == result.nbytes
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.gguf", "out.gguf"]


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Write a model whose largest matrix has several leaves."""
    return f16_model(tmp_path / "large.gguf", {**SHAPES, "blk.1.ffn_up.weight": (512, 9000)})


def test_bytes_do_not_depend_on_workers_chunks_or_executor(large: Path, tmp_path: Path) -> None:
    plan = plan_for(large, MIX, imatrix=uniform_imatrix(tmp_path / "i.dat"))
    apply(plan, tmp_path / "serial.gguf", executor="serial")
    expected = sha256_of(tmp_path / "serial.gguf")
    for n_workers, memory in ((1, None), (2, None), (4, None), (2, BASE_NBYTES + 40_000), (1, BASE_NBYTES + 1_000_000)):
        out = tmp_path / f"t{n_workers}-{memory}.gguf"
        apply(plan, out, n_workers=n_workers, memory_nbytes=memory)
        assert sha256_of(out) == expected


def test_two_applies_write_the_same_and_say_so(large: Path, tmp_path: Path) -> None:
    plan = plan_for(large, MIX)
    first = apply(plan, tmp_path / "a.gguf")
    second = apply(plan, tmp_path / "b.gguf")
    assert sha256_of(tmp_path / "a.gguf") == sha256_of(tmp_path / "b.gguf")
    assert first.data_sha256 == second.data_sha256
    assert first.source_sha256 == second.source_sha256
    fields = gguf.GGUFReader(tmp_path / "a.gguf").fields
    assert bytes(fields["qxmix.data.sha256"].parts[-1]).decode() == first.data_sha256
    assert bytes(fields["qxmix.source.sha256"].parts[-1]).decode() == first.source_sha256


def test_shards_in_and_out(large: Path, tmp_path: Path) -> None:
    split = plan_for(large, dict.fromkeys(SHAPES, "keep"), default="keep", shards=[0, 0, 1, 1, 2, 2, 2])
    parts = apply(split, tmp_path / "split.gguf").paths
    assert [p.name for p in parts] == [f"split-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    apply(plan_for(parts[0], MIX), tmp_path / "joined.gguf")
    apply(plan_for(large, MIX), tmp_path / "whole.gguf")
    joined, whole = (gguf.GGUFReader(tmp_path / f"{n}.gguf") for n in ("joined", "whole"))
    for a, b in zip(joined.tensors, whole.tensors, strict=True):
        assert a.name == b.name
        assert a.data.tobytes() == b.data.tobytes()


def test_progress_goes_from_nothing_to_all(large: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    plan = plan_for(large, MIX)
    apply(plan, tmp_path / "out.gguf", on_progress=seen.append)
    assert [p.phase for p in seen if p.phase not in {"work", "check"}] == ["kernels", "sync", "done"]
    done = [p.done_nbytes for p in seen if p.phase == "work"]
    assert done == sorted(done)
    assert done[-1] == seen[0].total_nbytes == sum(t.source.nbytes for t in plan.tensors)


@pytest.mark.parametrize("cut", [True, False])
def test_an_output_that_another_program_wrote_to_is_not_published(large: Path, tmp_path: Path, cut: bool) -> None:
    plan, out = plan_for(large, MIX), tmp_path / "out.gguf"
    partial = tmp_path / "out.gguf.partial"

    def spoil(progress: Progress) -> None:
        if progress.phase == "work" and progress.done_nbytes == progress.total_nbytes:
            with partial.open("r+b") as file:
                file.seek(plan.tensors[-1].offset + 40)
                file.write(b"spoiled")
            if cut:
                os.truncate(partial, plan.tensors[2].offset)
                os.truncate(partial, plan.file_nbytes)

    with pytest.raises(RunError, match=r"out\.gguf\.partial: holds other data for .* than were written"):
        apply(plan, out, on_progress=spoil)
    assert not out.exists()
    assert apply(plan, out, resume=True).n_resumed
    apply(plan, tmp_path / "whole.gguf")
    assert sha256_of(out) == sha256_of(tmp_path / "whole.gguf")


class Elsewhere(ThreadPoolExecutor):
    """Workers that write into a folder of their own and only say that they wrote: a cluster without a shared disk."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        [[task]] = args
        Path(f"{task.target}.elsewhere").touch()
        return super().submit(fn, (replace(task, target=f"{task.target}.elsewhere"),), **kwargs)


def test_workers_without_a_shared_folder_are_noticed(tmp_path: Path) -> None:
    plan = plan_for(f16_model(tmp_path / "model.gguf"), MIX)
    with pytest.raises(RunError, match="do not share this folder"):
        apply(plan, tmp_path / "out.gguf", executor="tests.execute.test_apply:Elsewhere")


def test_a_report_measures_what_gguf_decodes(tmp_path: Path) -> None:
    model = f16_model(tmp_path / "model.gguf")
    imatrix = uniform_imatrix(tmp_path / "i.dat")
    result = apply(plan_for(model, {}, imatrix=imatrix), tmp_path / "out.gguf", report=True)
    tensors = {t.name: t for t in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    for entry in result.tensors:
        if entry.action == "copy":
            assert entry.deviation is None
            continue
        assert entry.deviation is not None
        x = weights()[entry.name].astype(np.float16).astype(np.float64).reshape(-1, SHAPES[entry.name][0])
        q = gguf.dequantize(tensors[entry.name].data, tensors[entry.name].tensor_type).astype(np.float64)
        q = q.reshape(x.shape)
        w = np.repeat(imatrix.entries[entry.name].reshape(-1, x.shape[1]), SHAPES[entry.name][1], axis=0)
        assert entry.deviation.weighted_rmse == pytest.approx(np.sqrt((w * (x - q) ** 2).sum() / w.sum(dtype=float)))
        assert entry.deviation.cosine == pytest.approx((x * q).sum() / np.sqrt((x * x).sum() * (q * q).sum()))
        relative = np.sqrt(((x - q) ** 2).sum(axis=1) / (x * x).sum(axis=1))
        error, row = entry.deviation.worst[0]
        assert error == pytest.approx(relative.max())
        assert row == relative.argmax()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_no_number_is_named(tmp_path: Path, value: float) -> None:
    data = weights()
    data["blk.0.ffn_down_exps.weight"][2, 5, 7] = value
    model = write_model(tmp_path / "model.gguf", data)
    with pytest.raises(ModelFileError, match=rf"ffn_down_exps.*row 101, column 7 is {value} \(1 such weight"):
        apply(plan_for(model, {}), tmp_path / "out.gguf")
    assert [p.name for p in tmp_path.iterdir()] == ["model.gguf"]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_bad_weight_that_is_carried_over_is_told(tmp_path: Path, dtype: type, value: float) -> None:
    name = "blk.0.ffn_down_exps.weight"
    data: dict[str, NDArray[np.generic]] = {n: w.astype(dtype) for n, w in weights().items()}
    data[name].reshape(-1, 96)[101, [7, 90]] = value
    model = write_model(tmp_path / "model.gguf", data)
    plan = plan_for(model, {name: "keep"})
    result = apply(plan, tmp_path / "out.gguf")
    [problem] = result.problems
    assert str(problem).startswith(f"{name}: row 101, column 7: {value}; the tensor is carried over")
    assert problem.severity == "warning"
    copied = {t.name: t.data for t in gguf.GGUFReader(tmp_path / "out.gguf").tensors}[name]
    assert copied.tobytes() == data[name].tobytes()


def test_a_bad_scale_that_is_carried_over_is_told(tmp_path: Path) -> None:
    apply(plan_for(f16_model(tmp_path / "model.gguf"), {}), tmp_path / "q4.gguf")
    reader = gguf.GGUFReader(tmp_path / "q4.gguf")
    [tensor] = [t for t in reader.tensors if t.name == "output.weight"]
    with (tmp_path / "q4.gguf").open("r+b") as file:
        file.seek(tensor.data_offset + 20 * 36 + 18)
        file.write(b"\x00\x7e")
    plan = plan_for(tmp_path / "q4.gguf", dict.fromkeys(SHAPES, "keep"))
    [problem] = apply(plan, tmp_path / "out.gguf").problems
    assert str(problem).startswith("output.weight: row 20: a scale that is infinite or NaN; the tensor is carried")


def test_weights_too_large_for_the_scale_are_refused(tmp_path: Path) -> None:
    data = weights()
    data["output.weight"][3] = 1e9
    model = write_model(tmp_path / "model.gguf", data)
    with pytest.raises(ModelFileError, match=r"output\.weight: in row 3 a scale of Q4_0 came out infinite"):
        apply(plan_for(model, {}), tmp_path / "out.gguf", memory_nbytes=BASE_NBYTES + 100_000)
    assert [p.name for p in tmp_path.iterdir()] == ["model.gguf"]


def test_the_output_may_not_be_an_input(tmp_path: Path) -> None:
    model = f16_model(tmp_path / "model.gguf")
    before = sha256_of(model)
    plan = plan_for(model, {})
    os.link(model, tmp_path / "hard.gguf")
    (tmp_path / "soft.gguf").symlink_to(model)
    (tmp_path / "partial.gguf.partial").symlink_to(model)
    for name in ("model", "hard", "soft", "partial"):
        with pytest.raises(RunError, match="is the model itself"):
            apply(plan, tmp_path / f"{name}.gguf", overwrite=True)
    assert sha256_of(model) == before


def test_an_output_that_exists_is_replaced_only_on_request(tmp_path: Path) -> None:
    plan = plan_for(f16_model(tmp_path / "model.gguf"), {})
    out = tmp_path / "out.gguf"
    out.write_bytes(b"precious")
    with pytest.raises(RunError, match="--overwrite"):
        apply(plan, out)
    assert out.read_bytes() == b"precious"
    apply(plan, out, overwrite=True)
    assert out.stat().st_size == plan.file_nbytes


def test_a_model_that_changed_since_it_was_planned_is_refused(tmp_path: Path) -> None:
    model = f16_model(tmp_path / "model.gguf")
    plan = plan_for(model, {})
    with model.open("ab") as file:
        file.write(b"more")
    with pytest.raises(ModelFileError, match="plan again"):
        apply(plan, tmp_path / "out.gguf")
    model.unlink()
    with pytest.raises(ModelFileError, match="No such file"):
        apply(plan, tmp_path / "out.gguf")


def test_bad_importances_are_refused_first(tmp_path: Path) -> None:
    model = f16_model(tmp_path / "model.gguf")
    imatrix = uniform_imatrix(tmp_path / "i.dat")
    plan = plan_for(model, {}, imatrix=imatrix)
    imatrix.entries["output.weight"][9] = np.nan
    imatrix.entries["token_embd.weight"][3] = -1
    with pytest.raises(ModelFileError, match=r"(?s)token_embd\.weight: value 3 is -1.*output\.weight: value 9 is nan"):
        apply(plan, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf.journal").exists()


def test_too_little_memory_names_the_least(tmp_path: Path) -> None:
    plan = plan_for(f16_model(tmp_path / "model.gguf"), {})
    with pytest.raises(PlanError, match="raise --memory or use fewer workers"):
        apply(plan, tmp_path / "out.gguf", memory_nbytes=BASE_NBYTES, on_progress=refuse_progress)
    assert not list(tmp_path.glob("out*"))


def refuse_progress(progress: Progress) -> None:
    """For what must be refused before kernels are compiled."""
    raise AssertionError(progress)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("thread", "there are threads, processes, serial, dask:ADDRESS and package:callable"),
        ("no.such.module:run", "cannot import no.such.module"),
        ("os:nothing", "os has no callable nothing"),
        ("os:getcwd", "returned a str, not a concurrent.futures.Executor"),
    ],
)
def test_an_executor_that_is_none(tmp_path: Path, spec: str, text: str) -> None:
    plan = plan_for(f16_model(tmp_path / "model.gguf"), {})
    with pytest.raises(RunError, match=text):
        apply(plan, tmp_path / "out.gguf", executor=spec, on_progress=refuse_progress)
    assert not list(tmp_path.glob("out*"))
