"""One schema, two readers: the quick yes or no of every load, and jsonschema, whose errors are put into words."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qxmix.errors import Place, RecipeError
from qxmix.recipe import load_recipe
from qxmix.recipe import schema as judged
from qxmix.recipe.faults import check
from qxmix.recipe.load import load_recipe_text
from qxmix.recipe.schema import fits, recipe_schema, resolved
from qxmix.recipe.tree import Node, parse
from qxmix.resources import data_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qxmix.recipe.schema import Schema

HERE = Path(__file__).parent
FILES = [*HERE.glob("negative/*.yaml"), *HERE.glob("positive/*.*"), *sorted(data_dir("recipes").rglob("*.yaml"))]
VALIDATOR = jsonschema.Draft202012Validator(recipe_schema())


def plain(node: Node) -> Any:
    if isinstance(node.value, dict):
        return {key: plain(value) for key, value in node.value.items()}
    return [plain(item) for item in node.value] if isinstance(node.value, list) else node.value


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_files_are_judged_as_by_jsonschema(path: Path) -> None:
    try:
        node = parse(path.read_text("utf-8-sig"), path.name)
    except RecipeError:
        assert path.parent.name == "negative"  # not even YAML; test_files has what is said of it
        return
    assert VALIDATOR.is_valid(plain(node)) == fits(node) == (not check(node, path.name))


def subschemas(schema: Schema) -> Iterator[Schema]:
    yield schema
    inner = [*schema.get("anyOf", ()), *schema.get("properties", {}).values(), *schema.get("$defs", {}).values()]
    inner += [schema[key] for key in ("items", "additionalProperties") if isinstance(schema.get(key), dict)]
    for part in inner:
        yield from subschemas(part)


READ = {
    "$ref", "additionalProperties", "anyOf", "const", "enum", "exclusiveMinimum", "items", "maximum", "minItems",
    "minLength", "minProperties", "minimum", "pattern", "properties", "propertyNames", "required", "type",
}  # fmt: skip
SAID = {"$defs", "$id", "$schema", "description", "examples", "patternErrorMessage", "title"}


def test_the_schema_has_no_keyword_that_is_not_read_and_no_type_name_twice() -> None:
    for part in subschemas(recipe_schema()):
        assert part.keys() <= READ | SAID
        assert part.get("propertyNames", {}).keys() <= {"pattern", "patternErrorMessage"}
        assert isinstance(part.get("type", ""), str)
    listed = [part for part in subschemas(recipe_schema()) if "q4_k" in part.get("enum", ())]
    assert len(listed) == 1


SCALARS = st.sampled_from([None, True, False, -1, 0, 1, 2, 1.0, 0.5, 2000, "", "a b", "q4_k", "error", "x"])
JUNK = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.sampled_from(["", "x", "type", "A b"]), SCALARS)


def values(schema: Schema, odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values that a schema accepts, and among them odd ones."""
    schema = resolved(schema)
    if "anyOf" in schema:
        return st.one_of(odd, *(values(option, odd) for option in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum", [schema.get("const")])) | odd
    match schema["type"]:
        case "array":
            return st.lists(values(schema["items"], odd), min_size=1, max_size=2) | odd
        case "object":
            return mappings(schema, odd) | odd
        case "string":
            return st.sampled_from(schema.get("examples", ["q4_0", "1"])) | odd
        case kind:
            return {"boolean": st.booleans(), "null": st.none()}.get(kind, st.integers(1, 2)) | odd


def mappings(schema: Schema, odd: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    known, extra = schema.get("properties", {}), schema.get("additionalProperties", {})
    each = {key: values(value, odd) for key, value in known.items()}
    always = {key: each[key] for key in schema.get("required", ())}
    some = st.lists(st.sampled_from(list(each) or ["moe"]), min_size=1, max_size=3, unique=True).flatmap(
        lambda keys: st.fixed_dictionaries(always | {key: each[key] for key in keys if key in each})
    )
    names = st.sampled_from(["edge", "moe", "q4_k"]) | odd.filter(lambda name: isinstance(name, str))
    added = st.dictionaries(names, values(extra, odd) if isinstance(extra, dict) else odd, max_size=2)
    return st.builds(lambda a, b: a | b, some, added if isinstance(extra, dict) or odd is JUNK else st.just({}))


HEAD = {"target": "llama.cpp", "default": "q4_0"}
DOCUMENTS = st.one_of(mappings(recipe_schema(), st.nothing()), mappings(recipe_schema(), JUNK))


@settings(max_examples=150, deadline=None)
@given(DOCUMENTS.map(lambda document: HEAD | document))
def test_build_never_accepts_what_the_schema_refuses(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    valid = VALIDATOR.is_valid(document)
    with suppress(RecipeError):
        load_recipe_text(text, "r.yaml")
        assert valid
    assert fits(parse(text, "r")) == valid == (not check(parse(text, "r"), "r"))


RULE = {
    "type": "q6_k", "match": "attn", "category": ["attn_v"], "when": [{"n_expert": ">1", "tied": True, "arch": ["a"]}],
    "layers": {"pick": [1], "by": "ordinal", "of": ["attn_v"]}, "adjust": [{"type": "q5_k", "layers": "first(1)"}],
    "fallback": {"policy": "error", "q4_k": ["q5_0"]}, "expect": {"min": 1, "max": 2}, "feedback": {"damp": 0.5},
    "silence": {"rule-unmatched": "why"}, "force": True,
}  # fmt: skip
SOUND: list[dict[str, Any]] = [
    {"qxmix": 1, "name": "r", "extends": ["a"], "layers": {"edge": 1}, "conditions": {"moe": "x"}, "keep": ["v"]},
    {
        "qxmix": 1,
        "imatrix": {"missing": "error", "require": ["q2_k"], "prior": 64},
        "file_type": 15,
        "fallback": ["q8_0"],
    },
    {"qxmix": 1, "limits": {"max_bpw": 0.5, "max_size": "1GB"}, "feedback": {"shrink": 0.5}, "rules": []},
    {"qxmix": 1, "metadata": {"set": {"a": ["b"], "c": {"type": "bool", "value": 1}}, "remove": ["d"]}},
    *({"qxmix": 1, "rules": [{"type": "q6_k", key: value}]} for key, value in RULE.items()),
]


def spoilt(value: Any) -> Iterator[Any]:
    """The value with each part replaced by odd ones, left out, or given a stranger beside it."""
    yield from (None, True, -1, 0, 1.0, 1.5, 10**10, "", "/ ", "more", [], {}, [[]], {"1 x": None})
    if isinstance(value, dict):
        yield value | {"stranger": 1}
        yield value | {"A b": "why"}
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, part in parts:
        whole = dict(value) if isinstance(value, dict) else list(value)
        for other in spoilt(part):
            whole[step] = other
            yield deepcopy(whole)
        del whole[step]
        yield whole


@pytest.mark.parametrize("document", SOUND, ids=range(len(SOUND)))
def test_each_part_spoilt_is_judged_as_by_jsonschema(document: dict[str, Any]) -> None:
    assert VALIDATOR.is_valid(document)
    assert fits(parse(json.dumps(document), "r"))
    for other in spoilt(document):
        assert fits(parse(json.dumps(other), "r")) == VALIDATOR.is_valid(other), other


IMPORTED = "import sys; from qxmix.recipe import load_recipe; load_recipe({}); sys.exit('jsonschema' in sys.modules)"


@pytest.mark.parametrize(("call", "seen"), [("'pure/q4_0'", 0), ("'pure/q4_0', validated=True", 1)])
def test_a_sound_recipe_does_not_wait_for_jsonschema(call: str, seen: int) -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED.format(call)], check=False)
    assert done.returncode == seen


def test_jsonschema_has_the_last_word_where_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("qxmix: 1\ntarget: llama.cpp\ndefault: q4_0\nserach: exhaustive\n")
    monkeypatch.setattr("qxmix.recipe.load.fits", lambda _: True)
    assert load_recipe(path).search != "exhaustive"
    with pytest.raises(RecipeError, match="4: unknown key 'serach'; did you mean 'search'"):
        load_recipe(path, validated=True)
    path.write_text(path.read_text().replace("q4_0", "q4_00"))
    with pytest.raises(RecipeError, match="unknown key") as caught:
        load_recipe(path)
    assert [p.where.line for p in caught.value.problems if isinstance(p.where, Place)] == [3, 4]
    assert judged.fits(parse(path.read_text(), "r")) is False
