"""Predictions from a measurement: losses of tensors, calibration on whole recipes, where a plan's loss comes from."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import jsonschema
import pytest
from click.testing import CliRunner

from qxmix.cli.main import main
from qxmix.measurement.file import save_measurement
from qxmix.measurement.model import MeasuredTensor, Sensitivity
from qxmix.plan import Split, make_plan
from qxmix.recipe.load import load_recipe_text
from qxmix.report.predicted import predicted_of
from qxmix.resources import data_dir
from qxmix.solve.attribute import attribute
from qxmix.solve.base import unruled
from qxmix.solve.calibrate import UNCALIBRATED, calibrate
from qxmix.solve.make import solve_recipe
from qxmix.solve.predict import predictor_of
from qxmix.solve.prior import load_prior
from qxmix.solve.request import Budget, Limits, Request
from qxmix.solve.worth import worth
from tests.planning.models import Model, header, write, write_imatrix
from tests.planning.zoo import dense
from tests.solve.measured import TYPES, measurement_of

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "qxmix: 1\nname: mine\ntarget: any\nfallback: error\n"


def small() -> Model:
    return dense("llama", 6, 512, 1024, 8, 2, head=64, n_vocab=2048)


@pytest.mark.parametrize(("gain", "slope"), [(1.0, 1.0), (2.5, 1.0), (0.6, 0.8), (3.0, 1.3)])
def test_calibration_finds_the_law_of_the_recipes(gain: float, slope: float) -> None:
    sums = [0.01, 0.03, 0.1, 0.5]
    found = calibrate(sums, [gain * s**slope for s in sums])
    assert (found.gain, found.slope) == pytest.approx((gain, slope))
    value, low, high = found.of(0.05)
    assert value == pytest.approx(gain * 0.05**slope)
    assert low < value < high


def test_one_recipe_tells_the_gain_and_little_of_how_far_it_holds() -> None:
    found = calibrate([0.1], [0.2])
    assert (found.gain, found.slope) == pytest.approx((2.0, 1.0))
    assert found.spread > 0.1
    assert calibrate([], []) == UNCALIBRATED


def test_a_wild_slope_of_noisy_points_is_bounded() -> None:
    assert calibrate([0.10, 0.11, 0.12], [0.1, 0.4, 0.9]).slope <= 1.6


def test_the_loss_of_a_plan_is_the_sum_that_was_measured() -> None:
    model = small()
    measurement = measurement_of(model, gain=2.0)
    predictor = predictor_of(header(model), measurement)
    plan = make_plan(load_recipe_text(HEAD + "default: q5_0\n", "mine"), header(model))
    found = attribute(plan, predictor)
    expected = sum(
        t.sensitivity.value * trial.error
        for t in measurement.tensors
        for trial in t.trials
        if t.sensitivity and trial.type == "Q5_0"
    )
    assert found.loss == pytest.approx(expected)
    assert found.predicted.value == pytest.approx(2.0 * expected, rel=0.02)
    assert sum(p.share for p in found.tensors) == pytest.approx(1)
    assert sum(p.share for p in found.categories) == pytest.approx(1)
    assert not found.unknown


def test_types_that_were_not_measured_are_estimated_from_those_that_were() -> None:
    model = small()
    predictor = predictor_of(header(model), measurement_of(model))
    name = "blk.0.ffn_down.weight"
    losses = [predictor.loss(name, kind) for kind in ("Q4_K", "Q4_0", "Q3_K")]
    assert None not in losses
    assert losses[0] < losses[1] < losses[2]  # type: ignore[operator]


def test_a_type_that_was_not_measured_is_called_a_guess_within_twice_as_much() -> None:
    model = small()
    measurement = measurement_of(model)
    assert "Q4_0" not in TYPES
    rules = "default: q5_0\nrules:\n  - {category: ffn_down, type: q4_0}\n"
    plan = make_plan(load_recipe_text(HEAD + rules, "mine"), header(model))
    predictor = predictor_of(header(model), measurement)
    found = attribute(plan, predictor)
    names = [t.name for t in plan.tensors if "ffn_down" in t.name]
    assert list(found.guessed) == names
    guessed = sum(predictor.loss(n, "Q4_0") or 0.0 for n in names)
    value, low, high = predictor.calibration.of(found.loss)
    assert found.predicted.value == value
    assert found.predicted.high == pytest.approx(high * (found.loss + guessed) / found.loss, rel=0.05)
    assert found.predicted.low == pytest.approx(low * (found.loss - guessed / 2) / found.loss, rel=0.05)
    shown = predicted_of(plan, measurement)
    assert f"A guess for 6 tensors, like {names[0]}: their types were not measured" in shown.as_text()
    assert shown.as_json()["guessed"] == names
    measured = attribute(make_plan(load_recipe_text(HEAD + "default: q5_0\n", "mine"), header(model)), predictor)
    assert not measured.guessed


def test_without_sensitivities_it_is_called_a_guess() -> None:
    model = small()
    assert predictor_of(header(model), measurement_of(model, sensitive=False)).basis == "errors"
    assert predictor_of(header(model), measurement_of(model)).basis == "measured"
    assert predictor_of(header(model), None).basis == "guess"


def test_solved_recipes_beat_pure_ones_of_their_size() -> None:
    model = small()
    head = header(model)
    predictor = predictor_of(head, measurement_of(model))
    for kind in ("q4_k", "q5_0", "q6_k"):
        pure = make_plan(load_recipe_text(HEAD + f"default: {kind}\n", "pure"), head)
        asked = Request(head, None, unruled("any"), Budget(pure.file_nbytes), TYPES, Limits(), Split(), "solved")
        solved = solve_recipe(asked, predictor, ())
        assert solved.plan.file_nbytes <= pure.file_nbytes
        assert solved.loss < 0.8 * attribute(pure, predictor).loss
        assert attribute(solved.plan, predictor).loss == pytest.approx(solved.loss)
        assert "GUESS" not in solved.text
        # What is best leaves nothing to name.
        assert not worth(solved.plan, predictor, TYPES)


def test_rules_that_buy_little_and_cost_much_are_named() -> None:
    model = small()
    predictor = predictor_of(header(model), measurement_of(model))
    shares = {p.name: p.share for p in attribute(make_plan(unruled("any"), header(model)), predictor).tensors}
    names = [n for n in shares if "ffn_up" in n]
    poor, rich = (f"  - {{match: '^{n}$', type: {t}}}\n" for n, t in ((names[0], "q3_k"), (names[-1], "q8_0")))
    rules = f"default: q5_k\nrules:\n{poor}{rich}"
    plan = make_plan(load_recipe_text(HEAD + rules, "mine"), header(model))
    found = {(str(p.where), p.id) for p in worth(plan, predictor, TYPES)}
    assert ("mine:7: rules[0]", "rule-costs-much") in found
    assert ("mine:8: rules[1]", "rule-buys-little") in found
    silenced = rules.replace("type: q3_k", "type: q3_k, silence: {rule-costs-much: wanted}")
    plan = make_plan(load_recipe_text(HEAD + silenced, "mine"), header(model))
    assert "rule-costs-much" not in {p.id for p in worth(plan, predictor, TYPES)}


def test_plan_and_lint_take_a_measurement(tmp_path: Path) -> None:
    model = small()
    path, measured, recipe = write(model, tmp_path / "m.gguf"), tmp_path / "m.json", tmp_path / "r.yaml"
    save_measurement(measurement_of(model), measured)
    recipe.write_text(HEAD + "default: q5_k\nrules:\n  - {match: '^blk.5.ffn_up', type: q8_0}\n")
    run = CliRunner().invoke
    shown = run(main, ["plan", str(recipe), str(path), "--measure", str(measured)])
    assert shown.exit_code == 0, shown.output
    assert "Predicted divergence" in shown.stdout
    assert "ffn_down" in shown.stdout
    content = json.loads(run(main, ["plan", str(recipe), str(path), "--measure", str(measured), "--json"]).stdout)
    jsonschema.validate(content, json.loads((data_dir("schemas") / "plan.schema.json").read_text()))
    assert content["predicted"]["low"] < content["predicted"]["value"] < content["predicted"]["high"]
    linted = run(main, ["lint", str(recipe), str(path), "--measure", str(measured)])
    assert "[rule-buys-little]" in linted.stdout
    solved = run(main, ["solve", str(path), "-m", str(measured), "--bpw", "5"])
    assert solved.exit_code == 0
    assert "m.json of made up" in solved.stdout


def test_a_measurement_of_another_model_is_refused(tmp_path: Path) -> None:
    path, measured = write(small(), tmp_path / "m.gguf"), tmp_path / "m.json"
    save_measurement(measurement_of(dense("llama", 5, 512, 1024, 8, 2, head=64)), measured)
    refused = CliRunner().invoke(main, ["solve", str(path), "-m", str(measured), "--bpw", "5"])
    assert refused.exit_code == 1
    assert "of another model (made up" in refused.output


def test_between_measured_layers_a_type_loses_alike_whatever_its_relative_error() -> None:
    """One huge column makes all errors of a tensor small; its sensitivity is then as much larger."""
    model = small()
    measurement = measurement_of(model)
    name = "blk.3.ffn_down.weight"

    def changed(tensor: MeasuredTensor) -> MeasuredTensor:
        if "ffn_down" not in tensor.name:
            return tensor
        measured = tensor.name != name
        scale = 1.0 if measured else 0.05
        trials = tuple(t._replace(error=scale * (load_prior().error(t.type) or 1.0)) for t in tensor.trials)
        return tensor._replace(trials=trials, sensitivity=Sensitivity(0.1, 0.0, "measured" if measured else "filled"))

    found = predictor_of(header(model), replace(measurement, tensors=tuple(map(changed, measurement.tensors))))
    assert found.loss(name, "Q4_K") == pytest.approx(found.loss("blk.2.ffn_down.weight", "Q4_K"))
    assert found.sensitivities[name] == pytest.approx(2.0)


def test_solve_writes_no_recipe_that_apply_would_refuse(tmp_path: Path) -> None:
    model, other = small(), dense("llama", 6, 256, 512, 4, 2, head=64, n_vocab=2048)
    path, matrix, out = write(model, tmp_path / "m.gguf"), write_imatrix(other, tmp_path / "i.dat"), tmp_path / "r.yaml"
    done = CliRunner().invoke(main, ["solve", str(path), "--bpw", "5", "--imatrix", str(matrix), "-o", str(out)])
    assert done.exit_code == 3
    assert "is another model's: of its entries" in done.stderr
    assert not out.exists()


def test_layers_that_draft_are_no_last_layers() -> None:
    model = small()
    drafting = replace(model, shapes={**model.shapes, "blk.5.nextn.eh_proj.weight": (1024, 512)})
    plain, with_drafts = (predictor_of(header(m), None).sensitivities for m in (model, drafting))
    at = "blk.{}.ffn_down.weight".format
    assert with_drafts[at(4)] > plain[at(4)]  # the last of five layers, and not the fifth of six
    assert with_drafts[at(5)] < 0.2 * with_drafts[at(4)]
