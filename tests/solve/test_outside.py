"""Other tools' measurements: what is taken over, and what is not believed."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner

from qxmix.cli.main import main
from qxmix.errors import ModelFileError
from qxmix.quants import get
from qxmix.solve.outside import MAGIC, is_outside, read_outside
from qxmix.solve.predict import predictor_from
from qxmix.solve.prior import load_prior
from tests.planning.models import Model, header, write
from tests.planning.zoo import dense

if TYPE_CHECKING:
    from pathlib import Path

KINDS = ("Q3_K", "Q4_K", "Q5_K")


def small() -> Model:
    return dense("llama", 4, 512, 1024, 8, 2, head=64, n_vocab=2048)


def names() -> list[str]:
    return [n for n, s in small().shapes.items() if len(s) > 1]


def truth() -> dict[str, float]:
    rng = np.random.default_rng(3)
    return {name: float(10 ** rng.uniform(-2, 0)) for name in names()}


def figures(*, floor: float = 0.0) -> dict[str, list[float]]:
    return {kind: [s * (load_prior().error(kind) or 0) + floor for s in truth().values()] for kind in KINDS}


def table(path: Path, rows: dict[str, list[float]], columns: list[str] | None = None) -> Path:
    lines = [",".join(["QTYPE", *(columns or names())])]
    lines += [",".join([kind.lower(), *(f"{value:.9f}" for value in values)]) for kind, values in rows.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


def error_file(path: Path, scale: float = 1.0) -> Path:
    data = MAGIC + struct.pack("<QQ", 7, len(names()))
    for i, name in enumerate(names()):
        data += struct.pack("<I", len(name)) + name.encode() + struct.pack("<QiffQ", len(KINDS), 0, 3.0, 6.0, 512)
        for kind, values in figures().items():
            data += struct.pack("<ifQd", get(kind).id, get(kind).bpw, 1024, scale * values[i])
    path.write_bytes(data)
    return path


def told(path: Path) -> str:
    return "\n".join(map(str, read_outside(path).problems))


def test_a_table_gives_its_sensitivities(tmp_path: Path) -> None:
    path = table(tmp_path / "kld_results.csv", figures())
    assert is_outside(path)
    found = read_outside(path)
    assert not found.problems
    predictor = predictor_from(header(small()), found)
    assert predictor.basis == "outside"
    for name, value in truth().items():
        assert predictor.sensitivities[name] == pytest.approx(value, rel=1e-3)


def test_an_error_file_gives_its_errors_as_they_stand(tmp_path: Path) -> None:
    path = error_file(tmp_path / "m.bpw_state", scale=1e4)
    assert is_outside(path)
    predictor = predictor_from(header(small()), read_outside(path))
    assert predictor.unit != "nats per token"
    for i, name in enumerate(names()):
        assert predictor.loss(name, "Q4_K") == pytest.approx(1e4 * figures()["Q4_K"][i])
        # A type that is not in it is estimated in the same scale.
        assert predictor.loss(name, "Q6_K") == pytest.approx(
            1e4 * truth()[name] * (load_prior().error("Q6_K") or 0), rel=0.01
        )


def test_what_was_not_measured_takes_what_is_usual(tmp_path: Path) -> None:
    rows = figures()
    for values in rows.values():
        values[2], values[5] = 404, 0.0
    path = table(tmp_path / "t.csv", rows)
    assert "2 of 30 tensors were not measured, or are zero" in told(path)
    predictor = predictor_from(header(small()), read_outside(path))
    assert predictor.sensitivities[names()[2]] not in (0.0, 404)
    assert predictor.sensitivities[names()[3]] == pytest.approx(truth()[names()[3]], rel=1e-3)


def test_noise_that_all_have_is_taken_off(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", figures(floor=0.02))
    assert "of the median, mostly noise; 95 % of it is taken off all" in told(path)
    found = predictor_from(header(small()), read_outside(path)).sensitivities
    order = sorted(names(), key=lambda n: truth()[n])
    assert found[order[-1]] > 3 * found[order[0]]


def test_a_larger_type_that_is_worse_is_left_out(tmp_path: Path) -> None:
    rows = figures()
    rows["Q5_K"] = [2 * value for value in rows["Q3_K"]]
    path = table(tmp_path / "t.csv", rows)
    assert "Q5_K is left out: larger than" in told(path)
    assert all("Q5_K" not in by_type for by_type in read_outside(path).losses.values())


def test_rows_that_nobody_knows_are_told(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", figures() | {"Q9_X": [1.0] * len(names())})
    assert "line 5 is left out: a type that nobody knows" in told(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("QTYPE,group0\nq4_k,0.1\n", "is of the whole model in one type"),
        ("QTYPE,a.weight\nq4_k,abc\n", "line 2: 'abc' is no number"),
        ("QTYPE,a.weight\nq4_k,0\n", "no figure that can be believed"),
        ("QTYPE,a.weight\n", "no figure that can be believed"),
    ],
)
def test_tables_that_are_of_no_use(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ModelFileError, match=expected):
        read_outside(path)


def test_an_error_file_that_was_cut_off(tmp_path: Path) -> None:
    path = error_file(tmp_path / "m.bpw_state")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ModelFileError, match="is damaged at byte"):
        read_outside(path)


def test_of_another_model(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", figures(), [f"other.{n}" for n in names()])
    with pytest.raises(ModelFileError, match="is it of another model"):
        predictor_from(header(small()), read_outside(path))


def test_solve_takes_a_table_and_says_so(tmp_path: Path) -> None:
    model = write(small(), tmp_path / "m.gguf")
    path = table(tmp_path / "kld_results.csv", figures(floor=0.02))
    done = CliRunner().invoke(main, ["solve", str(model), "-m", str(path), "--bpw", "5"])
    assert done.exit_code == 0, done.output
    assert "GUESS: sensitivities are another tool's figures" in done.stdout
    assert "mostly noise" in done.stderr
