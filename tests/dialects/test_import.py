"""Recipes in their original notation, read, written as YAML, and held to what their engine does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qxmix.container.header import read_header
from qxmix.dialects.mixes import default_type, file_type, mix_name
from qxmix.dialects.parse import parse_source
from qxmix.dialects.proof.decide import source_types
from qxmix.dialects.prove import prove
from qxmix.dialects.write import recipe_text
from qxmix.errors import RecipeError
from qxmix.plan import make_plan
from qxmix.quants import ENGINES
from qxmix.recipe import load_recipe, shipped_names
from qxmix.recipe.load import load_recipe_text
from tests.dialects.sources import GLM_RULES, GLM_SCRIPT, nux_script
from tests.planning.models import Model, header, write
from tests.planning.test_published import deepseek_v3, glm_4_6
from tests.planning.zoo import MODELS, MORE

if TYPE_CHECKING:
    from qxmix.dialects.model import Dialect, SourceMix
    from qxmix.dialects.prove import Proof
    from qxmix.plan import Plan
    from qxmix.quants import Engine

GIB = 1 << 30
PATH = Path("source.sh")
TYPES = "--output-tensor-type q8_0 --token-embedding-type q5_0"


def source(text: str, dialect: Dialect | None = None, base: str | None = None) -> SourceMix:
    return parse_source(text, PATH, dialect, base)


def proof(text: str, model: Model, base: str | None = None, target: Engine | None = None) -> Proof:
    mix = source(text, base=base)
    return prove(mix, recipe_text(mix, "r", target or mix.engine), header(model))


def types(plan: Plan) -> dict[str, str]:
    return {t.name: t.type for t in plan.tensors}


def error_of(text: str, dialect: Dialect | None = None, base: str | None = None) -> str:
    with pytest.raises(RecipeError) as caught:
        source(text, dialect, base)
    return str(caught.value)


def test_a_name_that_is_no_variable_assigns_nothing() -> None:
    assert "unknown type" in error_of('8custom="\nattn_v=q8_0\n"\n', "ik_llama.cpp", "Q4_K_M")


def test_a_folder_is_no_number_of_threads() -> None:
    command = "./llama-quantize --custom-q attn_v=q8_0 in.gguf out.gguf Q4_K_M"
    assert "'~' stands behind Q4_K_M" in error_of(f"{command} ~> log 2>&1\n")
    assert source(f'{command} "$THREADS"\n').base == "Q4_K_M"


@pytest.mark.parametrize(
    ("text", "base", "model", "gib", "bpw"),
    [
        (GLM_SCRIPT, None, glm_4_6(), 148.390, 3.573),
        (GLM_RULES, "IQ3_KS", glm_4_6(), 148.390, 3.573),
        (f'custom="{GLM_RULES.replace(chr(34), "")}"\n', "iq3_ks", glm_4_6(), 148.390, 3.573),
        (nux_script(), None, deepseek_v3(), 352.822, 4.517),
    ],
    ids=["glm-script", "glm-list", "glm-variable", "nux"],
)
def test_published_sizes_from_the_original_notation(
    text: str, base: str | None, model: Model, gib: float, bpw: float
) -> None:
    found = proof(text, model, base)
    assert found.different == ()
    assert round(found.plan.data_nbytes / GIB, 3) == gib
    assert round(found.plan.bpw, 3) == bpw


def test_interleaved_types_become_plain_ones_where_the_target_knows_no_others() -> None:
    found = proof(nux_script(), deepseek_v3(), target="llama.cpp")
    assert round(found.plan.data_nbytes / GIB, 3) == 352.822
    assert not [t for t in found.plan.tensors if "_R4" in t.type]
    assert "interleaved types (_R4, _R8) are written as the plain ones" in found.plan.recipe.text


def test_comments_and_order_are_carried_over() -> None:
    text = recipe_text(source(GLM_SCRIPT), "glm", "ik_llama.cpp")
    assert "# Attention: first 3 dense layers, then the rest\n  - {match: 'blk\\.(0|1|2)\\.attn_q.*'" in text
    assert '# Feed forward, and "experts"\n' in text
    assert "extends: ik_llama.cpp/iq3_ks " in text
    assert "--dry-run" not in text


def test_options_pasted_alone_and_commas_in_lists() -> None:
    text = '--custom-q "attn=iq5_k,token_embd.weight=q4_K" \\\n--custom-q "exps=iq2_k"\n'
    mix = source(text, base="iq3_k")
    assert [(r.pattern, r.type) for r in mix.rules] == [
        ("attn", "IQ5_K"), ("token_embd.weight", "Q4_K"), ("exps", "IQ2_K"),
    ]  # fmt: skip
    assert mix.notes == ()
    assert "add it, or give --base TYPE" in error_of(text)


def test_options_on_lines_of_their_own_are_one_source() -> None:
    mix = source(
        '--tensor-type token_embd.weight=Q5_1\n--tensor-type "blk\\.(0|1)\\.attn_K.weight=IQ4_NL"\n', base="Q8_0"
    )
    assert mix.dialect == "llama.cpp"
    assert [(r.pattern, r.type) for r in mix.rules] == [
        ("token_embd.weight", "Q5_1"), (r"blk\.(0|1)\.attn_k.weight", "IQ4_NL"),
    ]  # fmt: skip


@pytest.mark.parametrize("model", ["gemma2-tied", "granite-moe-2", "qwen3-next", "mamba", "llama3-70b", "falcon-7b"])
@pytest.mark.parametrize(
    "options",
    [
        "--tensor-type 'attn_v=q8_0' {} Q4_K_M",
        "--tensor-type 'blk\\.[0-3]\\.(attn_v|ffn_down)=q5_0' --tensor-type attn=iq4_nl Q4_K_M",
        "--tensor-type token_embd=q4_0 --output-tensor-type q5_0 Q3_K_M",
        "--output-tensor-type q8_0 Q4_K_S",
        "--pure --tensor-type ffn_down=q6_k --output-tensor-type q8_0 Q4_K_M",
        "--tensor-type attn=q8_0 {} F16",
        "--leave-output-tensor --tensor-type 'ffn_(UP|gate)=iq4_xs' --imatrix i.dat IQ3_XXS",
        "--tensor-type ffn_down=q8_0 Q5_K_M",
        "COPY",
    ],
)
def test_llama_cpp_on_many_models(model: str, options: str) -> None:
    option, _, mix = options.format(TYPES).rpartition(" ")
    text = f"llama-quantize {option} in.gguf out.gguf {mix} 4"
    found = prove(
        source(text, "llama.cpp"), recipe_text(source(text, "llama.cpp"), "r", "llama.cpp"), header(MORE[model])
    )
    assert found.different == ()


def test_tensors_that_a_rule_takes_are_not_counted_by_llama_cpp() -> None:
    plain = proof("llama-quantize --tensor-type x=q8_0 in.gguf Q4_K_M", MODELS["llama1-7b"]).plan
    taken = proof("llama-quantize --tensor-type 'blk\\.0\\.attn_v=q8_0' in.gguf Q4_K_M", MODELS["llama1-7b"]).plan
    moved = {n for n, t in types(plain).items() if types(taken)[n] != t}
    assert "blk.0.attn_v.weight" in moved
    assert len(moved) > 5


def test_the_proof_can_fail() -> None:
    mix = source("llama-quantize --custom-q 'attn=q8_0' in.gguf Q4_0")
    text = recipe_text(mix, "r", "ik_llama.cpp").replace("q8_0", "q6_0")
    assert ("blk.0.attn_q.weight", "Q8_0", "Q6_0") in prove(mix, text, header(MODELS["llama1-7b"])).different


def test_thireus() -> None:
    text = "## Quant mix recipe\n^token_embd\\.weight$=iq3_s\n^blk\\.([0-9]|1[0-9])\\.ffn_down\\.weight$=q5_K\n"
    mix = source(text)
    assert mix.dialect == "thireus"
    found = source_types(mix.reading, header(MODELS["llama1-7b"]))
    assert found["blk.19.ffn_down.weight"] == "Q5_K"
    assert found["blk.20.ffn_down.weight"] == "F16"
    assert proof(text, MODELS["llama1-7b"]).different == ()


def test_levels_and_factors_of_ik_llama_cpp() -> None:
    text = (
        "llama-quantize --symmetric-q40 --fudge-factors iq1_kt=1,IQ3_S=1.02 --slow-iq2ks --pure in.gguf out.gguf IQ3_S"
    )
    mix = source(text)
    assert (mix.engine, mix.factors) == ("ik_llama.cpp", {"IQ1_KT": 1.0, "IQ3_S": 1.02})
    assert mix.switches == {"--symmetric-q40", "--pure"}
    written = recipe_text(mix, "r", "ik_llama.cpp")
    assert "\nsymmetric: true\n" in written
    assert "\nscale: {iq1_kt: 1, iq3_s: 1.02}\n" in written
    assert "--slow-iq2ks is left out: the slow search" in written
    recipe = load_recipe_text(written, "r.yaml")
    assert (recipe.symmetric, recipe.scale) == (True, {"IQ1_KT": 1.0, "IQ3_S": 1.02})
    assert "it is no option of llama.cpp" in error_of(text, "llama.cpp")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("q4_0=1", "'q4_0' is no type whose scales take a factor"),
        ("iq3_s", "iq3_s"),
        ("iq3_s=7", "7 of iq3_s is not between 0.5 and 2.0"),
    ],
)
def test_factors_that_are_none(value: str, words: str) -> None:
    assert words in error_of(f"llama-quantize --fudge-factors {value} in.gguf IQ3_S", "ik_llama.cpp")


def test_flags_that_cannot_be_carried_over_are_named_one_by_one() -> None:
    text = (
        "llama-quantize --prune-layers 1,2 --override-kv a=int:3 --tensor-type x=q8_0 --include-weights attn "
        "--frobnicate in.gguf Q4_K_M"
    )
    message = error_of(text)
    assert message.count("\n") == 0
    for part in (
        "--prune-layers 1,2 (",
        "--override-kv a=int:3 (",
        "--include-weights attn (",
        "--frobnicate (unknown",
    ):
        assert part in message
    assert "--extra-output-tensor q6_K (qxmix adds no tensors)" in error_of(
        "llama-quantize --extra-output-tensor q6_K --custom-q a=q6_K in.gguf Q4_K_M"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no 'pattern=type'"),
        ("llama-quantize --custom-q 'attn=iq9_k' a.gguf Q4_K_M", "'attn=iq9_k': unknown type 'iq9_k'; did you mean"),
        ("llama-quantize --custom-q 'attn=IQ2-KT' a.gguf Q4_K_M", "did you mean 'IQ2_KT'?"),
        ("llama-quantize --custom-q 'attn' a.gguf Q4_K_M", "'attn' is no 'pattern=type'"),
        ("llama-quantize --custom-q 'a(b=q8_0' a.gguf Q4_K_M", "'a(b' is not a regular expression"),
        ("llama-quantize --custom-q '(?i)b=q8_0' a.gguf Q4_K_M", "ECMAScript"),
        ("a=aaaaaaaa\n" + "a=$a$a\n" * 40 + "llama-quantize", "which is no recipe"),
        ("llama-quantize --custom-q", "--custom-q lacks its value"),
        ("llama-quantize --custom-q 'a=q8_0", "source.sh:1: a ' is opened here and never closed"),
        ('x="a\n', 'source.sh:1: a " is opened here and never closed'),
        ("x=$(cat f\nllama-quantize", "source.sh:1: a $( is opened here"),
        ('llama-quantize --custom-q "$mix" a.gguf Q4_K_M', "the value of --custom-q is $mix"),
        ('llama-quantize --custom-q "$(cat mix)" a.gguf Q4_K_M', "the value of --custom-q is $(cat mix)"),
        ("llama-quantize --tensor-type a=iq4_k a.gguf Q4_K_M", "IQ4_K is not a type of llama.cpp"),
        ("llama-quantize --tensor-type-file no.txt a.gguf Q4_K_M", "'no.txt' is not there"),
        (f"llama-quantize --tensor-type-file {300 * 'x'} a.gguf Q4_K_M", "is not there; put it beside"),
        ("llama-quantize --output-tensor-type q9 a.gguf Q4_K_M", "'q9' is no type of llama.cpp"),
        ("llama-quantize --tensor-type a=q8_0 a.gguf b.gguf", "no TYPE of llama.cpp"),
        ("llama-quantize a.gguf Q4_0\nllama-quantize a.gguf Q8_0", "has 2 llama-quantize commands (lines 1, 2)"),
        ("attn=q8_0\n", "could be of either engine; say which with --dialect"),
        ("attn=iq4_k\n", "give the TYPE of its llama-quantize command line with --base"),
    ],
)  # fmt: skip
def test_what_is_wrong_gets_one_clear_error(text: str, message: str) -> None:
    assert message in error_of(text)


def test_an_unknown_base() -> None:
    assert "--base: 'Q9' is no TYPE of ik_llama.cpp's" in error_of("a=iq4_k\n", base="Q9")


@given(st.text(alphabet=st.sampled_from("abq8_0=.,\\'\"$(){}#\n \t-`;|&"), max_size=80))
def test_no_text_makes_anything_but_a_recipe_error(text: str) -> None:
    for start in ("", "llama-quantize ", "--custom-q "):
        try:
            mix = source(start + text, base="Q4_0")
        except RecipeError:
            continue
        else:
            assert mix.base == "Q4_0" or mix.dialect == "thireus"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(alphabet=st.sampled_from("aq.\\d_|()[0-9]'\"#:{}!é-&*$^ \x01\x7f\u2028"), min_size=1, max_size=12),
            st.sampled_from(["q8_0", "iq4_k", "Q4_K_R4"]),
            st.text(max_size=12),
        ),
        max_size=4,
    ),
    st.sampled_from(["a.sh", "it's: #1.sh", "b\\c.sh", "d\x01\u2028.sh"]),
)
def test_whatever_is_read_is_written_as_a_recipe_that_says_the_same(
    items: list[tuple[str, str, str]], name: str
) -> None:
    text = "".join(f"#{comment}\n{pattern}={kind}\n" for pattern, kind, comment in items)
    try:
        mix = parse_source(text, Path(name), "ik_llama.cpp", "Q4_0")
    except RecipeError:
        return
    recipe = prove(mix, recipe_text(mix, Path(name).stem, "ik_llama.cpp"), header(MORE["mamba"])).plan.recipe
    own = [r for r in recipe.rules if r.source == 0]
    assert [(r.match, r.type) for r in own] == [(r.pattern, r.type) for r in mix.rules]


def test_mix_names_numbers_and_default_types_are_those_of_the_shipped_recipes() -> None:
    for engine in ENGINES:
        names = [n.partition("/")[2] for n in shipped_names() if n.startswith(f"{engine}/")]
        for name in names:
            recipe = load_recipe(f"{engine}/{name}")
            found = mix_name(name, engine)
            assert found is not None
            # The recipe of the 4-bit floats says by default what its rules for experts leave over.
            default = "MXFP4" if name == "mxfp4_moe" else recipe.default
            assert (default_type(found), file_type(found, engine)) == (default, recipe.file_type)
            assert mix_name(str(recipe.file_type), engine) == found
    assert mix_name("q4_k", "llama.cpp") == "Q4_K_M"
    assert mix_name("IQ4_KS", "llama.cpp") is None


def qxmix(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "qxmix", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_command(tmp_path: Path) -> None:
    script, model, recipe = tmp_path / "mix.sh", tmp_path / "m.gguf", tmp_path / "mix.yaml"
    (tmp_path / "types.txt").write_text("attn_v=q8_0 ffn_down=q6_k\nattn=q5_k\n")
    script.write_text("llama-quantize --tensor-type-file types.txt in.gguf Q4_K_M\n")
    write(MODELS["smollm-576"], model)
    done = qxmix("import", script, "--model", model, "-o", recipe)
    assert f"Proved: all {len(MODELS['smollm-576'].shapes):,} tensors get the type that the source gives" in done.stderr
    assert load_recipe(recipe).rules[0].type == "Q8_0"
    assert (
        "exists already; give --overwrite to replace it, or -o another name"
        in qxmix("import", script, "-o", recipe, code=1).stderr
    )
    before = recipe.read_text()
    qxmix("import", script, "--model", model, "-o", recipe, "--overwrite")
    assert qxmix("import", script, "--model", model).stdout == recipe.read_text() == before
    assert "Not proved" in qxmix("import", script).stderr
    assert "cannot be read" in qxmix("import", tmp_path / "no", code=2).stderr
    qxmix("import", code=2)
    qxmix("import", script, "--dialect", "x", code=2)


def test_a_command_line_from_standard_input() -> None:
    line = "llama-quantize --tensor-type attn_v=q6_k in.gguf out.gguf Q4_K_M"
    command = [sys.executable, "-m", "qxmix", "import", "-"]
    done = subprocess.run(command, input=line, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "name: 'imported'" in done.stdout
    assert "match: 'attn_v', type: q6_k" in done.stdout
    assert "write the command line into a file, or pipe it to 'qxmix import -'" in qxmix("import", line, code=2).stderr


def test_a_difference_is_shown_and_exit_3(tmp_path: Path) -> None:
    script, model = tmp_path / "mix.sh", tmp_path / "m.gguf"
    script.write_text("llama-quantize --custom-q 'attn=q5_K' in.gguf Q4_K_M\n")
    write(MODELS["smollm-576"], model)
    done = qxmix("import", script, "--model", model, "--target", "llama.cpp", code=3)
    assert "Different: " in done.stderr
    assert "attn_q.weight: source Q6_0, recipe Q5_1" in done.stderr


@pytest.mark.parametrize("n_doubles", [1, 4])
def test_what_no_recipe_can_write_is_kept(n_doubles: int, tmp_path: Path) -> None:
    names = [f"blk.{i}.ffn_down.weight" for i in range(n_doubles)]
    shapes = dict.fromkeys(("token_embd.weight", *names), (64, 64))
    model = write(Model("llama", {"block_count": 4}, shapes, types=dict.fromkeys(names, "F64")), tmp_path / "m.gguf")
    assert "Proved: all" in qxmix("import", model).stderr


def test_the_types_of_a_gguf_become_rules(tmp_path: Path, demo_model: Path) -> None:
    recipe, output, again = tmp_path / "r.yaml", tmp_path / "o.gguf", tmp_path / "again.yaml"
    recipe.write_text(
        "qxmix: 1\ntarget: ik_llama.cpp\ndefault: q4_0\nrules:\n"
        "  - {match: attn_v, layers: first(2), type: q8_0}\n  - {category: ffn_down, type: q5_k}\n"
        "  - {match: '0.ffn_norm', type: q8_0, force: true}\n  - {match: 'attn_k|token_embd', type: q6_0}\n"
    )
    qxmix("apply", recipe, demo_model, "-o", output)
    done = qxmix("import", output, "-o", again, "--target", "ik_llama.cpp")
    assert "Proved: all" in done.stderr
    assert "Proved: all" in qxmix("import", output, "--model", demo_model, "--target", "ik_llama.cpp").stderr
    assert "leave out --dialect and --base" in qxmix("import", output, "--base", "Q4_0", code=2).stderr
    other = tmp_path / "other.gguf"
    write(MODELS["smollm-576"], other)
    assert "source missing, recipe" in qxmix("import", output, "--model", other, code=3).stderr
    assert "Probably a fallback: rows of 448 weights" in again.read_text()
    head = read_header(demo_model)
    plans = [make_plan(load_recipe(r), head) for r in (recipe, again)]
    assert types(plans[0]) == types(plans[1])
