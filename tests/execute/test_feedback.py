"""Error feedback from the recipe to the bytes: the same from every executor, and part of the job's identity."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner

from qxmix import load_recipe, make_plan, read_header
from qxmix.cli.main import main
from qxmix.container.moments import SecondMoments
from qxmix.container.moments_load import load_moments, read_entry_of, save_moments
from qxmix.errors import ModelFileError, PlanError, RunError
from qxmix.execute import apply, factors, kernels
from qxmix.execute.factors import factors_of
from qxmix.execute.reuse import tensor_key
from qxmix.execute.tasks import make_tasks
from qxmix.execute.verify import verify
from qxmix.planning.lock import check_lock, write_lock
from qxmix.planning.memory import Chunking
from qxmix.quants import QUANT_TYPES
from qxmix.quants.api import quantize
from qxmix.quants.feedback.correlations import pack_correlations, spans_of
from qxmix.quants.feedback.options import Feedback
from qxmix.quants.feedback.spans import packed_size
from tests.execute.plans import SHAPES, f16_model, uniform_imatrix, weights

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from qxmix import Plan
    from qxmix.container.imatrix import Imatrix
    from qxmix.container.moments import MomentsEntry
    from qxmix.execute import Progress

RECIPE = "qxmix: 1\ntarget: any\nfallback: error\ndefault: q4_0\nfeedback: {shrink: 0}\n"
FED = {n: s for n, s in SHAPES.items() if n.startswith("blk") and len(s) > 1}


TYPES = {f"blk.{i}.ffn_up.weight": t.name for i, t in enumerate(t for t in QUANT_TYPES if t.feeds_back)}
"""A tensor for each type with feedback."""


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def moments_of(shape: tuple[int, ...], seed: int, *, shared: bool = False) -> SecondMoments:
    """Moments of as many stacked matrices as a tensor has."""
    n_cols, n_matrices = shape[0], int(np.prod(shape[2:]))
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((n_matrices, 900, n_cols)) @ (
        np.identity(n_cols) + rng.standard_normal((n_cols, n_cols)) / np.sqrt(n_cols)
    )
    kept = a[:1] if shared else a
    return SecondMoments(
        np.stack([(each**2).mean(0) for each in a]).astype(np.float32),
        np.full(n_matrices, 900, np.float32),
        np.stack([pack_correlations(spans_of(each.T @ each), n_cols) for each in kept]),
        np.full(len(kept), 900, np.float32),
    )


def write_moments(path: Path, shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> Path:
    save_moments(path, {n: moments_of(s, seed + i) for i, (n, s) in enumerate(shapes.items())})
    return path


def plan_of(folder: Path, text: str = RECIPE, moments: Path | None = None, imatrix: Imatrix | None = None) -> Plan:
    """Plan the usual model, which is made where it is not there."""
    model, recipe = folder / "model.gguf", folder / "r.yaml"
    if not model.exists():
        f16_model(model)
    recipe.write_text(text)
    fed = load_moments(moments) if moments else None
    return make_plan(load_recipe(recipe), read_header(model), imatrix, moments=fed)


def plan_of_every_type(folder: Path) -> Plan:
    """Plan ``TYPES``: two spans of columns, and more rows than lie side by side."""
    shapes = dict.fromkeys(TYPES, (512, 70))
    f16_model(folder / "model.gguf", shapes)
    head = RECIPE.replace("any", "ik_llama.cpp")
    rules = "".join(f"  - {{match: '^{name}$', type: {kind}}}\n" for name, kind in TYPES.items())
    imatrix = uniform_imatrix(folder / "i.dat", shapes)  # which some types will not be without
    return plan_of(folder, f"{head}rules:\n{rules}", write_moments(folder / "m.gguf", shapes), imatrix)


@pytest.fixture
def moments(tmp_path: Path) -> Path:
    """Moments of what stands in the blocks of the usual model."""
    return write_moments(tmp_path / "m.gguf", FED)


def test_bytes_are_those_of_quantize_from_every_executor(tmp_path: Path, moments: Path) -> None:
    plan = plan_of(tmp_path, moments=moments)
    assert {t.name for t in plan.tensors if t.feedback} == set(FED)
    found = set()
    for i, (executor, n) in enumerate((("serial", 1), ("threads", 3), ("processes", 2))):
        out = apply(plan, tmp_path / f"{i}.gguf", executor=executor, n_workers=n).paths[0]
        found.add(sha256_of(out))
    assert len(found) == 1
    data, header = (tmp_path / "0.gguf").read_bytes(), read_header(tmp_path / "0.gguf")
    there = {t.name: data[t.offset : t.offset + t.nbytes] for t in header.tensors}
    source = weights()
    for i, (name, shape) in enumerate(FED.items()):
        x = source[name].astype(np.float16).astype(np.float32).reshape(int(np.prod(shape[2:])), -1, shape[0])
        entry = moments_of(shape, i)
        for matrix, rows in enumerate(x):
            packed = quantize(rows, "Q4_0", entry.diag[matrix], moments=matrix_of(entry, matrix), feedback=Feedback())
            size = packed.nbytes
            assert there[name][matrix * size : (matrix + 1) * size] == packed.tobytes(), (name, matrix)


@pytest.mark.slow
def test_every_type_has_the_same_bytes_from_every_executor(tmp_path: Path) -> None:
    plan = plan_of_every_type(tmp_path)
    assert {t.name: t.type for t in plan.tensors if t.feedback} == TYPES
    found = set()
    for i, (executor, n) in enumerate((("serial", 1), ("threads", 3), ("processes", 2))):
        found.add(sha256_of(apply(plan, tmp_path / f"{i}.gguf", executor=executor, n_workers=n).paths[0]))
    assert len(found) == 1


@pytest.mark.slow
def test_bytes_do_not_depend_on_the_processor(tmp_path: Path) -> None:
    """Another process, whose kernels have none of this processor's instructions beyond the least.

    Each type compiles for ten seconds: one with a scale per block, with a minimum and halves per super-block, with two
    tables, and with a scale per row.
    """
    code = (
        "import hashlib; from tests.execute import test_feedback as t; from qxmix.quants.api import quantize;"
        "entry = t.moments_of((256, 40), 3); x = t.weights({'w': (256, 40)}, 2)['w']; m = t.matrix_of(entry, 0);"
        "names = 'Q4_0', 'Q2_K', 'IQ5_K', 'IQ2_KS';"
        "print(*(hashlib.sha256(quantize(x, name, moments=m).tobytes()).hexdigest() for name in names))"
    )
    generic = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **more}, check=True, capture_output=True, text=True
        ).stdout
        for more in ({}, generic)
    }
    assert len(found) == 1


def matrix_of(entry: SecondMoments, matrix: int) -> np.ndarray:
    """The (n_cols, n_cols) second moments that an entry stands for; zero between spans."""
    root = np.sqrt(entry.diag[matrix].astype(np.float64))
    found = np.identity(len(root))
    assert len(root) <= 256, "one span"
    rows, columns = np.tril_indices(len(root), -1)
    found[rows, columns] = found[columns, rows] = entry.correlations[matrix if len(entry.correlations) > 1 else 0]
    result: np.ndarray = found * root[:, None] * root
    return result


def test_experts_may_share_correlations(tmp_path: Path) -> None:
    """One correlation for all, scaled by each expert's own mean squares."""
    name = "blk.0.ffn_down_exps.weight"
    entry = moments_of(SHAPES[name], 5, shared=True)
    assert entry.correlations.shape == (1, packed_size(96))
    save_moments(tmp_path / "m.gguf", {name: entry})
    plan = plan_of(tmp_path, moments=tmp_path / "m.gguf")
    out = apply(plan, tmp_path / "o.gguf").paths[0]
    tensor = next(t for t in read_header(out).tensors if t.name == name)
    data = out.read_bytes()[tensor.offset : tensor.offset + tensor.nbytes]
    x = weights()[name].astype(np.float16).astype(np.float32)
    expected = [quantize(x[i], "Q4_0", entry.diag[i], moments=matrix_of(entry, i)).tobytes() for i in range(3)]
    assert data == b"".join(expected)


