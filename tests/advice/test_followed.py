"""Advice, followed: each message is provoked, what it says is done, and that works."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from qxmix.cli.main import main
from tests.advice.case import Case, of_recipe, of_script
from tests.advice.engine_cases import ENGINE, prepare_engine
from tests.advice.measured_cases import MEASURED, prepare_measured
from tests.advice.more_cases import MORE, prepare
from tests.advice.test_elsewhere import ELSEWHERE
from tests.advice.texts import advice, pattern

UNFOLLOWED = Path(__file__).with_name("unfollowed.txt")


COMMANDS = (
    Case("--measure adds divergence to the card; give that a name with --card",
         "apply {mix} {model} --dry-run --measure {m}", "apply {mix} {model} --dry-run --card {tmp}/card.md"),
    Case("the name is empty, as of a variable that is not set; give one, or leave this out",
         "plan {mix} {model} --imatrix ''", "plan {mix} {model} --imatrix {imatrix}"),
    Case("the name is empty, as of a variable that is not set; give one, or leave this out",
         "apply {mix} {model} --moments '' -o {tmp}/named.gguf", "apply {mix} {model} -o {tmp}/named.gguf"),
    Case("stands for standard output elsewhere and is no name here; give {} the name of a file",
         "plan {mix} {model} --lock -", "plan {mix} {model} --lock {tmp}/dash.json"),
    Case("{}, or leave it out for standard output", "solve {model} --bpw 6 -o -", "solve {model} --bpw 6"),
    Case("--locked is given {} times for {} recipes; give one for each",
         "apply {mix} {mix2} {model} -o {tmp}/many --dry-run --locked {lock}",
         "apply {mix} {mix2} {model} -o {tmp}/many --dry-run --locked {lock} --locked {lock2}"),
    Case("{} is for what --lattice finds; give --lattice, too", "inspect {model} -o {tmp}/l.json",
         "inspect {model} --lattice -o {tmp}/l.json"),
    Case("--no-tensor-first-split is about a split; give --split-max-size or --split-max-tensors",
         "plan {mix} {model} --no-tensor-first-split",
         "plan {mix} {model} --no-tensor-first-split --split-max-tensors 9"),
    Case("--ctx is about running a model; give it as --model MODEL", "recipes pure --ctx 512",
         "recipes pure --ctx 512 --model {model}"),
    Case("--max-size is about the output of a model; give it as --model MODEL", "recipes --max-size 1GB",
         "recipes --max-size 1GB --model {model}"),
    Case("{} says on what the model shall run; give --ctx, how long a text, too", "plan {mix} {model} --vram 1GB",
         "plan {mix} {model} --vram 1GB --ctx 512"),
    Case("is an importance matrix, not a model; give it as --imatrix and the GGUF model here", "plan {mix} {imatrix}",
         "plan {mix} {model} --imatrix {imatrix}"),
    Case("is a model, not an importance matrix; give the file that llama-imatrix wrote",
         "plan {mix} {model} --imatrix {model}", "plan {mix} {model} --imatrix {imatrix}"),
    Case("exists already; give --overwrite to replace it, or another -o", "apply {mix} {model} -o {out}",
         "apply {mix} {model} -o {out} --overwrite"),
    Case("exists already; give --overwrite to replace it, or another -o", "apply {mix} {model} -o {out}",
         "apply {mix} {model} -o {tmp}/another.gguf"),
    Case("holds the header of a model and none of its weights, enough to plan; give the model itself here",
         "apply {mix} {header} -o {tmp}/x.gguf", "apply {mix} {model} -o {tmp}/x.gguf"),
    Case("is a recipe, and what it decides depends on the model; give one {}", "compare {mix} {mix2}",
         "compare {mix} {mix2} --model {model}"),
    Case("is a recipe, and what it decides depends on the model; give one {}",
         "diff {mix} {mix}", "diff {mix} {mix} {model}"),
    Case("{} needs an importance matrix, give one with --imatrix: {}", "plan pure/iq2_xs {model}",
         "plan pure/iq2_xs {model} --imatrix {imatrix}"),
    Case("was made with the importance matrix {}; give it: --imatrix", "verify {weighted} --source {model}",
         "verify {weighted} --source {model} --imatrix {imatrix}"),
    Case("was not used for this output; leave out --imatrix", "verify {out} --source {model} --imatrix {imatrix}",
         "verify {out} --source {model}"),
    Case("is no lock file of this version; write one with 'qxmix plan --lock'",
         "apply {mix} {model} --dry-run --locked {mix}", "apply {mix} {model} --dry-run --locked {lock}"),
    Case("is a folder; give a recipe in it", "plan {tmp} {model}", "plan {mix} {model}"),
    Case("exists already; give --overwrite to replace it, or {} another name",
         "import {script} --model {model} -o {old}", "import {script} --model {model} -o {old} --overwrite"),
    Case("exists already; give --overwrite to replace it, or {} another name",
         "import {script} --model {model} -o {mix}", "import {script} --model {model} -o {tmp}/imported.yaml"),
    Case("ik_llama.cpp reads no file of types; leave out -o",
         "export {mix} {model} --to ik_llama.cpp -o {tmp}/types", "export {mix} {model} --to ik_llama.cpp"),
    Case("does not say how its tensors were made (qxmix.* metadata), so none can be reused; leave out --reuse",
         "apply {mix} {model} -o {tmp}/r.gguf --reuse {model}", "apply {mix} {model} -o {tmp}/r.gguf"),
    Case("say how large it may be: {}", "solve {model}", "solve {model} --bpw 6 -o {tmp}/solved.yaml"),
    Case("--refine tries swaps on a text, and --text is for --refine: give both",
         "solve {model} --bpw 6 --text {script}", "solve {model} --bpw 6 -o {tmp}/solved2.yaml"),
    Case("'{}': write 'random:20'", "solve {model} --bpw 6 --against ten", "solve {model} --bpw 6 -o {tmp}/s3.yaml"),
    Case("'{}': {}; write 'attn_v=q6_k', or only the type for all tensors", "solve {model} --bpw 6 --floor attn_v=q6",
         "solve {model} --bpw 6 --floor attn_v=q6_k -o {tmp}/s4.yaml"),
    Case("is {} itself ({}), and would be destroyed; give another -o", "apply {mix} {model} -o {model} --overwrite",
         "apply {mix} {model} -o {tmp}/own.gguf"),
    Case("is no {} that qxmix wrote, and would be lost; give {} another name",
         "apply {mix} {model} --dry-run --card {script}", "apply {mix} {model} --dry-run --card {tmp}/card3.md"),
    Case("is what {} names, and would be destroyed; give {} another name", "header {model} -o {model} --overwrite",
         "header {model} -o {tmp}/apart.gguf"),
    Case("would be written by {} and by {}; give two names", "plan {mix} {model} --lock {tmp}/a --html {tmp}/a",
         "plan {mix} {model} --lock {tmp}/a --html {tmp}/b"),
    Case("is {}, which would be lost; give {} another name", "plan {mix} {model} --lock {mix2}",
         "plan {mix} {model} --lock {tmp}/apart.json"),
    Case("is a file, and the output would be inside it; give another -o", "apply {mix} {model} -o {mix}/o.gguf",
         "apply {mix} {model} -o {tmp}/inside.gguf"),
    Case("would be written by two recipes, {}; give one of them another name ('name:' in the recipe)",
         "apply {mix} {same} {model} -o {tmp}/many --dry-run", "apply {mix} {mix2} {model} -o {tmp}/many --dry-run"),
    Case("would be written twice: {} is given two times; leave one out",
         "apply {mix} {mix} {model} -o {tmp}/many --dry-run", "apply {mix} {model} -o {tmp}/many --dry-run"),
    Case("has the name of {}, '{}'; of one model both would be written to one file: give it another 'name:'",
         "check {mix} {same}", "check {mix} {mix2}", refused=False),
    Case("'{}' is no number of tokens; write one like 32768 or 32k", "plan {mix} {model} --ctx 4kB",
         "plan {mix} {model} --ctx 4k"),
    Case("{}; anchor it: '^output\\.weight$'", "lint {unanchored} {model} --strict", "lint {anchored} {model}"),
    Case("this list could be of either engine; say which with --dialect",
         "import {either} --model {model} --base Q4_K_M",
         "import {either} --model {model} --base Q4_K_M --dialect ik_llama.cpp"),
    Case("the suffix says which format an importance matrix is written in: name it .gguf (llama.cpp, with counts per "
         "expert) or .dat (which ik_llama.cpp reads)", "imatrix convert {imatrix} -o {tmp}/i.bin",
         "imatrix convert {imatrix} -o {tmp}/i.gguf"),
    Case("is no file of lattices; make one with 'qxmix inspect MODEL --lattice -o L.json'",
         "plan {mix} {model} --lattice {m}", "inspect {model} --lattice -o {tmp}/lattices.json"),
    Case("the smallest choice has {} bytes, which is more than asked for; raise the size, or allow smaller types",
         "solve {model} --size 1000", "solve {model} --size 4MB -o {tmp}/s5.yaml"),
    Case("'{}': {}; write 'exps=100GiB' or 'rest=20GiB'", "solve {model} --budget exps",
         "solve {model} --budget rest=4MB -o {tmp}/s6.yaml"),
    Case("a GGUF has the types of all its tensors; leave out --dialect and --base, and --set",
         "import {out} --model {model} --base Q4_K_M", "import {out} --model {model}"),
    Case("is a folder; give the file in it, such as {}", "plan {mix} {tmp}", "plan {mix} {model}"),
    Case("give the TYPE of its llama-quantize command line with --base, for example --base Q4_K_M",
         "import {rules} --model {model} --dialect ik_llama.cpp",
         "import {rules} --model {model} --dialect ik_llama.cpp --base Q4_K_M"),
    Case("there is no such file; write the command line into a file, or pipe it to 'qxmix import -'",
         "import 'llama-quantize in.gguf out.gguf Q4_K_M' --model {model}", "import {script} --model {model}"),
    Case("allow it by a recipe of three lines: 'qxmix: 1', 'extends: [{}]' and 'allow_requantize: true'",
         "plan pure/q4_0 {out}", "plan {r} {out}", "qxmix: 1\nextends: [pure/q4_0]\nallow_requantize: true\n"),
)  # fmt: skip

_HEAD = "qxmix: 1\ntarget: ik_llama.cpp\n"
_Q = f"{_HEAD}default: q8_0\n"
RECIPES = (
    of_recipe("write the engine that is to load the model: llama.cpp, ik_llama.cpp or any",
              "qxmix: 1\ndefault: q8_0\n", f"{_Q}"),
    of_recipe("{} is not a type of {}; choose another, or the target {}",
              "qxmix: 1\ntarget: llama.cpp\ndefault: iq4_k\n",
              "qxmix: 1\ntarget: ik_llama.cpp\ndefault: iq4_k\nfallback: [q8_0]\n"),
    of_recipe("'force' quantizes and 'type: keep' does not; drop one",
              f"{_Q}rules: [{{match: norm, type: keep, force: true}}]\n",
              f"{_Q}rules: [{{match: norm, type: keep}}]\n"),
    of_recipe("'{}' already means something in a layer selector; choose another name",
              f"{_Q}layers: {{first: '0-1'}}\n", f"{_Q}layers: {{edge: '0-1'}}\n"),
    of_recipe("{} is not a type for weights; choose another", f"{_HEAD}default: i8\n", f"{_Q}"),
    of_recipe("'{}' is no test of {}; write a number or >1, >=4, <8, !=8, %256, !%256",
              f"{_Q}rules: [{{when: {{n_cols: '>>2'}}, type: q8_0}}]\n",
              f"{_Q}rules: [{{when: {{n_cols: '%256'}}, type: q8_0}}]\n"),
    of_recipe("'{}' is no test of {}; write a name, or !name for all others",
              f"{_Q}rules: [{{when: {{arch: '>2'}}, type: q8_0}}]\n",
              f"{_Q}rules: [{{when: {{arch: '!falcon'}}, type: q8_0}}]\n"),
    of_recipe("the range '{}' is empty; write range({}/{}, {}/{})",
              f"{_Q}rules: [{{layers: 'range(1/2, 1/4)', type: q8_0}}]\n",
              f"{_Q}rules: [{{layers: 'range(1/4, 1/2)', type: q8_0}}]\n"),
    of_recipe("the range '{}' is empty; write {}-{}", f"{_Q}rules: [{{layers: '3-1', type: q8_0}}]\n",
              f"{_Q}rules: [{{layers: '1-3', type: q8_0}}]\n"),
    of_recipe("'!{}': the set itself takes layers away; name the layers that stay instead",
              f"{_Q}layers: {{a: '!1'}}\nrules: [{{layers: '!a', type: q8_0}}]\n",
              f"{_Q}layers: {{a: '1'}}\nrules: [{{layers: '!a', type: q8_0}}]\n"),
    of_recipe("'{}': {} is no fraction of the layers; write one between 0/1 and 1/1",
              f"{_Q}rules: [{{layers: first(3/2), type: q8_0}}]\n",
              f"{_Q}rules: [{{layers: first(1/2), type: q8_0}}]\n"),
    of_recipe("what running takes depends on the context; say for which one this holds, like 'ctx: 32768'",
              f"{_Q}limits: {{max_vram: 1GiB}}\n",
              f"{_Q}limits: {{max_vram: 1GiB, ctx: 512}}\n"),
    of_recipe("says for what use limits on memory hold, and there are none; add max_vram or max_ram, or drop it",
              f"{_Q}limits: {{ctx: 512}}\n",
              f"{_Q}limits: {{ctx: 512, max_vram: 1GiB}}\n"),
    of_recipe("'{}' is named twice under 'metadata'; drop one",
              f"{_Q}metadata: {{set: {{a.b: c}}, remove: [a.b]}}\n",
              f"{_Q}metadata: {{set: {{a.b: c}}}}\n"),
    of_recipe("'{}' is no size; write bytes, or a number with MB, MiB, GB or GiB",
              f"{_Q}limits: {{max_size: 1 elephant}}\n", f"{_Q}limits: {{max_size: 1GB}}\n"),
    of_recipe("YAML merge keys ('<<') are not supported; write the keys out, or use 'extends'",
              f"{_Q}limits: {{<<: {{max_bpw: 9}}}}\n", f"{_Q}limits: {{max_bpw: 9}}\n"),
    of_recipe("the alias *{} has no anchor &{} before it; quote a text that starts with *",
              f"{_Q}name: *mix\n", f"{_Q}name: '*mix'\n"),
    of_recipe("in double quotes YAML reads the backslash itself; put the pattern in single quotes",
              f'{_Q}rules: [{{match: "blk\\.1", type: q8_0}}]\n',
              f"{_Q}rules: [{{match: 'blk\\.1', type: q8_0}}]\n"),
    of_recipe("{} cannot hold {}: {}; choose another type, or write types to try instead: 'fallback: [{}]'",
              f"{_HEAD}default: q4_k\nfallback: error\n", f"{_HEAD}default: q4_k\nfallback: [q5_0]\n"),
    of_recipe("say which number '{}' is: {}: {{type: uint32, value: {}}}".replace("{{", "{").replace("}}", "}"),
              f"{_Q}metadata: {{set: {{a.b: 5}}}}\n",
              f"{_Q}metadata: {{set: {{a.b: {{type: uint32, value: 5}}}}}}\n"),
    of_recipe("add the line 'allow_requantize: true' to {}", f"{_HEAD}default: q4_0\n",
              f"{_HEAD}default: q4_0\nallow_requantize: true\n", "plan {r} {out}"),
    of_recipe("already quantized to {}; quantizing again adds to the loss of {}; "
              "start from the F16 or BF16 model, or {}",
              f"{_HEAD}default: q4_0\n", f"{_HEAD}default: q4_0\nallow_requantize: true\n", "plan {r} {out}"),
    of_recipe("widen or drop the rule's 'expect'",
              f"{_Q}rules: [{{match: attn_v, type: q8_0, expect: {{min: 9}}}}]\nsilence: {{expect: it is so}}\n",
              f"{_Q}rules: [{{match: attn_v, type: q8_0, expect: {{min: 1}}}}]\n"),
    of_recipe("; YAML takes that for a text: write {}{}e{}{}", f"{_Q}feedback: {{damp: 1e-3}}\n",
              f"{_Q}feedback: {{damp: 1.0e-3}}\n"),
    of_recipe("; YAML takes that for a text: write {}{}e{}{}", f"{_Q}limits: {{max_bpw: 1.5e1}}\n",
              f"{_Q}limits: {{max_bpw: 1.5e+1}}\n"),
    of_recipe("; YAML takes {} for that: write '{}'", f"{_HEAD}name: on\ndefault: q8_0\n",
              f"{_HEAD}name: 'on'\ndefault: q8_0\n"),
    of_recipe("raise or drop 'limits'", f"{_Q}limits: {{max_bpw: 2}}\nsilence: {{limit-bpw: it is so}}\n", _Q),
)  # fmt: skip

_LEFT, _RIGHT = "\N{LEFT DOUBLE QUOTATION MARK}", "\N{RIGHT DOUBLE QUOTATION MARK}"
_Q4 = "in.gguf out.gguf Q4_K_M\n"
SCRIPTS = (
    of_script("'{}' begins with a dash that is no hyphen ({}); write --{}",
              f"llama-quantize \N{EN DASH}custom-q attn_v=q8_0 {_Q4}", f"llama-quantize --custom-q attn_v=q8_0 {_Q4}"),
    of_script("'{}' has a quotation mark that a shell does not know ({}, {}); write ' or \"",
              f"llama-quantize --custom-q {_LEFT}attn_v=q8_0{_RIGHT} {_Q4}",
              f'llama-quantize --custom-q "attn_v=q8_0" {_Q4}'),
    of_script("'{}' has one dash, llama-quantize's options have two; write -{}",
              f"llama-quantize -custom-q attn_v=q8_0 {_Q4}", f"llama-quantize --custom-q attn_v=q8_0 {_Q4}"),
    of_script("'{}' is no option of llama-quantize; leave out '{}'", f"llama-quantize --pure {_Q4[:-1]} -j 8\n",
              f"llama-quantize --pure {_Q4}"),
    of_script("white space cuts a rule into words; write {}", f"llama-quantize --custom-q attn_v = q8_0 {_Q4}",
              f"llama-quantize --custom-q attn_v=q8_0 {_Q4}"),
    of_script("what stands between @{} and {}@ is not read; write it on one line, its rules by commas",
              f"$c = @'\nattn_v=q8_0\n'@\n& llama-quantize --custom-q $c {_Q4}",
              f"$c = 'attn_v=q8_0'\n& llama-quantize --custom-q $c {_Q4}"),
    of_script("'{}' stands behind the files, where llama-quantize takes no options; move it before them",
              "llama-quantize in.gguf out.gguf --custom-q attn_v=q8_0 Q4_K_M\n",
              f"llama-quantize --custom-q attn_v=q8_0 {_Q4}"),
    of_script("'{}' stands where the TYPE should, and is none of {}; write one like Q4_K_M there",
              "llama-quantize in.gguf out.gguf Q4_K_Q\n", f"llama-quantize {_Q4}"),
    of_script("no TYPE of {} like Q4_K_M stands behind the files of the command; add it, or give --base TYPE",
              "llama-quantize in.gguf out.gguf\n", f"llama-quantize {_Q4}"),
    of_script("llama-quantize takes no '=' there; write {} {} with a space",
              f"llama-quantize --custom-q=attn_v=q8_0 {_Q4}", f"llama-quantize --custom-q attn_v=q8_0 {_Q4}"),
    of_script("put its value in its place, or give it with --set {}=VALUE", "llama-quantize in.gguf out.gguf $TYPE\n",
              "llama-quantize in.gguf out.gguf $TYPE\n", then="--set TYPE=Q4_K_M"),
    of_script(", or give them with {}", 'llama-quantize --custom-q "$R" in.gguf out.gguf $TYPE\n',
              'llama-quantize --custom-q "$R" in.gguf out.gguf $TYPE\n', then="--set R=attn_v=q8_0 --set TYPE=Q4_K_M"),
    of_script("{} are not told by this text; put in their place what they stand for{}",
              'llama-quantize --custom-q "$R" in.gguf out.gguf $TYPE\n',
              f"llama-quantize --custom-q 'attn_v=q8_0' {_Q4}"),
    of_script("has {} llama-quantize commands (lines {}); leave one", f"llama-quantize {_Q4}llama-quantize {_Q4}",
              f"llama-quantize {_Q4}"),
    of_script("a shell may put other words in for '{}' in '{}'; put the word into single quotes",
              f"llama-quantize --custom-q attn_v.*=q8_0 {_Q4}", f"llama-quantize --custom-q 'attn_v.*=q8_0' {_Q4}"),
    of_script("'{}' is neither an option nor a file: one word follows --tensor-type or --custom-q; give it an option "
              "of its own, or take the space before it out",
              f"llama-quantize --custom-q attn_v=q8_0, ffn_down=q6_K {_Q4}",
              f"llama-quantize --custom-q attn_v=q8_0,ffn_down=q6_K {_Q4}"),
)  # fmt: skip


@pytest.fixture(scope="module")
def files(
    demo_model: Path, demo_imatrix: Path, demo_text: bytes, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("advice")
    made = {
        "mix": f"{_HEAD}name: one\ndefault: q8_0\n", "mix2": f"{_HEAD}name: two\ndefault: q8_0\n",
        "weighted_mix": f"{_HEAD}default: q4_0\n", "m": "{}", "same": f"{_HEAD}name: one\ndefault: q5_0\n",
        "old": f"{_HEAD}name: old\ndefault: q5_0\n",
        "unanchored": f"{_Q}rules: [{{match: 'output', type: q6_0}}]\n", "either": "attn_v=q8_0\n",
        "anchored": f"{_Q}rules: [{{match: '^output\\.weight$', type: q6_0}}]\n",
        "script": "llama-quantize --custom-q 'attn_v=q8_0' in.gguf out.gguf Q4_K_M\n", "rules": "attn_v=q8_0\n",
    }  # fmt: skip
    suffixes = {"m": ".json", "script": ".sh", "rules": ".txt", "either": ".txt"}
    paths = {name: folder / f"{name}{suffixes.get(name, '.yaml')}" for name in made}
    for name, text in made.items():
        paths[name].write_text(text)
    (folder / "text.txt").write_bytes(demo_text)
    (folder / "dir.gguf").mkdir()
    paths |= {"model": demo_model, "imatrix": demo_imatrix, "tmp": folder, "out": folder / "out.gguf"}
    paths |= {"weighted": folder / "weighted.gguf", "header": folder / "header.gguf"}
    paths |= {"lock": folder / "one.lock.json", "lock2": folder / "two.lock.json"}
    for words in (
        "apply {mix} {model} -o {out}",
        "apply {weighted_mix} {model} --imatrix {imatrix} -o {weighted}",
        "header {model} -o {header}",
        "plan {mix} {model} --lock {lock}",
        "plan {mix2} {model} --lock {lock2}",
    ):
        done = CliRunner().invoke(main, shlex.split(words.format(**paths)))
        assert done.exit_code == 0, done.output
    for more in (prepare, prepare_measured, prepare_engine):
        paths |= more(folder, paths)
    return {name: str(path) for name, path in paths.items()}


CASES = (*COMMANDS, *RECIPES, *SCRIPTS, *MORE, *MEASURED, *ENGINE)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.text[:50])
def test_what_the_message_says_works(case: Case, files: dict[str, str], tmp_path: Path) -> None:
    recipe = tmp_path / f"r{case.suffix}"
    words = files | {"r": str(recipe)} | ({"script": str(recipe)} if case.suffix != ".yaml" else {})
    recipe.write_text(case.recipe)
    told = CliRunner().invoke(main, shlex.split(case.bad.format(**words)))
    assert (told.exit_code != 0) == case.refused, told.output
    assert pattern(case.text).search(" ".join(told.output.split())), told.output
    recipe.write_text(case.mended or case.recipe)
    done = CliRunner().invoke(main, shlex.split(case.good.format(**words)))
    assert done.exit_code == 0, done.output
    assert not pattern(case.text).search(" ".join(done.output.split())), done.output


TYPE_FILE = "the --tensor-type-file {} is not there; put it beside {}"


def test_a_file_of_types_is_put_beside_its_script(demo_model: Path, tmp_path: Path) -> None:
    script = tmp_path / "x.sh"
    script.write_text("llama-quantize --tensor-type-file types.txt in.gguf out.gguf Q4_K_M\n")
    words = ["import", str(script), "--model", str(demo_model)]
    told = CliRunner().invoke(main, words)
    assert (told.exit_code, bool(pattern(TYPE_FILE).search(told.output))) == (2, True)
    (tmp_path / "types.txt").write_text("attn_v=q8_0\n")
    assert CliRunner().invoke(main, words).exit_code == 0


def test_every_advice_is_followed_or_listed_with_the_reason() -> None:
    """A new message with advice needs a case above; the list of those that have none may only become shorter."""
    followed = {case.text for case in CASES} | {TYPE_FILE, *ELSEWHERE}
    lines = UNFOLLOWED.read_text(encoding="utf-8").splitlines()
    listed = {line.partition("  ")[2] for line in lines if line and not line.startswith("#")}
    assert followed - advice() == set(), "no source has this text any more"
    assert advice() - followed - listed == set(), "new advice: provoke it, do as it says, see it work"
    assert listed - advice() == set(), "gone from the sources: take it from the list"
    assert listed & followed == set(), "followed now: take it from the list"
