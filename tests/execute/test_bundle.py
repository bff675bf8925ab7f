"""One leaf for several outputs: read once, decoded once, each distinct encoding made once, the bytes as for one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from qxmix import quants
from qxmix.errors import ModelFileError, PlanError, RunError
from qxmix.execute import work
from qxmix.execute.tasks import make_bundles, make_tasks, reading_target, refuse_too_little_memory
from qxmix.plan import peak_nbytes
from qxmix.planning.memory import Chunking
from tests.execute.plans import f16_model, mixes_of, plan_for, uniform_imatrix, weights, write_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qxmix.execute.task import Bundle, Task
    from qxmix.plan import Plan
    from qxmix.quants.codec import Codec, Columns, Packed, Rows


@pytest.fixture
def plans(model: Path, tmp_path: Path) -> list[Plan]:
    """Four mixes, the second without an importance matrix."""
    return mixes_of(model, uniform_imatrix(tmp_path / "imatrix.dat"))


def tasks_of(plan: Plan, target: Path, chunking: Chunking) -> Iterator[Task]:
    return make_tasks(plan, [target], chunking, "run")


def make_all(plans: list[Plan], folder: Path, chunking: Chunking = Chunking(measure=True)) -> list[Bundle]:  # noqa: B008
    targets = [folder / f"{i}.gguf" for i in range(len(plans))]
    for plan, target in zip(plans, targets, strict=True):
        target.write_bytes(bytes(plan.file_nbytes))
    streams = [tasks_of(plan, target, chunking) for plan, target in zip(plans, targets, strict=True)]
    return list(make_bundles(plans, streams, chunking))


def test_bytes_and_results_are_those_of_single_tasks(plans: list[Plan], tmp_path: Path) -> None:
    together, alone = tmp_path / "together", tmp_path / "alone"
    together.mkdir()
    alone.mkdir()
    found = [result for bundle in make_all(plans, together) for result in work.run_bundle(bundle)]
    make_all(plans, alone)
    chunking = Chunking(measure=True)
    streams = [tasks_of(plan, alone / f"{i}.gguf", chunking) for i, plan in enumerate(plans)]
    expected = [work.run_task(task) for bundle in zip(*streams, strict=True) for task in bundle]
    assert found == expected
    assert any(r.deviation for r in found)
    for i in range(len(plans)):
        assert (together / f"{i}.gguf").read_bytes() == (alone / f"{i}.gguf").read_bytes()


def test_each_byte_is_read_and_decoded_once_and_each_distinct_encoding_made_once(
    plans: list[Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Counter[str] = Counter()
    decoded: Counter[str] = Counter()
    encoded: Counter[tuple[str, int]] = Counter()
    read_into, codec_of = work._read, quants.codec_of

    def counting_read(task: Task, source: object, buffer: memoryview) -> None:
        read[task.name] += len(buffer)
        read_into(task, source, buffer)  # type: ignore[arg-type]

    def counting_codec(name: str) -> Codec:
        codec = codec_of(name)

        def decode(packed: Packed, rows: Rows) -> None:
            decoded[name] += rows.size
            codec.decode(packed, rows)

        def encode(rows: Rows, columns: Columns, packed: Packed, search: int) -> None:
            encoded[name, len(columns)] += rows.size
            codec.encode(rows, columns, packed, search)

        return replace(codec, decode=decode, encode=encode)

    bundles = make_all(plans, tmp_path, Chunking())
    monkeypatch.setattr(work, "_read", counting_read)
    monkeypatch.setattr(quants, "codec_of", counting_codec)
    for bundle in bundles:
        work.run_bundle(bundle)
    assert read == {t.name: t.source.nbytes for t in plans[0].tensors}
    distinct = {(t.name, t.type, t.importance) for plan in plans for t in plan.tensors if t.action == "encode"}
    n_weights = {t.name: t.source.n_weights for t in plans[0].tensors}
    assert sum(encoded.values()) == sum(n_weights[name] for name, _, _ in distinct)
    assert decoded == {"F16": sum(n_weights[name] for name in {name for name, _, _ in distinct})}


def test_steps_are_whole_row_groups_of_all_types(tmp_path: Path) -> None:
    """A step under a bound on memory is the least that the widest interleaved type of the bundle allows."""
    row = 1 << 18
    plain = plan_for(f16_model(tmp_path / "m.gguf", {"blk.0.attn_q.weight": (row, 16)}), {}, "Q8_0")
    packed = plan_for(tmp_path / "m.gguf", {}, "Q8_0_R8")
    least = peak_nbytes(packed, Chunking(), beside=[plain])
    assert least == peak_nbytes(packed, Chunking())
    assert least > peak_nbytes(plain, Chunking()) + 5 * 4 * row
    refuse_too_little_memory([plain, packed], Chunking(least, 1))
    with pytest.raises(PlanError, match=r"blk\.0\.attn_q\.weight needs .* raise --memory or use fewer workers"):
        refuse_too_little_memory([plain, packed], Chunking(least - 1, 1))
    refuse_too_little_memory([plain], Chunking(least - 1, 1))
    steps = {task.step_rows for bundle in make_all([plain, packed], tmp_path, Chunking()) for task in bundle}
    assert steps == {8}


def test_a_weight_that_is_not_finite_is_refused_for_whoever_encodes_it(tmp_path: Path) -> None:
    data = weights()
    data["output.weight"][3, 5] = float("nan")
    model = write_model(tmp_path / "bad.gguf", data)
    kept, encoded = plan_for(model, {}, "keep"), plan_for(model, {})
    for bundle in make_all([kept, encoded], tmp_path, Chunking()):
        if bundle[0].name == "output.weight":
            with pytest.raises(ModelFileError, match=r"row 3, column 5 is nan .* a Q4_0 tensor cannot hold it"):
                work.run_bundle(bundle)


def test_a_write_that_fails_names_the_file(plans: list[Plan], tmp_path: Path) -> None:
    bundle = make_all(plans, tmp_path, Chunking())[0]
    (tmp_path / "2.gguf").unlink()
    (tmp_path / "2.gguf").symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"2\.gguf: no space left"):
        work.run_bundle(bundle)


def test_leaves_of_one_file_are_hashed_together(plans: list[Plan], tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    target.write_bytes(bytes(range(256)) * (plans[0].file_nbytes // 256 + 1))
    tasks = tuple(reading_target(task, n_rows=0) for task in tasks_of(plans[0], target, Chunking()))
    found = work.run_bundle(tasks)
    assert found == tuple(map(work.run_task, tasks))
    assert len({result.digest for result in found}) > 1
    first, last = tasks[0], tasks[-1]
    target.write_bytes(target.read_bytes()[: last.source_offset + 1])
    with pytest.raises(RunError, match=f"ends inside tensor {last.name}"):
        work.run_bundle((first, last))
