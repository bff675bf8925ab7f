"""Loading: names and paths, what extends what, files that are no text, patterns that run away."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qxmix.errors import RecipeError
from qxmix.recipe import load_recipe
from qxmix.recipe.model import Recipe
from qxmix.recipe.patterns import SEARCH_SECONDS, search

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "qxmix: 1\ntarget: llama.cpp\ndefault: q4_k\n"


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def error_of(path: Path | str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "r.yaml:1: the file is empty; a recipe starts with 'qxmix: 1'"),
        (b"# only a comment\n", "the file is empty"),
        (b"qxmix: 1\nname: caf\xe9\n", "r.yaml:2: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        (b"\xff\xfeq\x00x\x00", "r.yaml:1: byte 0xff is not UTF-8"),
        (
            b"GGUF\x03\x00\x00\x00" + bytes(100),
            "is a model, not a recipe; where a command takes both, the recipe comes first",
        ),
        (b"# " + b"x" * (2 << 20), "is too large for a recipe; the most is 2,097,152 bytes"),
        (b"[" * 100_000, "maximum nesting depth"),
        (b"{a: " * 500, "r.yaml:1: nested more than 40 levels deep"),
    ],
    ids=["empty", "comment", "latin-1", "utf-16", "gguf", "huge", "lists", "mappings"],
)
def test_a_file_that_is_no_recipe_gets_one_error(tmp_path: Path, data: bytes, text: str) -> None:
    assert text in error_of(write(tmp_path, "r.yaml", data))


def test_a_missing_file_and_a_folder_and_an_impossible_name(tmp_path: Path) -> None:
    assert "there is no such file" in error_of(tmp_path / "r.yaml")
    assert error_of(tmp_path) == f"{tmp_path}: is a folder; give a recipe in it"
    write(tmp_path, "b.yaml", HEAD)
    assert error_of(tmp_path).endswith(f"is a folder; give a recipe in it, like {tmp_path / 'b.yaml'}")
    assert error_of("pure/") == "pure/: is a folder of shipped recipes; 'qxmix recipes pure' lists them"
    assert error_of(tmp_path / "bb.yaml").endswith(f"there is no such file; did you mean '{tmp_path / 'b.yaml'}'?")
    assert "a shipped recipe is named without a suffix" in error_of(tmp_path / "other.yaml")
    assert error_of("x.gguf") == "x.gguf: there is no such file"
    assert "neither a file nor a shipped recipe" in error_of("x" * 5000)
    assert "neither a file nor a shipped recipe" in error_of("a\0b")
    assert "there is no such file" in error_of("~nobody-of-this-name/r")


def test_a_shipped_name_is_completed_and_corrected() -> None:
    assert load_recipe("pure/q4_0").default == "Q4_0"
    assert load_recipe("pure/q4_0.yaml").default == "Q4_0"
    assert load_recipe("llama.cpp/Q4_K_M").sources[0].name == "llama.cpp/q4_k_m.yaml"
    assert "did you mean 'pure/iq4_nl'?" in error_of("pure/iq4nl")
    assert "did you mean 'deepseek/iq4_k_r4' or 'ik_llama.cpp/iq4_k_r4' or 'pure/iq4_k_r4'?" in error_of("iq4_k_r4")


@pytest.mark.skipif(getattr(os, "geteuid", bool)() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = write(tmp_path, "r.yaml", HEAD)
    path.chmod(0)
    assert "cannot be read: Permission denied" in error_of(path)


def test_own_rules_come_first_and_settings_are_inherited(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", HEAD + "search: heuristic\nfile_type: 15\nrules: [{match: a, type: q5_k}]\n")
    path = write(tmp_path, "r.yaml", "qxmix: 1\nextends: base.yaml\nfile_type: 14\nrules: [{match: b, type: q6_k}]\n")
    recipe = load_recipe(path)
    assert [(r.match, r.type, r.unit, r.source) for r in recipe.rules] == [("b", "Q6_K", 0, 0), ("a", "Q5_K", 1, 1)]
    assert (recipe.default, recipe.target, recipe.search, recipe.file_type) == ("Q4_K", "llama.cpp", "heuristic", 14)


def test_a_file_type_is_inherited_with_its_default_only(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", HEAD + "file_type: 15\n")
    assert load_recipe(write(tmp_path, "r.yaml", "qxmix: 1\nextends: base.yaml\n")).file_type == 15
    own = load_recipe(write(tmp_path, "r.yaml", "qxmix: 1\nextends: base.yaml\ndefault: q6_k\n"))
    assert (own.default, own.file_type) == ("Q6_K", None)
    stated = load_recipe(write(tmp_path, "r.yaml", "qxmix: 1\nextends: base.yaml\ndefault: q6_k\nfile_type: 15\n"))
    assert stated.file_type == 15


def test_pure_inherits_no_rules_and_only_three_settings(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", HEAD + "search: heuristic\nfallback: error\nrules: [{match: a, type: q5_k}]\n")
    recipe = load_recipe(write(tmp_path, "r.yaml", "qxmix: 1\nextends: base.yaml\npure: true\n"))
    assert recipe.rules == ()
    assert (recipe.default, recipe.target, recipe.fallback.policy) == ("Q4_K", "llama.cpp", "error")
    assert recipe.search is None


def test_a_file_that_two_others_extend_brings_its_rules_once(tmp_path: Path) -> None:
    write(tmp_path, "words.yaml", "qxmix: 1\nlayers: {edge: '0'}\nrules: [{match: w, layers: edge, type: q8_0}]\n")
    for name in ("a", "b"):
        write(tmp_path, f"{name}.yaml", f"qxmix: 1\nextends: words.yaml\nrules: [{{match: {name}, type: q5_k}}]\n")
    recipe = load_recipe(write(tmp_path, "r.yaml", HEAD + "extends: [a.yaml, b.yaml]\n"))
    assert [r.match for r in recipe.rules] == ["a", "w", "b"]
    assert {r.unit for r in recipe.rules} == {0}, "files without a default are parts of who extends them"


def test_names_of_extended_recipes_can_be_used_and_redefined(tmp_path: Path) -> None:
    write(tmp_path, "words.yaml", "qxmix: 1\nlayers: {edge: '0', rest: '1'}\nconditions: {moe: {n_expert: '>1'}}\n")
    text = HEAD + "extends: words.yaml\nlayers: {edge: '7'}\nrules: [{layers: 'edge, rest', when: moe, type: q8_0}]\n"
    recipe = load_recipe(write(tmp_path, "r.yaml", text))
    assert recipe.rules[0].layers is not None
    assert [term.args for term in recipe.rules[0].layers.terms] == [(7, 7), (1, 1)]
    assert recipe.rules[0].when


def test_the_hash_of_one_file_is_its_own_and_of_several_changes_with_each(tmp_path: Path) -> None:
    base = write(tmp_path, "base.yaml", HEAD)
    assert load_recipe(base).sha256 == hashlib.sha256(base.read_bytes()).hexdigest()
    path = write(tmp_path, "r.yaml", "qxmix: 1\nextends: base.yaml\n")
    before = load_recipe(path)
    assert HEAD in before.text
    write(tmp_path, "base.yaml", HEAD + "# changed\n")
    assert load_recipe(path).sha256 != before.sha256
    assert load_recipe(path).sources[0] == before.sources[0]


def test_a_recipe_is_the_same_with_the_line_ends_of_windows(tmp_path: Path) -> None:
    """git writes them into a checkout there, and locks and outputs say which recipe they are of."""
    text = "qxmix: 1\n# as it is\nextends: [base.yaml]\ntarget: any\nfallback: [q8_0]\ndescription: |\n  two\n  lines\n"
    found = []
    for folder, end in (("linux", "\n"), ("windows", "\r\n")):
        (tmp_path / folder).mkdir()
        for name, lines in (("r", text), ("base", "qxmix: 1\ndefault: q4_0\n")):
            (tmp_path / folder / f"{name}.yaml").write_text(lines, encoding="utf-8", newline=end)
        recipe = load_recipe(tmp_path / folder / "r.yaml")
        found.append((recipe.sha256, recipe.text))
    assert found[0] == found[1]
    assert b"\r\n" in (tmp_path / "windows/r.yaml").read_bytes()


def test_a_misspelt_parent_is_looked_for_beside_the_recipe(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", HEAD)
    text = error_of(write(tmp_path, "r.yaml", "qxmix: 1\nextends: bse.yaml\n"))
    assert "extends: 'bse.yaml': there is no such file; did you mean 'base.yaml'?" in text


def test_what_an_unknown_parent_would_have_set_is_not_missing(tmp_path: Path) -> None:
    text = error_of(write(tmp_path, "r.yaml", "qxmix: 1\nextends: q4_k_m\n"))
    assert text.count("\n") == 0
    assert "extends: 'q4_k_m': neither a file nor a shipped recipe; did you mean" in text


def test_too_many_files(tmp_path: Path) -> None:
    for i in range(40):
        write(tmp_path, f"{i}.yaml", f"qxmix: 1\nextends: {i + 1}.yaml\n")
    assert "the recipe extends more than 32 files" in error_of(tmp_path / "0.yaml")


def test_a_silence_of_a_file_is_for_its_own_rules(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", HEAD + "silence: {rule-unmatched: general}\nrules: [{match: a, type: q5_k}]\n")
    text = "qxmix: 1\nextends: base.yaml\nrules: [{match: b, type: q5_k, silence: {fallback: known}}]\n"
    recipe = load_recipe(write(tmp_path, "r.yaml", text))
    assert [dict(r.silence) for r in recipe.rules] == [{"fallback": "known"}, {"rule-unmatched": "general"}]
    assert recipe.silence == {}


def test_a_recipe_survives_the_way_to_a_worker() -> None:
    recipe = load_recipe("ik_llama.cpp/iq3_xxs")
    assert pickle.loads(pickle.dumps(recipe)) == recipe  # noqa: S301 - our own bytes
    assert isinstance(recipe, Recipe)


@pytest.mark.parametrize("pattern", ["(a|aa)+$", "(a|a|aa)+(?!.)$", r"^blk\.0\.(a|aa)+$"])
def test_a_pattern_that_runs_away_is_stopped(pattern: str) -> None:
    start = time.process_time()
    with pytest.raises(RecipeError, match="backtrack without end") as caught:
        search(pattern, "blk.0." + "a" * 60 + "!", "r.yaml:1: rules[0]")
    assert str(caught.value).startswith("r.yaml:1: rules[0]: ")
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", r"^(([a-z])+.)+[A-Z]([a-z])+$", "(x+x+)+y", "(.*a){25}", "^(a?){60}a{60}$"]
)
def test_usual_runaway_patterns_are_no_trouble(pattern: str) -> None:
    start = time.process_time()
    search(pattern, "blk.0." + "a" * 60 + "!", "r.yaml:1")
    assert time.process_time() - start < SEARCH_SECONDS


@given(
    st.text("ab.-_0", max_size=8),
    st.sampled_from(["", "^"]),
    st.sampled_from(["", "$"]),
    st.text("ab.-_0", max_size=12),
)
def test_a_pattern_that_is_just_a_text_is_found_as_by_the_regex(text: str, start: str, end: str, name: str) -> None:
    for written in (text, text.replace(".", r"\.")):
        pattern = start + written + end
        assert search(pattern, name, "") == (re.search(pattern, name) is not None)


def test_validate_checks_all_and_names_all(tmp_path: Path) -> None:
    bad = write(tmp_path, "bad.yaml", HEAD + "limits: {max_bpw: 0}\n")
    command = [sys.executable, "-m", "qxmix", "validate", "pure/q4_0", str(bad), "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pure/q4_0: valid, 1 rule, default Q4_0, target any" in done.stdout
    assert f"Error: {bad}:4: limits.max_bpw: must be more than 0, not 0" in done.stderr
    assert "Error: nothing: neither a file nor a shipped recipe" in done.stderr
