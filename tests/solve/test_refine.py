"""Swaps at constant size: what is proposed, and what a paired test keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner

import qxmix
from qxmix.cli.main import main
from qxmix.measure.score import Passage
from qxmix.plan import Split
from qxmix.solve.base import unruled
from qxmix.solve.make import solve_recipe
from qxmix.solve.model import Item, Option, undominated
from qxmix.solve.predict import predictor_of
from qxmix.solve.refine import is_better, refine, swaps
from qxmix.solve.refined import refine_recipe
from qxmix.solve.request import Budget, Limits, Request
from qxmix.solve.stage import ResidentStage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

TYPES = ("Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "Q5_0", "IQ4_NL")


def items(n: int = 6) -> list[Item]:
    """Of equal predicted loss, three options each."""
    options = undominated([Option(t, size, loss) for t, size, loss in (("A", 10, 4.0), ("B", 20, 1.0), ("C", 30, 0.2))])
    return [Item((f"t{i}",), options) for i in range(n)]


class Truth:
    """A model whose tensors lose otherwise than predicted: weights of their own, and noise at each position."""

    def __init__(self, of: list[Item], weights: list[float], n: int = 400) -> None:
        rng = np.random.default_rng(4)
        self.of = {name: item for item in of for name in item.names}
        self.types = dict.fromkeys(self.of, "B")
        self.weights = dict(zip(self.of, weights, strict=True))
        self.noise = {name: rng.normal(1, 0.3, n) for name in self.of}
        self.n_calls = 0

    def losses(self, types: Mapping[str, str]) -> NDArray[np.float64]:
        self.n_calls += 1
        now = self.types | dict(types)
        loss = {name: next(o.loss for o in item.options if o.type == now[name]) for name, item in self.of.items()}
        return sum((self.weights[n] * loss[n] * self.noise[n] for n in self.of), np.zeros(400))

    def settle(self, types: Mapping[str, str]) -> None:
        self.types |= types


def test_swaps_keep_the_size_and_are_ranked() -> None:
    of = items()
    found = swaps(of, tuple(i.options[1] for i in of))
    assert found
    assert all(s.nbytes <= 0 for s in found)
    assert [s.promise for s in found] == sorted((s.promise for s in found), reverse=True)


def test_what_the_stage_does_not_show_counts() -> None:
    of = items()
    start = tuple(i.options[1] for i in of)

    def run(hidden: float) -> tuple[Option, ...]:
        truth = Truth(of, [100, 1, 1, 1, 1, 0.01])
        return refine(
            of, start, truth, n_tries=40, fits=lambda chosen: sum(o.nbytes for o in chosen) <= 120,
            unseen=lambda name, kind: hidden * (name == "t0" and kind == "C"),
        ).chosen  # fmt: skip

    assert run(0)[0].type == "C"
    assert run(200)[0].type == "B"  # it saves 80


def test_a_tensor_that_matters_more_than_predicted_gets_more() -> None:
    of = items()
    truth = Truth(of, [100, 1, 1, 1, 1, 0.01])
    start = tuple(i.options[1] for i in of)
    found = refine(of, start, truth, n_tries=40, fits=lambda chosen: sum(o.nbytes for o in chosen) <= 120)
    assert found.n_kept >= 1
    assert found.after < found.before
    assert found.chosen[0].type == "C"
    assert sum(o.nbytes for o in found.chosen) <= 120
    # What it says is in the model is what it returns.
    assert [truth.types[f"t{i}"] for i in range(6)] == [o.type for o in found.chosen]
    assert float(truth.losses({}).mean()) == found.after


def test_where_the_prediction_is_right_nothing_is_kept() -> None:
    of = items()
    truth = Truth(of, [1.0] * 6)
    start = tuple(i.options[1] for i in of)
    found = refine(of, start, truth, n_tries=10, fits=lambda _: True)
    assert found.n_kept == 0
    assert found.chosen == start
    assert found.after == found.before
    assert found.n_tried == 10 == truth.n_calls - 1


def test_nothing_that_does_not_fit_is_tried() -> None:
    of = items()
    truth = Truth(of, [1.0] * 6)
    found = refine(of, tuple(i.options[1] for i in of), truth, n_tries=10, fits=lambda _: False)
    assert found.n_tried == 0


def test_chance_alone_is_no_improvement() -> None:
    rng = np.random.default_rng(0)
    kept = sum(is_better(rng.normal(0, 1, 500)) for _ in range(1000))
    assert kept < 25
    assert is_better(rng.normal(-0.3, 1, 500))
    assert not is_better(np.array([-1.0]))


def test_in_the_engine_what_is_written_is_what_was_tried(
    demo_model: Path, demo_imatrix: Path, demo_text: bytes
) -> None:
    """The divergence that the stage had at the end is that of the recipe, tried from the start in another one."""
    header, imatrix = qxmix.read_header(demo_model), qxmix.load_imatrix(demo_imatrix)
    passage = Passage(demo_text, 64, 0, 2, 64, 1)
    asked = Request(header, imatrix, unruled("any"), Budget(1_300_000), TYPES, Limits(), Split(), "test")
    solved = solve_recipe(asked, predictor_of(header, None), ())
    found, tried = refine_recipe(solved, (), passage, 12, lambda _done, _total: None)
    assert found.plan.file_nbytes <= 1_300_000
    assert tried.after <= tried.before
    assert tried.n_kept == 0 or "swaps kept" in found.text
    with ResidentStage(header, imatrix, passage, ("llama.cpp", "ik_llama.cpp")) as stage:
        stage.run_base()
        stage.settle({t.name: t.type for t in found.plan.tensors if t.action == "encode"})
        assert float(stage.losses({}).mean()) == pytest.approx(tried.after, rel=1e-6)


def test_what_is_swapped_in_hears_of_an_interrupt(demo_model: Path, demo_text: bytes) -> None:
    """Else it would ask the engine to put it back, whose answer to an earlier question is only half read."""
    passage = Passage(demo_text, 64, 0, 2, 64, 1)
    stage, heard = ResidentStage(qxmix.read_header(demo_model), None, passage, ()), []
    with stage._stack as stack:
        stack.push(lambda kind, _error, _trace: heard.append(kind))
        stage.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert heard == [KeyboardInterrupt]


@pytest.mark.parametrize("bound", ["--size 1.3MB", "--size 1.3MB --ctx 512 --vram 16MiB --ram 16MiB"])
def test_the_command(bound: str, demo_model: Path, demo_text: bytes, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes(demo_text)
    args = ["solve", str(demo_model), *bound.split(), "-o", str(tmp_path / "r.yaml"), "--refine", "2"]
    done = CliRunner().invoke(main, [*args, "--text", str(text), "--chunks", "1", "--text-ctx", "64"])
    assert done.exit_code == 0, done.output
    assert "swaps kept" in done.stderr
    assert CliRunner().invoke(main, ["plan", str(tmp_path / "r.yaml"), str(demo_model)]).exit_code == 0
    assert CliRunner().invoke(main, [*args, "--overwrite"]).exit_code == 2
