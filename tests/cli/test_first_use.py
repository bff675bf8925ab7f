"""What a newcomer with the README alone stumbled over: names, sizes, folders, sources that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from qxmix.cli.main import main
from qxmix.recipe import load_recipe
from qxmix.recipe.sizes import parse_size, parse_tokens
from tests.planning.models import Model, facts, write

SHAPES = {"token_embd.weight": (256, 64), **{f"blk.{i}.attn_q.weight": (256, 64) for i in range(3)}}
MODEL = Model("llama", facts(4, 256, 8, 2), SHAPES)
RECIPE = "qxmix: 1\nname: mine\ntarget: llama.cpp\ndefault: q8_0\n"
SCRIPT = "for q in Q4_K_M Q5_K_M; do\n  llama-quantize --tensor-type attn_v=q8_0 m.gguf $q.gguf $q\ndone\n"


def run(*arguments: str | Path, code: int = 0, stdin: str | None = None) -> str:
    done = CliRunner().invoke(main, [str(a) for a in arguments], input=stdin)
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.output


def test_a_recipe_that_is_imported_is_named_after_its_file(tmp_path: Path) -> None:
    (tmp_path / "loop.sh").write_text(SCRIPT)
    for q in ("Q4_K_M", "Q5_K_M"):
        run("import", tmp_path / "loop.sh", "--set", f"q={q}", "-o", tmp_path / f"mine-{q}.yaml")
    assert [load_recipe(p).name for p in sorted(tmp_path.glob("*.yaml"))] == ["mine-Q4_K_M", "mine-Q5_K_M"]
    write(MODEL, tmp_path / "m.gguf")
    run("import", tmp_path / "m.gguf", "-o", tmp_path / "back.yaml")
    assert load_recipe(tmp_path / "back.yaml").name == "back"


def test_a_folder_that_is_not_there_is_named_before_the_source_is_read(tmp_path: Path) -> None:
    said = run("import", tmp_path / "none.sh", "-o", tmp_path / "no" / "x.yaml", code=1)
    assert f"there is no folder {tmp_path / 'no'}; make it first" in " ".join(said.split())


def test_a_card_says_once_that_names_are_odd(tmp_path: Path) -> None:
    write(MODEL, tmp_path / "m.gguf")
    arguments = ("apply", "pure/q8_0", "pure/q4_0", tmp_path / "m.gguf", "-o", tmp_path, "--dry-run", "--card")
    done = CliRunner().invoke(main, [str(a) for a in (*arguments, tmp_path / "card.md")])
    told = " ".join(done.stderr.split())
    assert "Warning" not in told.replace("Warning: output", "")
    assert told.count("2 of 2 names of files are not as the hub has them; 'qxmix lint --publish' tells why") == 1


def test_the_first_recipe_of_the_readme_keeps_to_its_limit(tmp_path: Path) -> None:
    shapes = {"token_embd.weight": (576, 49152)}
    for i in range(30):
        widths = {"attn_q": 576, "attn_k": 192, "attn_v": 192, "attn_output": 576, "ffn_gate": 1536, "ffn_up": 1536}
        shapes |= {f"blk.{i}.{part}.weight": (576, n) for part, n in widths.items()}
        shapes[f"blk.{i}.ffn_down.weight"] = (1536, 576)
    write(Model("llama", facts(30, 576, 9, 3), shapes), tmp_path / "m.gguf")
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    start = text.index("# my-mix.yaml")
    (tmp_path / "my-mix.yaml").write_text(text[start : text.index("```", start)])
    said = run("plan", tmp_path / "my-mix.yaml", tmp_path / "m.gguf")
    assert "Q6_K -> Q6_0" in said
    assert "Bits/weight  5.97" in said


def test_two_recipes_of_one_name(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml", "other/c.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(RECIPE)
    text = run("check", tmp_path)
    assert text.count("Note: ") == 1
    assert "b.yaml: has the name of a.yaml, 'mine'" in " ".join(text.split())
    assert "3 recipes, no errors or warnings." in text
    found = json.loads(run("check", tmp_path, "--json"))
    assert [(len(r["problems"]), r["exit_code"]) for r in found] == [(0, 0), (1, 0), (0, 0)]
    write(MODEL, tmp_path / "m.gguf")
    found = json.loads(run("check", tmp_path, "--model", tmp_path / "m.gguf", "--json"))
    assert [[p["severity"] for p in r["problems"]] for r in found] == [[], ["note"], []]
    (tmp_path / "b.yaml").write_text(RECIPE.replace("mine", "its"))
    assert "3 recipes, nothing to say." in run("check", tmp_path)


@pytest.mark.parametrize("text", [RECIPE, "# Mine.\n{qxmix: 1, default: q8_0}\n", '{"qxmix": 1, "default": "q8_0"}'])
def test_a_recipe_is_not_imported(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(text)
    for said in (run("import", tmp_path / "r.yaml", code=2), run("import", "-", stdin=text, code=2)):
        assert said.count("Error") == 1
        assert "is a qxmix recipe already; 'qxmix plan RECIPE MODEL' shows" in said


@pytest.mark.parametrize(
    "text",
    [
        "#!/bin/bash\nset -e\nMODEL=foo\npython convert.py --outtype f16 $MODEL\necho done\n",
        "attn_v q8_0\nffn_down q6_K\n",
        "cmake --build build --target llama-quantize\n",
        "Some prose about a=b, and nothing else.\n",
    ],
)
def test_a_text_without_a_command_or_rules(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.sh").write_text(text)
    said = run("import", tmp_path / "x.sh", code=2)
    assert said.count("Error") == 1
    assert "no llama-quantize command found in it, and nothing that looks like a rule 'pattern=type'" in said


def test_a_list_with_a_line_that_is_no_rule_still_says_which(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("attn_v=q8_0\nffn_down q6_K\n")
    assert "'ffn_down q6_K' is no 'pattern=type'" in run(
        "import", tmp_path / "x.txt", "--dialect", "ik_llama.cpp", code=2
    )


def test_validate_takes_folders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(RECIPE)
    assert run("validate", tmp_path).count(": valid, 0 rules") == 2
    (tmp_path / "b.yaml").write_text(RECIPE.replace("q8_0", "q8_9"))
    assert "1 error in 1 of 2 recipes" in run("validate", tmp_path, code=2)
    (tmp_path / "empty").mkdir()
    assert "there is no recipe in this folder" in run("validate", tmp_path / "empty", code=1)


@pytest.mark.parametrize("text", ["24", "85", "999", " 1 ", "1.5"])
def test_a_size_without_its_unit(text: str) -> None:
    with pytest.raises(ValueError, match=rf"{text.strip()} is \d+ bytes; did you mean {text.strip()}GiB\?"):
        parse_size(text)


def test_a_size_of_few_bytes_that_is_meant() -> None:
    assert [parse_size(t) for t in ("24B", "1000", "0", "1K")] == [24, 1000, 0, 1024]


@pytest.mark.parametrize(
    "options", [("--ctx", "32k", "--vram", "24"), ("--ctx", "32k", "--ram", "128"), ("--split-max-size", "50")]
)
def test_options_say_that_the_unit_is_missing(options: tuple[str, ...], tmp_path: Path) -> None:
    write(MODEL, tmp_path / "m.gguf")
    said = run("plan", "pure/q8_0", tmp_path / "m.gguf", *options, code=2)
    assert f"'{options[-2]}': {options[-1]} is {options[-1]} bytes; did you mean {options[-1]}GiB?" in said
    assert run("plan", "pure/q8_0", tmp_path / "m.gguf", *options[:-1], f"{options[-1]}GiB")


def test_limits_say_that_the_unit_is_missing_and_take_contexts_in_k(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(RECIPE + "limits: {max_vram: [24, 24GiB], max_ram: 128, max_size: 85, ctx: 32k}\n")
    said = run("validate", recipe, code=2)
    for key, text in (("max_vram", "24"), ("max_ram", "128"), ("max_size", "85")):
        assert f"limits.{key}: {text} is {text} bytes; did you mean {text}GiB?" in said
    recipe.write_text(RECIPE + "limits: {max_vram: 24GiB, ctx: 32k}\n")
    assert load_recipe(recipe, validated=True).limits.ctx == 32768
    recipe.write_text(RECIPE + "limits: {max_vram: 24GiB, ctx: 32x}\n")
    assert "limits.ctx: '32x' is no number of tokens; write one like 32768 or 32k" in run("validate", recipe, code=2)


def test_contexts_in_k() -> None:
    assert [parse_tokens(t) for t in ("32k", "32K", "1m", "4096", 4096)] == [32768, 32768, 2**20, 4096, 4096]
    for bad in ("0", "0k", "1.5k", "k", "-1", "32kB"):
        with pytest.raises(ValueError, match="is no number of tokens; write one like 32768 or 32k"):
            parse_tokens(bad)


@pytest.mark.parametrize(
    "command", [("plan", "pure/q8_0", "{}"), ("recipes", "pure", "--model", "{}"), ("compare", "{}", "pure/q8_0")]
)
def test_every_command_takes_contexts_in_k(command: tuple[str, ...], tmp_path: Path) -> None:
    write(MODEL, tmp_path / "m.gguf")
    arguments = [a.format(tmp_path / "m.gguf") for a in command]
    assert run(*arguments, "--ctx", "2k") == run(*arguments, "--ctx", "2048")
