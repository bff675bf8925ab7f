"""The recipe that an output carries: one text, without a path of the machine, from which the same recipe is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from qxmix import Recipe, RecipeError, load_recipe
from qxmix.errors import Place
from qxmix.recipe.load import shipped_names

CHILD = "qxmix: 1\nextends: [base.yaml]\nrules:\n  - {match: '^output', type: q8_0}\n"
BASE = "qxmix: 1\ntarget: llama.cpp\ndefault: q4_0"


def nameless(recipe: Recipe) -> Recipe:
    """Return the recipe without where it was read from."""
    rules = tuple(replace(rule, where=Place("")) for rule in recipe.rules)
    return replace(recipe, rules=rules, path=Path("x"), sources=(), places={}, name="")


def reloaded(recipe: Recipe, path: Path) -> Recipe:
    path.write_text(recipe.text, encoding="utf-8")
    return load_recipe(path)


def test_every_shipped_recipe_comes_back(tmp_path: Path) -> None:
    n_joined = 0
    for name in shipped_names():
        recipe = load_recipe(name)
        again = reloaded(recipe, tmp_path / "again.yaml")
        assert nameless(again) == nameless(recipe)
        assert reloaded(again, tmp_path / "twice.yaml").text == recipe.text
        n_joined += len(recipe.sources) > 1
    assert n_joined > 10


def test_no_path_of_the_machine_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "child.yaml").write_text(CHILD)
    (tmp_path / "secret" / "base.yaml").write_text(BASE)
    recipe = load_recipe(tmp_path / "secret" / "child.yaml")
    assert "secret" not in recipe.text
    assert nameless(reloaded(recipe, tmp_path / "again.yaml")) == nameless(recipe)


@pytest.mark.parametrize(
    ("heads", "problem"),
    [
        (("1 of 2, extends 2", "2 of 2, extends 1"), r"\(file 2\): the files it extends are not all in it"),
        (("1 of 2", "2 of 2"), "the files it extends are not all in it"),
        (("1 of 2, extends 7", "2 of 2"), "the files it extends are not all in it"),
        (("1 of 2, extends 1", "2 of 2"), "the recipe extends itself"),
    ],
)
def test_a_text_that_was_tampered_with(tmp_path: Path, heads: tuple[str, str], problem: str) -> None:
    texts = [f"# qxmix recipe, file {head}\n{text}\n" for head, text in zip(heads, (CHILD, BASE), strict=True)]
    (tmp_path / "x.yaml").write_text("---\n".join(texts))
    with pytest.raises(RecipeError, match=problem):
        load_recipe(tmp_path / "x.yaml")
