"""Recipes that must fail with the text they name, recipes that must load, and every recipe that is shipped."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from qxmix.errors import Place, RecipeError
from qxmix.quants import QUANT_TYPES
from qxmix.quants.codec import SEARCHES
from qxmix.recipe import load_recipe, shipped_names, tree
from qxmix.recipe.categories import CATEGORIES
from qxmix.recipe.conditions import FLAGS, NUMBERS, WORDS
from qxmix.recipe.schema import fits, recipe_schema
from qxmix.recipe.tree import parse
from qxmix.resources import data_dir

HERE = Path(__file__).parent
NEGATIVE = sorted((HERE / "negative").glob("*.yaml"))
POSITIVE = sorted(p for p in (HERE / "positive").iterdir() if not p.name.startswith("_"))
SHIPPED = sorted(data_dir("recipes").rglob("*.yaml"))


def test_there_are_at_least_sixty_bad_recipes() -> None:
    assert len(NEGATIVE) >= 60


@pytest.mark.parametrize("path", NEGATIVE, ids=lambda p: p.stem)
def test_bad_recipe_fails_with_the_text_it_names(path: Path) -> None:
    lines = path.read_text().splitlines()
    wanted = [line.removeprefix("# error: ") for line in lines if line.startswith("# error: ")]
    assert wanted, "the first line names the error"
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    for text in wanted:
        assert text in str(caught.value)
    for problem in caught.value.problems:
        assert isinstance(problem.where, Place)
        assert problem.where.line, "every problem says in which file and on which line"


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="this pyyaml has no libyaml to compare with")
@pytest.mark.parametrize("path", NEGATIVE, ids=lambda p: p.stem)
def test_errors_stand_on_the_same_lines_without_libyaml(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def places() -> list[Place | str]:
        with pytest.raises(RecipeError) as caught:
            load_recipe(path)
        return [problem.where for problem in caught.value.problems]

    with_libyaml = places()
    monkeypatch.setattr(tree, "_Loader", yaml.SafeLoader)
    assert places() == with_libyaml


@pytest.mark.parametrize("path", POSITIVE, ids=lambda p: p.name)
def test_good_recipe_loads(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.sources[0].name == str(path)
    assert len(recipe.sha256) == 64


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_recipe_loads_by_its_name(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe == load_recipe(data_dir("recipes") / f"{name}.yaml") or recipe.sources[0].name == f"{name}.yaml"
    assert recipe.description, "a shipped recipe says what it is for"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_shipped_recipe_explains_itself_and_points_editors_at_the_schema(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0] == "# yaml-language-server: $schema=../../schemas/recipe.schema.json"
    assert (path.parent / lines[0].partition("=")[2]).resolve() == data_dir("schemas") / "recipe.schema.json"
    assert lines[1].startswith("#")


def test_schema_is_valid_and_lists_every_type_and_describes_every_key() -> None:
    schema = recipe_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    types = [t.name.lower() for t in QUANT_TYPES if t.writable]
    assert schema["$defs"]["type"]["anyOf"][0]["enum"] == types
    for key, value in schema["properties"].items():
        assert "description" in value, key


def test_schema_lists_every_category_fact_and_search() -> None:
    defined = recipe_schema()["$defs"]
    assert defined["category"]["enum"] == [*CATEGORIES]
    assert [*defined["facts"]["properties"]] == [*NUMBERS, *FLAGS, *WORDS]
    assert {*defined["search"]["enum"]} == {*SEARCHES}


def test_every_example_of_the_schema_is_valid() -> None:
    schema = recipe_schema()
    for key, value in schema["properties"].items():
        for example in value.get("examples", ()):
            document = {"qxmix": 1, key: example}
            jsonschema.Draft202012Validator(schema).validate(document)
            assert fits(parse(json.dumps(document), "example")), key


def test_every_type_that_can_be_encoded_has_a_pure_recipe() -> None:
    for quant_type in QUANT_TYPES:
        if quant_type.codec and quant_type.writable and quant_type.bpw < 16:
            assert load_recipe(f"pure/{quant_type.name.lower()}").default == quant_type.name
