"""``qxmix solve`` as a command, on the demo's model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from qxmix.cli.main import main
from qxmix.plan import make_plan
from qxmix.recipe import load_recipe
from qxmix.solve.attribute import attribute
from qxmix.solve.predict import predictor_of

if TYPE_CHECKING:
    from pathlib import Path

import qxmix


def run(*args: object) -> Result:
    return CliRunner().invoke(main, ["solve", *map(str, args)], prog_name="qxmix")


def test_a_recipe_within_the_size(demo_model: Path, demo_imatrix: Path, tmp_path: Path) -> None:
    output = tmp_path / "small.yaml"
    done = run(demo_model, "--size", "1.2MB", "--imatrix", demo_imatrix, "-o", output)
    assert done.exit_code == 0, done.output
    assert "a guess: nothing of this model was measured" in done.stdout
    recipe = load_recipe(output)
    plan = make_plan(recipe, qxmix.read_header(demo_model), qxmix.load_imatrix(demo_imatrix))
    assert recipe.name == "small"
    assert plan.file_nbytes <= 1_200_000
    assert "Predicted divergence" in recipe.text
    # What was typed may name folders of this machine, which are nobody's business in the output's metadata.
    assert str(tmp_path) not in recipe.text
    again = run(demo_model, "--size", "1.2MB", "--imatrix", demo_imatrix, "-o", output, "--overwrite")
    assert again.exit_code == 0
    assert load_recipe(output).text == recipe.text


def test_without_a_file_the_recipe_is_all_that_standard_output_gets(demo_model: Path, tmp_path: Path) -> None:
    done = run(demo_model, "--bpw", "5", "--target", "ik_llama.cpp")
    assert done.exit_code == 0
    path = tmp_path / "out.yaml"
    path.write_text(done.stdout)
    assert load_recipe(path).target == "ik_llama.cpp"
    assert "Bits/weight" in done.stderr


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e400"])
def test_a_number_of_bits_is_finite(number: str, demo_model: Path) -> None:
    done = run(demo_model, "--bpw", number)
    assert done.exit_code == 2
    assert "Invalid value for '--bpw': " in done.stderr


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--floor", "attn_z=q5_0", "--floor attn_z: selects no tensor of this model; did you mean 'attn_v'?"),
        ("--ceiling", "exps$=q5_0", "--ceiling exps$: selects no tensor of this model"),
        ("--ban", "attn_kv_b=q2_k,q3_k", "--ban attn_kv_b: selects no tensor of this model"),
        ("--budget", "exps=1GB", "--budget exps: selects no tensor of this model"),
    ],
)
def test_what_selects_no_tensor_is_told(option: str, value: str, told: str, demo_model: Path) -> None:
    done = run(demo_model, "--bpw", "5", option, value)
    assert done.exit_code == 0
    assert f"Warning: {told}\n" in done.stderr
    assert (
        "Warning"
        not in run(demo_model, "--bpw", "5", option, value.replace(value.split("=", maxsplit=1)[0], "attn_v")).stderr
    )


def test_the_curve_falls(demo_model: Path) -> None:
    done = run(demo_model, "--curve")
    assert done.exit_code == 0
    rows = [line.split() for line in done.stdout.splitlines()[1:] if line[:1].isdigit()]
    nbytes = [int(row[0].replace(",", "")) for row in rows]
    assert len(rows) > 5
    assert nbytes == sorted(nbytes)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ((), "say how large it may be"),
        (("--size", "1MB", "--floor", "attn_v=q9_k"), "'q9_k' is no type that a file is written in"),
        (("--size", "1MB", "--types", "q4_k,zz"), "--types: 'zz' is no type"),
        (("--size", "1MB", "--types", "iq4_k", "--target", "llama.cpp"), "IQ4_K is unknown to llama.cpp"),
        (("--budget", "exps=5MB"), "say how large it may be"),
        (("--budget", "exps=5"), "'exps=5': 5 is 5 bytes; did you mean 5GiB?"),
        (("--budget", "exps=xx"), "'xx' is no size"),
        (("--size", "1MB", "--tie", "gate"), "'gate' is none of"),
        (("--size", "1MB", "--ban", "(=q4_k"), "is not a regular expression"),
    ],
)
def test_usage(demo_model: Path, args: tuple[str, ...], told: str) -> None:
    done = run(demo_model, *args)
    assert done.exit_code == 2
    assert told in done.output


def test_too_small(demo_model: Path) -> None:
    done = run(demo_model, "--size", "100kB")
    assert done.exit_code == 3
    assert "the smallest choice has" in done.output


def test_random_recipes_of_the_same_size(demo_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "best.yaml"
    done = run(demo_model, "--size", "1.3MB", "-o", output, "--against", "random:3")
    assert done.exit_code == 0, done.output
    header = qxmix.read_header(demo_model)
    predictor = predictor_of(header, None)
    plans = [make_plan(load_recipe(p), header) for p in (output, *sorted(tmp_path.glob("best-random-?.yaml")))]
    assert len(plans) == 4
    assert len({tuple(t.type for t in plan.tensors) for plan in plans}) == 4
    best, *others = (attribute(plan, predictor).loss for plan in plans)
    assert best < min(others)
    assert all(0.99 * 1_300_000 <= plan.file_nbytes <= 1_300_000 for plan in plans)
    assert run(demo_model, "--size", "1.3MB", "--against", "random:3").exit_code == 2
    assert run(demo_model, "--size", "1.3MB", "-o", tmp_path / "b.yaml", "--against", "hand:3").exit_code == 2