def test_a_matrix_is_factorized_once_per_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = {"blk.0.attn_q.weight": (64, 70000)}
    f16_model(tmp_path / "model.gguf", shapes)
    plan = plan_of(tmp_path, moments=write_moments(tmp_path / "m.gguf", shapes, seed=77))
    tasks = [t for t in make_tasks(plan, [tmp_path / "x"], Chunking(), "") if t.moments]
    assert len(tasks) > 2
    made: list[str] = []

    def make(*_arguments: object) -> tuple[str, int]:
        made.append("once")
        return "factors", -1

    monkeypatch.setattr("qxmix.execute.factors.make_factors", make)
    for task in tasks:
        assert task.moments
        factors_of(task.moments, task.importance)
    assert made == ["once"]


def test_an_entry_is_read_once_for_all_its_experts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = {"blk.0.ffn_down_exps.weight": (64, 8, 3), "blk.1.ffn_down_exps.weight": (64, 8, 2)}
    f16_model(tmp_path / "model.gguf", shapes)
    plan = plan_of(tmp_path, moments=write_moments(tmp_path / "m.gguf", shapes, seed=78))
    tasks = [t for t in make_tasks(plan, [tmp_path / "x"], Chunking(), "") if t.moments]
    read: list[str] = []

    def reading(path: str, name: str, entry: MomentsEntry) -> SecondMoments:
        read.append(name)
        return read_entry_of(path, name, entry)

    monkeypatch.setattr("qxmix.execute.factors.read_entry_of", reading)
    found = [factors_of(task.moments, task.importance) for task in tasks if task.moments]
    assert len(found) == 5
    assert read == list(shapes)


