"""Tensors taken over from an older output or a cache: only what is the same, and only whole."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from qxmix import quants
from qxmix.errors import ModelFileError
from qxmix.execute import apply
from qxmix.execute.reuse import in_output, tensor_key
from tests.execute.plans import SHAPES, f16_model, plan_for, uniform_imatrix, weights, write_model

if TYPE_CHECKING:
    from pathlib import Path

N_ENCODED = sum(len(shape) > 1 for shape in SHAPES.values())


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Write the usual model, and one matrix of several leaves."""
    return f16_model(tmp_path / "model.gguf", {**SHAPES, "blk.1.ffn_up.weight": (512, 9000)})


def test_one_changed_rule_makes_one_tensor_anew(model: Path, tmp_path: Path) -> None:
    apply(plan_for(model, {}), tmp_path / "old.gguf")
    plan = plan_for(model, {"output.weight": "Q8_0"})
    result = apply(plan, tmp_path / "new.gguf", reuse_output=tmp_path / "old.gguf")
    assert result.n_reused == N_ENCODED
    assert not result.problems
    apply(plan, tmp_path / "alone.gguf")
    assert sha256_of(tmp_path / "new.gguf") == sha256_of(tmp_path / "alone.gguf")


def test_a_report_measures_what_is_reused_too(model: Path, tmp_path: Path) -> None:
    plan = plan_for(model, {}, imatrix=uniform_imatrix(tmp_path / "i.dat"))
    made = apply(plan, tmp_path / "old.gguf", report=True)
    reused = apply(plan, tmp_path / "new.gguf", report=True, reuse_output=tmp_path / "old.gguf")
    assert reused.n_reused
    assert reused.tensors == made.tensors


def test_an_output_may_be_reused_for_itself(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    apply(plan_for(model, {}), out)
    before = sha256_of(out)
    assert apply(plan_for(model, {}), out, overwrite=True, reuse_output=out).n_reused == N_ENCODED + 1
    assert sha256_of(out) == before


def test_shards_are_reused(model: Path, tmp_path: Path) -> None:
    old = apply(plan_for(model, {}, shards=[2, 0, 1, 1, 0, 2, 1]), tmp_path / "old.gguf").paths[0]
    result = apply(plan_for(model, {}), tmp_path / "new.gguf", reuse_output=old)
    assert result.n_reused == N_ENCODED + 1
    apply(plan_for(model, {}), tmp_path / "alone.gguf")
    assert sha256_of(tmp_path / "new.gguf") == sha256_of(tmp_path / "alone.gguf")


def test_whatever_decides_the_bytes_must_be_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = f16_model(tmp_path / "model.gguf")
    imatrix = uniform_imatrix(tmp_path / "i.dat")
    apply(plan_for(model, {}, imatrix=imatrix), tmp_path / "old.gguf")

    def reused(name: str, **settings: object) -> int:
        plan = plan_for(**{"model": model, "types": {}, "imatrix": imatrix, **settings})  # type: ignore[arg-type]
        return apply(plan, tmp_path / f"{name}.gguf", reuse_output=tmp_path / "old.gguf").n_reused

    assert reused("same") == N_ENCODED
    assert reused("no importance", imatrix=None) == 0
    other = uniform_imatrix(tmp_path / "i.dat")
    other.entries["output.weight"][5] += 1
    assert reused("one importance", imatrix=other) == N_ENCODED - 1
    assert reused("search", search="heuristic") == 0
    changed = {n: w.astype("float16") if w.ndim > 1 else w for n, w in weights().items()}
    changed["blk.1.attn_q.weight"][3, 4] += 1
    assert reused("one weight", model=write_model(tmp_path / "m2.gguf", changed)) == N_ENCODED - 1
    plan = plan_for(model, {}, imatrix=imatrix)
    result = apply(plan, tmp_path / "again.gguf")
    found = in_output(tmp_path / "old.gguf").by_key
    assert tensor_key(plan, plan.tensors[0], result.tensors[0].source_sha256) in found
    codec = quants.codec_of("Q4_0")
    newer = replace(codec, version=codec.version + 1)
    monkeypatch.setattr(quants, "codec_of", lambda _name: newer)
    assert tensor_key(plan, plan.tensors[0], result.tensors[0].source_sha256) not in found


def test_a_damaged_old_output_is_noticed(model: Path, tmp_path: Path) -> None:
    plan = plan_for(model, {})
    apply(plan, tmp_path / "old.gguf")
    expected = sha256_of(tmp_path / "old.gguf")
    with (tmp_path / "old.gguf").open("r+b") as file:
        file.seek(plan.tensors[3].offset + 10)
        byte = file.read(1)[0]
        file.seek(plan.tensors[3].offset + 10)
        file.write(bytes([byte ^ 1]))
    result = apply(plan, tmp_path / "new.gguf", reuse_output=tmp_path / "old.gguf")
    assert result.n_reused == N_ENCODED
    assert [(p.where, p.severity) for p in result.problems] == [(plan.tensors[3].name, "warning")]
    assert "old.gguf is damaged; the tensor was made anew" in result.problems[0].text
    assert sha256_of(tmp_path / "new.gguf") == expected


def test_an_output_of_another_program_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="does not say how its tensors were made"):
        apply(plan_for(model, {}), tmp_path / "new.gguf", reuse_output=model)
    assert not list(tmp_path.glob("new*"))


