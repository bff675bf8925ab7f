"""What commands print with ``--json``, held to their schemas: every command that has it, on good input and on bad."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from click.testing import CliRunner
from referencing import Registry, Resource

from qxmix.cli.main import main
from qxmix.resources import data_dir
from tests.cli.test_json_errors import with_json

if TYPE_CHECKING:
    from pathlib import Path

SCHEMAS = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in data_dir("schemas").glob("*.json")}
REGISTRY: Registry[Any] = Registry().with_resources((name, Resource.from_contents(s)) for name, s in SCHEMAS.items())

CASES: dict[tuple[str, ...], tuple[tuple[str, str, int], ...]] = {
    ("plan",): (("{mix} {model}", "plan", 0), ("{tight} {model}", "plan", 3)),
    ("apply",): (
        ("{mix} {model} -o {tmp}/a.gguf", "result", 0),
        ("{mix} {model} -o {tmp}/b.gguf --report --imatrix {imatrix}", "result", 0),
        ("{mix} {model} --dry-run", "plan", 0),
    ),
    ("recipes",): (
        ("", "recipes", 0),
        ("pure --model {model}", "recipes", 0),
        ("llama.cpp --model {model} --ctx 512", "recipes", 0),
    ),
    ("lint",): (("{mix} {model}", "lint", 0), ("{tight} {model}", "lint", 3)),
    ("compare",): (("{mix} pure/q8_0 --model {model}", "compare", 0),),
    ("check",): (
        ("{mix} --model {model}", "check", 0),
        ("{tight} --model {model}", "check", 3),
        ("{bad}", "check", 2),
        ("{mix}", "check", 0),
    ),
    ("diff",): (
        ("{mix} pure/q4_0 {model}", "diff", 1),
        ("{mix} {mix} {model}", "diff", 0),
        ("{model} {moe}", "diff", 1),
    ),
    ("verify",): (
        ("{out}", "verify", 0),
        ("{out} --source {model}", "verify", 0),
        ("{spoiled}", "verify", 1),
    ),
    ("deviation",): (("{out} {model}", "deviation", 0), ("{model} {model}", "deviation", 0)),
    ("types",): (("", "types", 0),),
    ("inspect",): (
        ("{model}", "inspect", 0),
        ("{imatrix}", "inspect", 0),
        ("{out}", "inspect", 0),
        ("{model} --lattice", "inspect", 0),
    ),
    ("imatrix", "stats"): (("{imatrix}", "imatrix-stats", 0),),
    ("imatrix", "diff"): (("{imatrix} {imatrix}", "imatrix-diff", 0),),
    ("sphere",): (("Q4_0 --search heuristic -W 8", "sphere", 0),),
}
ELSEWHERE = {("eval",), ("compare-search",)}
"""They run an engine: ``test_eval.py``, ``test_compare_search.py``."""


def validate(found: object, schema: str) -> None:
    jsonschema.Draft202012Validator(SCHEMAS[f"{schema}.schema.json"], registry=REGISTRY).validate(found)


@pytest.fixture(scope="module")
def files(
    demo_model: Path, demo_moe_model: Path, demo_imatrix: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("json")
    head = "qxmix: 1\ntarget: any\nfallback: error\n"
    (folder / "mix.yaml").write_text(f"{head}default: q8_0\nrules: [{{category: attn_v, type: f16}}]\n")
    (folder / "tight.yaml").write_text(f"{head}default: q8_0\nlimits: {{max_bpw: 2}}\n")
    (folder / "bad.yaml").write_text(f"{head}default: q9_9\n")
    paths = {"mix": folder / "mix.yaml", "tight": folder / "tight.yaml", "bad": folder / "bad.yaml"}
    paths |= {"model": demo_model, "moe": demo_moe_model, "imatrix": demo_imatrix}
    paths |= {"tmp": folder, "out": folder / "out.gguf", "spoiled": folder / "spoiled.gguf"}
    done = CliRunner().invoke(main, ["apply", str(paths["mix"]), str(demo_model), "-o", str(paths["out"])])
    assert done.exit_code == 0, done.output
    data = bytearray(paths["out"].read_bytes())
    data[-100] ^= 1
    paths["spoiled"].write_bytes(data)
    return {name: str(path) for name, path in paths.items()}


def test_all_commands_are_here() -> None:
    assert {*CASES} | ELSEWHERE == {*with_json()}


@pytest.mark.parametrize(
    ("words", "arguments", "schema", "code"),
    [(words, *case) for words, cases in CASES.items() for case in cases],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_what_is_printed_is_as_its_schema_says(
    words: tuple[str, ...], arguments: str, schema: str, code: int, files: dict[str, str]
) -> None:
    done = CliRunner().invoke(main, [*words, *arguments.format(**files).split(), "--json"])
    assert done.exit_code == code, done.output
    validate(json.loads(done.stdout), schema)


@pytest.mark.parametrize("name", list(SCHEMAS))
def test_schemas_are_schemas_and_allow_no_other_keys(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])
    assert SCHEMAS[name]["$id"] == name


def open_objects(schema: object, at: str = "") -> list[str]:
    """Places of a schema where a key that nobody thought of would pass."""
    if isinstance(schema, list):
        return [place for i, part in enumerate(schema) for place in open_objects(part, f"{at}/{i}")]
    if not isinstance(schema, dict):
        return []
    here = [at] if "properties" in schema and "additionalProperties" not in schema else []
    return here + [place for key, part in schema.items() for place in open_objects(part, f"{at}/{key}")]


@pytest.mark.parametrize("name", ["types", "recipes", "lint", "verify", "diff", "inspect", "error"])
def test_no_key_passes_unseen(name: str) -> None:
    assert open_objects(SCHEMAS[f"{name}.schema.json"]) == []


@pytest.mark.parametrize(
    ("words", "works"),
    [
        ("apply {mix} {model} -o {tmp}/stopped.gguf", "qxmix.cli.apply.apply_all"),
        ("verify {out}", "qxmix.cli.verify.verify"),
        ("deviation {out} {model}", "qxmix.cli.deviation.moved_weights"),
    ],
)
def test_what_is_stopped_says_so(
    words: str, works: str, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ctrl-C does it, in the midst of the work."""

    def interrupted(*_arguments: object, **_options: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(works, interrupted)
    # A runner may ignore the signal, as nohup does, and what hears it once goes on hearing.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        done = CliRunner().invoke(main, [*words.format(**files).split(), "--json"])
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.exit_code == 130, done.output
    found = json.loads(done.stdout)
    validate(found, "error")
    assert found["error"][0]["text"].startswith("Interrupted")
    assert found["error"][0]["text"].split()[0] in done.stderr