def test_a_block_is_checked_once(tmp_path: Path, moments: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is loaded: what a worker reads has the digest of what was checked, or is refused."""
    checked: list[int] = []

    def counted(m: NDArray[np.float64]) -> bool:
        checked.append(len(m))
        return True

    monkeypatch.setattr("qxmix.container.moments_check._have_factors", counted)
    plan = plan_of(tmp_path, moments=moments)
    n_blocks = len(checked)
    apply(plan, tmp_path / "out.gguf")
    assert len(checked) == n_blocks > 0


def test_moments_are_part_of_the_job(tmp_path: Path, moments: Path) -> None:
    """Other moments: another lock, another key, no resume; the same under another name: the same output."""
    plan = plan_of(tmp_path, moments=moments)
    other = plan_of(tmp_path, moments=write_moments(tmp_path / "other.gguf", FED, seed=9))
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(moments.read_bytes())
    same = plan_of(tmp_path, moments=copy)
    write_lock(plan, tmp_path / "lock")
    check_lock(same, tmp_path / "lock")
    with pytest.raises(PlanError, match="the moments' file is another one: its hash is"):
        check_lock(other, tmp_path / "lock")
    fed = next(t for t in plan.tensors if t.feedback)
    i = plan.tensors.index(fed)
    assert fed.feedback is not None
    damped = replace(fed, feedback=fed.feedback._replace(options=Feedback(0.02, 0.0)))
    keys = {
        tensor_key(plan, fed, "0"), tensor_key(other, other.tensors[i], "0"), tensor_key(plan, damped, "0"),
        tensor_key(plan, replace(fed, feedback=None), "0"),
    }  # fmt: skip
    assert len(keys) == 4
    assert tensor_key(same, same.tensors[i], "0") == tensor_key(plan, fed, "0")
    first = apply(plan, tmp_path / "1.gguf").paths[0]
    second = apply(same, tmp_path / "2.gguf").paths[0]
    assert first.read_bytes() == second.read_bytes()
    assert read_header(first).get("qxmix.moments.sha256") == plan.moments.sha256 if plan.moments else False
    assert b"m.gguf" not in first.read_bytes()
    assert apply(other, tmp_path / "3.gguf", reuse_output=first).n_reused == len(
        [t for t in plan.tensors if t.type == "Q4_0"]
    ) - len(FED)


def test_other_factors_of_the_same_moments_are_another_job(
    tmp_path: Path, moments: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path, moments=moments)
    fed = next(t for t in plan.tensors if t.feedback)
    plain = next(t for t in plan.tensors if t.action == "encode" and not t.feedback)
    before = [tensor_key(plan, t, "0") for t in (fed, plain)], kernels.versions(plan)
    for module in ("reuse", "kernels"):
        monkeypatch.setattr(f"qxmix.execute.{module}.FACTORS_VERSION", 99)
    after = [tensor_key(plan, t, "0") for t in (fed, plain)], kernels.versions(plan)
    assert [a == b for a, b in zip(before[0], after[0], strict=True)] == [False, True]
    assert before[1] != after[1] == before[1].rpartition(" ")[0] + " factors=99"


def test_an_interrupted_apply_does_not_go_on_with_other_moments(tmp_path: Path, moments: Path) -> None:
    out = tmp_path / "out.gguf"
    plan = plan_of(tmp_path, moments=moments)

    def stop(progress: Progress) -> None:
        if progress.phase == "work":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply(plan, out, on_progress=stop)
    other = plan_of(tmp_path, moments=write_moments(tmp_path / "other.gguf", FED, seed=9))
    with pytest.raises(RunError, match="moments: was "):
        apply(other, out, resume=True)
    apply(plan, out, overwrite=True)


def test_verify_wants_the_moments(tmp_path: Path, moments: Path) -> None:
    out = read_header(apply(plan_of(tmp_path, moments=moments), tmp_path / "o.gguf").paths[0])
    model = read_header(tmp_path / "model.gguf")
    assert not verify(out, model, moments=moments, every=True).problems
    with pytest.raises(
        ModelFileError, match=r"was made with moments whose SHA-256 starts with .*; give their file: --m"
    ):
        verify(out, model)
    other = write_moments(tmp_path / "other.gguf", FED, seed=9)
    with pytest.raises(ModelFileError, match="has other moments"):
        verify(out, model, moments=other)
    plain = read_header(apply(plan_of(tmp_path), tmp_path / "p.gguf").paths[0])
    with pytest.raises(ModelFileError, match="was not used for this output; leave out --moments"):
        verify(plain, model, moments=moments)


def test_a_file_that_changes_under_the_workers(tmp_path: Path, moments: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Factors of equal moments may be there already, of another test, and are right whatever the file has now.
    monkeypatch.setattr(factors, "_ready", OrderedDict())
    factors._checked.cache_clear()
    plan = plan_of(tmp_path, moments=moments)
    tasks = [t for t in make_tasks(plan, [tmp_path / "x"], Chunking(), "") if t.moments]
    write_moments(moments, FED, seed=31)
    assert tasks[0].moments
    with pytest.raises(RunError, match=r"the moments of blk\.0.attn_q.weight changed after the plan was made"):
        factors_of(tasks[0].moments, b"")


def problems_of(plan: Plan) -> dict[str, str]:
    return {p.id: f"{p.severity}: {p}" for p in plan.problems}


def test_what_a_plan_says_of_moments(tmp_path: Path, moments: Path) -> None:
    plain = "qxmix: 1\ntarget: any\nfallback: error\ndefault: q4_0\n"
    assert problems_of(plan_of(tmp_path))["moments-none"] == (
        "warning: no moments are given (--moments), so 5 tensors (token_embd.weight, blk.0.attn_q.weight, ...) are "
        "encoded without the feedback asked for")  # fmt: skip
    assert problems_of(plan_of(tmp_path, plain, moments))["moments-unused"] == (
        "warning: m.gguf: no rule asks for feedback, so the moments change nothing; write 'feedback: true' into the "
        "recipe")  # fmt: skip
    found = problems_of(plan_of(tmp_path, moments=moments))
    assert not any(key.startswith("moments") for key in found)  # embeddings and output are not asked for theirs
    part = write_moments(tmp_path / "part.gguf", {"blk.1.attn_q.weight": (256, 40)})
    assert problems_of(plan_of(tmp_path, moments=part))["moments-missing"] == (
        "warning: blk.0.attn_q.weight: the moments have nothing for blk.0.attn_q.weight and blk.0.ffn_down_exps.weight"
        ", encoded without the feedback asked for")  # fmt: skip
    shape = write_moments(tmp_path / "shape.gguf", {"blk.1.attn_q.weight": (128, 40)})
    assert problems_of(plan_of(tmp_path, moments=shape))["moments-shape"] == (
        "error: blk.1.attn_q.weight: the moments are of 1 matrices with 128 columns and the tensor has 1 with 256; "
        "give moments that were measured on this model")  # fmt: skip
    alien = write_moments(tmp_path / "alien.gguf", {**FED, "blk.9.attn_q.weight": (64, 64)})
    assert problems_of(plan_of(tmp_path, moments=alien))["moments-model"] == (
        "error: alien.gguf: has 1 of its 4 entries for tensors that this model does not have, like "
        "'blk.9.attn_q.weight'; give moments that were measured on this model")  # fmt: skip
    text = RECIPE + "rules: [{match: attn_q, type: mxfp4}]\n"
    assert problems_of(plan_of(tmp_path, text, moments))["feedback-type"] == (
        "note: blk.0.attn_q.weight: 'feedback' changes nothing: MXFP4 has none, and blk.0.attn_q.weight and "
        "blk.1.attn_q.weight are encoded without")  # fmt: skip


def test_symmetric_levels_have_no_feedback(tmp_path: Path, moments: Path) -> None:
    plan = plan_of(tmp_path, RECIPE + "rules: [{match: attn_q, type: q4_0, symmetric: true}]\n", moments)
    assert not any(t.feedback for t in plan.tensors if "attn_q" in t.name)
    assert any(t.feedback for t in plan.tensors)
    assert problems_of(plan)["feedback-type"] == (
        "note: blk.0.attn_q.weight: 'feedback' changes nothing: Q4_0 with symmetric levels has none, and "
        "blk.0.attn_q.weight and blk.1.attn_q.weight are encoded without")  # fmt: skip


def test_a_rule_decides_for_itself(tmp_path: Path, moments: Path) -> None:
    rules = "rules: [{match: 'blk.0.attn_q', type: q4_0, feedback: %s}]\n"
    options = {
        "false": None, "true": Feedback(), "{damp: 0.1}": Feedback(0.1), "{shrink: 0.4}": Feedback(shrink=0.4),
        "{damp: 0.5, shrink: auto}": Feedback(0.5),
    }  # fmt: skip
    for text, expected in options.items():
        plan = plan_of(tmp_path, RECIPE + rules % text, moments)
        first, other = (next(t for t in plan.tensors if t.name == f"blk.{i}.attn_q.weight").feedback for i in (0, 1))
        assert (first.options if first else None) == expected
        assert other is not None
        assert other.options == Feedback(shrink=0.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "yes please",
            "feedback: must be true or false or a mapping, not 'yes please'; for example feedback: {damp: 0.05",
        ),
        ("{dampen: 1}", "feedback: unknown key 'dampen'; did you mean 'damp'?"),
        ("{damp: 0}", "feedback.damp: must be more than 0, not 0"),
        ("{shrink: 2}", "feedback.shrink: must be at most 1, not 2"),
    ],
)
def test_errors_of_the_recipe(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"qxmix: 1\ntarget: any\nfallback: error\ndefault: q4_0\nfeedback: {text}\n")
    done = CliRunner().invoke(main, ["validate", str(path)])
    assert done.exit_code == 2
    assert said in done.output.replace(os.linesep, " ")


def test_the_commands(tmp_path: Path, moments: Path) -> None:
    model, recipe = str(f16_model(tmp_path / "model.gguf")), tmp_path / "r.yaml"
    recipe.write_text(RECIPE)
    run = CliRunner().invoke
    shown = json.loads(run(main, ["plan", str(recipe), model, "--moments", str(moments), "--json"]).output)
    assert shown["moments"]["sha256"] == load_moments(moments).sha256
    assert {t["name"] for t in shown["tensors"] if t["feedback"]} == set(FED)
    out = str(tmp_path / "o.gguf")
    done = run(main, ["apply", str(recipe), model, "--moments", str(moments), "-o", out])
    assert done.exit_code == 0, done.output
    done = run(main, ["verify", out, "--source", model, "--moments", str(moments)])
    assert done.exit_code == 0, done.output
    done = run(main, ["plan", str(recipe), model, "--moments", str(model)])
    assert done.exit_code == 1
    assert "is a model but no moments file" in done.output


def test_a_span_that_cannot_be_factorized(tmp_path: Path) -> None:
    """Three columns that are one and the same: fine with the default, and not with next to no damping."""
    name, n = "blk.0.attn_q.weight", 64
    f16_model(tmp_path / "model.gguf", {name: (n, 64)})
    ones = np.ones((1, packed_size(n)), np.float16)
    count = np.ones(1, np.float32)
    save_moments(tmp_path / "m.gguf", {name: SecondMoments(np.ones((1, n), np.float32), count, ones, count)})
    apply(plan_of(tmp_path, moments=tmp_path / "m.gguf"), tmp_path / "o.gguf")
    text = RECIPE.replace("shrink: 0", "shrink: 0, damp: 1.0e-300")
    with pytest.raises(
        ModelFileError, match=r"of columns 0 to 63 of blk.0.attn_q.weight are not positive definite with"
    ):
        apply(plan_of(tmp_path, text, tmp_path / "m.gguf"), tmp_path / "p.gguf")