def test_a_cache_serves_many_outputs(model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = apply(plan_for(model, {}), tmp_path / "a.gguf", cache=cache)
    assert first.n_reused == 0
    assert len(list(cache.iterdir())) == N_ENCODED + 1
    second = apply(plan_for(model, {"output.weight": "Q8_0"}), tmp_path / "b.gguf", cache=cache)
    assert second.n_reused == N_ENCODED
    assert len(list(cache.iterdir())) == N_ENCODED + 2
    third = apply(plan_for(model, {}), tmp_path / "c.gguf", cache=cache, executor="serial")
    assert third.n_reused == N_ENCODED + 1
    assert sha256_of(tmp_path / "a.gguf") == sha256_of(tmp_path / "c.gguf")


def test_a_damaged_or_cut_cache_entry_is_replaced(model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    apply(plan_for(model, {}), tmp_path / "a.gguf", cache=cache)
    damaged, cut = sorted(cache.iterdir())[:2]
    whole = damaged.read_bytes(), cut.read_bytes()
    damaged.write_bytes(bytes([whole[0][0] ^ 1]) + whole[0][1:])
    cut.write_bytes(whole[1][:-1])
    result = apply(plan_for(model, {}), tmp_path / "b.gguf", cache=cache)
    assert result.n_reused == N_ENCODED - 1
    assert len(result.problems) == 1
    assert (damaged.read_bytes(), cut.read_bytes()) == whole
    assert sha256_of(tmp_path / "a.gguf") == sha256_of(tmp_path / "b.gguf")


def test_a_cache_that_cannot_be_written_is_only_told(model: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o500)
    (tmp_path / "cache" / "x").symlink_to("/proc/nowhere/to/write")
    result = apply(plan_for(model, {}), tmp_path / "a.gguf", cache=tmp_path / "cache" / "x")
    assert [p.severity for p in result.problems] == ["warning"]
    assert (tmp_path / "a.gguf").exists()


def test_an_interrupted_reuse_goes_on(model: Path, tmp_path: Path) -> None:
    old = apply(plan_for(model, {}), tmp_path / "old.gguf").paths[0]
    seen = iter(range(2))

    def interrupt(progress: object) -> None:
        if getattr(progress, "phase", "") == "work" and next(seen, None) is None:
            raise KeyboardInterrupt

    changed = plan_for(model, {"blk.1.ffn_up.weight": "Q5_0"})
    with pytest.raises(KeyboardInterrupt):
        apply(changed, tmp_path / "new.gguf", reuse_output=old, on_progress=interrupt, executor="serial")
    result = apply(changed, tmp_path / "new.gguf", reuse_output=old, resume=True)
    assert result.n_resumed > N_ENCODED
    apply(changed, tmp_path / "alone.gguf")
    assert sha256_of(tmp_path / "new.gguf") == sha256_of(tmp_path / "alone.gguf")
