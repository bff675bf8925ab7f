"""Every word of a source is consumed by a rule of the grammar or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from qxmix.dialects.parse import parse_source
from qxmix.errors import RecipeError

COMMAND = "./llama-quantize "
FILES = " m.gguf o.gguf Q4_K_M"
RULES = [("attn_v", "Q8_0"), ("ffn_down", "Q6_K")]


def rules(text: str, suffix: str = ".sh", **given: str) -> list[tuple[str, str]]:
    mix = parse_source(text, Path(f"x{suffix}"), None, None, given)
    assert [(r.pattern, r.type) for r in mix.rules] == list(mix.reading.rules)
    return list(mix.reading.rules)


def error_of(text: str, suffix: str = ".sh", base: str | None = None, **given: str) -> str:
    with pytest.raises(RecipeError) as caught:
        parse_source(text, Path(f"x{suffix}"), None, base, given)
    return str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--tensor-type attn_v=q8_0 ffn_down=q6_k" + FILES, "'ffn_down=q6_k' is neither an option nor a file"),
        ('--custom-q "attn_v=q8_0", "ffn_down=q6_K"' + FILES, "'ffn_down=q6_K' is neither an option nor a file"),
        ("--custom-q 'attn_v=q8_0, ffn_down=q6_K'" + FILES, "' ffn_down=q6_K' has white space around it"),
        ("\u2014tensor-type attn_v=q8_0" + FILES, "a dash that is no hyphen (U+2014); write --tensor-type"),
        ("\u2013-pure" + FILES, "a dash that is no hyphen (U+2013); write --pure"),
        ("\u2212-pure" + FILES, "(U+2212)"),
        ("-tensor-type attn_v=q8_0" + FILES, "'-tensor-type' has one dash"),
        ("m.gguf o.gguf Q4_K_M -j 8", "'-j' is no option of llama-quantize; leave out '-j 8'"),
        ("-t 8 m.gguf o.gguf Q4_K_M", "'-t' is no option of llama-quantize; leave out '-t 8'"),
        ("-v m.gguf o.gguf Q4_K_M", "'-v' is no option of llama-quantize; leave out '-v'"),
        ("--tensor-type attn_v = q8_0" + FILES, "white space cuts a rule into words; write attn_v=q8_0"),
        ("--tensor-type attn_v= q8_0" + FILES, "white space cuts a rule into words; write attn_v=q8_0"),
        ("--custom-q attn_v =q8_0" + FILES, "white space cuts a rule into words; write attn_v=q8_0"),
        (
            "--tensor-type \u201cattn_v=q8_0\u201d" + FILES,
            "a quotation mark that a shell does not know (\u201c, U+201C)",
        ),
        ("--pure\u00a0m.gguf o.gguf Q4_K_M", "cannot be seen (U+00A0"),
        ("--tensor-type=attn_v=q8_0" + FILES, "write --tensor-type attn_v=q8_0 with a space"),
        ("m.gguf o.gguf Q4_K_M --tensor-type attn_v=q8_0", "'--tensor-type' stands behind the files"),
        ("m.gguf o.gguf Q4_K_M 8 extra", "'extra' stands behind the number of threads"),
        ("m.gguf o.gguf Q4_K_M extra", "'extra' stands behind Q4_K_M, where only a number of threads may"),
        ("m.gguf o.gguf p.gguf Q4_K_M", "'p.gguf' is neither an option nor in.gguf"),
        ("m.gguf 15b.gguf 7", "reads '15b.gguf' as file type 15"),
        ('"${ARGS[@]}"' + FILES, "'${ARGS[@]}' is not told by this text; put in its place"),
        ("$A" + FILES, "'$A' is not told by this text; put its value in its place, or give it with --set A=VALUE"),
        ('"$@"' + FILES, "'$@' is not told by this text"),
        ("%OPTS%" + FILES, "'%OPTS%' is a variable of cmd.exe"),
        ("$(cat options)" + FILES, "'$(cat options)' is not told"),
        ("`cat options`" + FILES, "'`cat options`' is not told"),
        ("--tensor-type blk.[0-9].attn_v=q8_0" + FILES, "'[0-9]' in 'blk.[0-9].attn_v=q8_0'; put the word into single"),
        ("--tensor-type attn_{q,k}=q8_0" + FILES, "'{q,k}' in 'attn_{q,k}=q8_0'"),
        ("*.gguf o.gguf Q4_K_M", "'*' in '*.gguf'"),
        ("$IN o.gguf Q4_K_M", "'$IN' is not told"),
        ("m.gguf $OUT Q4_K_M", "'$OUT' is not told"),
        ("m.gguf Q4_K_M $N", "'$N' is not told"),
        ("--imatrix $IMAT" + FILES, "the value of --imatrix is $IMAT"),
        ("m.gguf o.gguf ${QUANT:-$OTHER}", "--set QUANT=VALUE"),
        (
            '"$IN" "$OUT" "$TYPE"',
            "'$TYPE' is not told by this text; put its value in its place, or give it with --set T",
        ),
        ("--imatrix <(cat x)" + FILES, "<(cat x)"),
        ("m.gguf o.gguf Q4_K_M > ~", "a shell cannot write to '~' and does not start the command"),
        ("m.gguf o.gguf Q4_K_M 2>~&1", "a shell cannot write to '~'"),
        ("m.gguf o.gguf Q4_K_M &> ~someone", "a shell cannot write to '~someone'"),
        ("m.gguf o.gguf Q4_K_M >> logs/", "a shell cannot write to 'logs/'"),
        ('m.gguf o.gguf Q4_K_M > ""', "a shell cannot write to ''"),
        ("m.gguf o.gguf Q4_K_M > ..", "a shell cannot write to '..'"),
        ("m.gguf o.gguf Q4_K_M <<", "a << lacks the word that ends it"),
        ("m.gguf o.gguf Q4_K_M \0", "x.sh:1: there is a NUL character"),
        ("${ARGS[8@]}" + FILES, "'${ARGS[8@]}' is not told"),
        ("${ARGS[@8]}" + FILES, "'${ARGS[@8]}' is not told"),
        (f"${{ARGS[{'9' * 5000}]}}" + FILES, "is not told"),
        ("${8@}" + FILES, "'${8@}' is not told"),
        ("m.gguf o.gguf Q4_K_M 2>&18", "a shell stops at '18' here"),
        ('--custom-q "$(echo a=q8_0 | sed)"' + FILES, "the value of --custom-q is $(echo a=q8_0 | sed)"),
        ("--custom-q a=q6_K --output-tensor-type Q8_0" + FILES, "drops '--output-tensor-type Q8_0' without a word"),
    ],
)
def test_a_word_that_is_lost_is_named(words: str, message: str) -> None:
    assert message in error_of(COMMAND + words)


@pytest.mark.parametrize(
    "text",
    [
        "{c}{r} m.gguf o.gguf Q4_K_M 8 2>&1 | tee log.txt",
        "{c}{r} m.gguf o.gguf Q4_K_M > log 2>&1 &",
        "{c}{r} m.gguf o.gguf Q4_K_M $(nproc)",
        "cd /models && {c}{r} m.gguf o.gguf Q4_K_M; ls -la *.gguf",
        "if [ ! -f o.gguf ]; then\n  {c}{r} m.gguf o.gguf Q4_K_M\nfi",
        "ARGS=(--tensor-type attn_v=q8_0)\nARGS+=(--tensor-type 'ffn_down=q6_k')\n{c}\"${{ARGS[@]}}\" m.gguf Q4_K_M",
        'ARGS=(\n --tensor-type attn_v=q8_0 \\\n --tensor-type ffn_down=q6_k\n)\n{c}"${{ARGS[@]}}" m.gguf Q4_K_M',
        'A="{r}"\n{c} $A m.gguf o.gguf Q4_K_M',
        "q=Q4_K_M\n{c}{r} m.gguf m-$q.gguf ${{q}}",
        '{c}{r} "$MODEL/m.gguf" "$MODEL/o-$q.gguf" Q4_K_M',
        "Use this:\n\n```bash\n$ {c}{r} m.gguf o.gguf Q4_K_M\n```\nIt isn't slow.",
        "CUDA_VISIBLE_DEVICES=0 time nohup numactl -N 0 -m 0 {c}{r} m.gguf o.gguf Q4_K_M",
        "sudo -E env A=b {c}{r} m.gguf o.gguf Q4_K_M",
        "docker run --rm -v /m:/m ghcr.io/ggml-org/llama.cpp:full --quantize {r} /m/m.gguf /m/o.gguf Q4_K_M",
        "docker run --rm -v /m:/m --entrypoint llama-quantize image {r} /m/m.gguf /m/o.gguf Q4_K_M",
        "cmake --build build --target llama-quantize\n./build/bin/llama-quantize {r} m.gguf o.gguf Q4_K_M",
        ".\\llama-quantize.exe {r} ^\n  m.gguf o.gguf Q4_K_M",
        "set OPTS={r}\nllama-quantize.exe %OPTS% m.gguf o.gguf Q4_K_M",
        ".\\llama-quantize.exe {r} `\n  m.gguf o.gguf Q4_K_M",
        "$m = 'm.gguf'\n& .\\llama-quantize.exe {r} $m o.gguf Q4_K_M",
    ],
)
def test_what_stands_around_a_command_is_understood(text: str) -> None:
    options = "--tensor-type attn_v=q8_0 --tensor-type ffn_down=q6_k"
    assert rules(text.format(c=COMMAND, r=options)) == RULES


@pytest.mark.parametrize(
    "text",
    [
        "custom='attn_v=q8_0\n# why\nffn_down=q6_K'\ncustom=$(echo \"$custom\" | grep -v '^#' | tr '\\n' ',')\n",
        (
            'custom="\n# why\nattn_v=q8_0\n\nffn_down=q6_K\n"\ncustom=$(\n  echo "$custom" | grep -v \'^#\' | \\\n'
            "  sed -Ez 's:\\n+:,:g;s:,$::;s:^,::'\n)\n"
        ),
        "read -r -d '' custom <<'EOF'\nattn_v=q8_0\nffn_down=q6_K\nEOF\ncustom=$(echo \"$custom\" | paste -sd,)\n",
        "custom=$(cat <<EOF | grep -v '^#' | sed ':a;N;$!ba;s/\\n/,/g'\nattn_v=q8_0\n# why\nffn_down=q6_K\nEOF\n)\n",
        "custom=attn_v=q8_0\ncustom+=,ffn_down=q6_K\n",
    ],
)
def test_pipelines_that_clean_a_list_are_followed(text: str) -> None:
    assert rules(f'{text}./llama-quantize --custom-q "$custom" m.gguf o.gguf Q4_K_M') == RULES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("custom=$(echo 'attn_v=q8_0' | sed s/q8/q6/)\n", "llama-quantize is told 'attn_v=q6_0' where the text has"),
        ("custom=$(echo 'attn_v=q8_0' | awk '{print}')\n", "the value of --custom-q is $custom"),
        ("[ -z \"$1\" ] && custom='attn_v=q8_0'\n", "the value of --custom-q is $custom"),
        ("if true; then\n custom='attn_v=q8_0'\nfi\n", "the value of --custom-q is $custom"),
        ("custom='attn_v=q8_0'\nsource settings.sh\n", "the value of --custom-q is $custom"),
        ("exit 0\n", "the script ends here"),
        ("local custom='attn_v=q8_0'\n", "x.sh:1: 'local' stands outside of a function"),
        ("f() { true; }\n local custom='attn_v=q8_0'\n", "x.sh:2: 'local' stands outside of a function"),
        ("readonly custom='attn_v=q8_0'\ncustom+=,ffn=q6_K\n", "x.sh:2: 'custom' was made read-only above"),
        ("declare -r custom='attn_v=q8_0'\nexport custom=ffn=q6_K\n", "x.sh:2: 'custom' was made read-only above"),
        ("declare -u custom='attn_v=q8_0'\n", "the value of --custom-q is $custom"),
        ("typeset -i custom=8\n", "the value of --custom-q is $custom"),
        ("customé='attn_v=q8_0'\n", "the value of --custom-q is $custom"),
        ("custom=$(echo 'attn_v=q8_0' \\\n #x\n | tr -d x)\n", "the value of --custom-q is $custom"),
        ("custom=$(echo 'attn_v=q8_0' | grep -v \\\n # why\n '^#')\n", "the value of --custom-q is $custom"),
        ("custom=$(echo 'attn_v=q8_0' << | tr -d x)\n", "a << lacks the word that ends it"),
        ("custom=$(echo 'attn_v=q8_0' > ~)\n", "the value of --custom-q is $custom"),
    ],
)
def test_what_cannot_be_followed_is_not_known(text: str, message: str) -> None:
    assert message in error_of(f'{text}./llama-quantize --custom-q "$custom" m.gguf o.gguf Q4_K_M')


@pytest.mark.parametrize(
    "text",
    [
        "export -p\nreadonly custom='attn_v=q8_0'\ndeclare -x A=b\n{c}\n",
        "f() {{\n local custom='attn_v=q8_0'\n {c}\n}}\nf\n",
        "function f {{\n local -r custom='attn_v=q8_0'\n {c}\n}}\nf\n",
        "custom='attn_v=q8_0'\nlog=run.txt\n{c} > $log 2>&1\n",
        "custom='attn_v=q8_0'\n{c} > ~/log.txt 2>&1\n",
    ],
)
def test_what_a_shell_does_set_is_known(text: str) -> None:
    assert rules(text.format(c='./llama-quantize --custom-q "$custom" m.gguf o.gguf IQ4_K')) == RULES[:1]


@pytest.mark.parametrize("start", ["\\ ./llama-quantize", " \\ ./llama-quantize", "' ./llama-quantize'"])
def test_a_space_in_the_name_of_the_program(start: str) -> None:
    assert "' ./llama-quantize' begins with a space" in error_of(f"{start} --tensor-type attn_v=q8_0{FILES}")


def test_a_word_that_powershell_takes_for_two() -> None:
    assert 'put all of ""8 into them' in error_of(f'{COMMAND}--pure `\n{FILES} ""8')
    assert "PowerShell ends a word behind its quotes" in error_of(
        f"& {COMMAND}--tensor-type 'attn_v'=q8_0{FILES}", suffix=".ps1"
    )


def test_a_loop_says_so_and_its_advice_works() -> None:
    text = 'for q in Q4_K_M IQ4_XS; do\n  ./llama-quantize --tensor-type attn_v=q8_0 m.gguf "m-$q.gguf" $q\ndone\n'
    message = error_of(text)
    assert "x.sh:2: llama-quantize stands in a loop over q (Q4_K_M, IQ4_XS)" in message
    assert message.endswith("--set q=Q4_K_M")
    assert [parse_source(text, Path("x.sh"), None, None, {"q": q}).base for q in ("Q4_K_M", "IQ4_XS")] == [
        "Q4_K_M", "IQ4_XS",
    ]  # fmt: skip


@pytest.mark.parametrize("base", [None, "Q4_K_M"])
def test_rules_on_lines_that_are_not_read_are_named(base: str | None) -> None:
    text = "./llama-quantize \\\n --tensor-type attn_v=q8_0\n --tensor-type ffn_down=q6_k m.gguf o.gguf Q4_K_M"
    assert "x.sh:3: '--tensor-type' stands on a line of its own" in error_of(text, base=base)
    assert rules(text.replace("q8_0\n", "q8_0 \\\n")) == RULES


def test_a_comment_that_ends_the_command_is_told() -> None:
    text = "./llama-quantize --tensor-type attn_v=q8_0 \\\n  # --pure \\\n  m.gguf o.gguf Q4_K_M"
    mix = parse_source(text, Path("x.sh"), None, None)
    assert mix.reading.caveats == ("a comment stands inside of the continued command on line 2, where a shell ends it",)


def test_lists_are_told_by_what_is_in_them() -> None:
    text = (
        '# made with llama-quantize --custom-q "$x"\n# it\'s mine\n^token_embd\\.weight$=q8_0\n^output\\.weight$=q6_K\n'
    )
    assert parse_source(text, Path("a.recipe"), None, None).dialect == "thireus"
    older = "## head\noutput_norm\\.weight=f32\ntoken_embd\\.weight=q8_0\nblk\\.(0|1)\\.ffn_up\\.weight=iq3_k\n"
    assert parse_source(older, Path("a.txt"), None, None).dialect == "thireus"


@pytest.mark.parametrize(
    "text",
    [
        'DIR=${{1:-/models}}\n{c}{r} --imatrix "$DIR/i.dat" "$DIR/m.gguf" "$DIR/o.gguf" Q4_K_M',
        "{c}{r} m.gguf o.gguf ${{QUANT:-Q4_K_M}}",
        "{c}{r} m.gguf o.gguf ${{2-Q4_K_M}}",
        "QUANT=\n{c}{r} m.gguf o.gguf ${{QUANT:-Q4_K_M}}",
        'Q=${{Q:-Q4_K_M}}\n{c}{r} --imatrix "$IMAT" "$1" "$2" $Q "$N"',
        "{c}{r} $DIR/m.gguf $DIR/o.gguf Q4_K_M $(nproc)",
    ],
)
def test_defaults_are_taken_and_names_of_files_not_asked_for(text: str) -> None:
    options = "--tensor-type attn_v=q8_0 --tensor-type ffn_down=q6_k"
    mix = parse_source(text.format(c=COMMAND, r=options), Path("x.sh"), None, None)
    assert (mix.base, mix.has_imatrix, len(mix.rules)) == ("Q4_K_M", "--imatrix" in text, 2)


@pytest.mark.parametrize(
    "before",
    [
        "source settings.sh\n",
        "set -- Q8_0\n",
        "if true; then QUANT=Q8_0; fi\n",
        "[ -n x ] && QUANT=Q8_0\n",
    ],
)
def test_a_default_is_not_taken_where_the_script_may_set_the_variable(before: str) -> None:
    text = before + f"{COMMAND}--pure m.gguf o.gguf ${{{'1' if 'set --' in before else 'QUANT'}:-Q4_K_M}}"
    assert "is not told by this text" in error_of(text)


def test_a_default_of_an_argument_of_a_function_is_not_taken() -> None:
    text = "f() {\n ./llama-quantize --pure m.gguf o.gguf ${1:-Q4_K_M}\n}\nf Q8_0\n"
    assert "'${1:-Q4_K_M}' is not told" in error_of(text)


def test_a_given_value_beats_a_default() -> None:
    text = f"{COMMAND}--pure m.gguf o.gguf ${{QUANT:-Q4_K_M}}"
    assert parse_source(text, Path("x.sh"), None, None, {"QUANT": "Q8_0"}).base == "Q8_0"


def test_all_that_is_to_be_given_is_named_at_once() -> None:
    command = (
        '  ./llama-quantize --token-embedding-type "$EMB" --custom-q "$R" --imatrix "$I" "m.gguf" "$D/$q.gguf" $q\n'
    )
    given = "--set EMB=VALUE --set R=VALUE"
    assert error_of(f"for q in Q4_K_M IQ4_XS; do\n{command}done\n").endswith(
        f"over q (Q4_K_M, IQ4_XS); import it once for each value: --set q=Q4_K_M {given}"
    )
    message = error_of(command)
    assert "'$EMB', '$R' and '$q' are not told by this text" in message
    assert message.endswith(f"or give them with {given} --set q=VALUE")
    values = {"EMB": "q8_0", "R": "attn_v=q8_0", "q": "IQ4_KS"}
    assert parse_source(command, Path("x.sh"), None, None, values).base == "IQ4_KS"


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("bash -c '", "'"),
        ('ssh box "cd /models && ', '"'),
        ("docker run --rm -v /m:/m image bash -c '", "'"),
        ("sudo su -c '", "' someone"),
        ('tmux new-session -d "', '"'),
        ("Start-Process powershell -ArgumentList '", "'"),
    ],
)
@pytest.mark.parametrize("options", ["--tensor-type attn_v=q8_0", ""])
def test_a_command_in_the_quotes_of_another_is_told(start: str, end: str, options: str) -> None:
    command = f"./llama-quantize {options}{FILES}"
    head = "sudo" if start.startswith("sudo") else start.split(maxsplit=1)[0]
    message = error_of(f"cd build\n{start}{command}{end}\n")
    assert f"x.sh:2: the command stands in quotes, for '{head}' to run it: '" in message
    assert message.endswith("import what is between them, alone")
    assert parse_source(command, Path("x.sh"), None, None).base == "Q4_K_M"


def test_what_only_speaks_of_a_command_is_no_command_in_quotes() -> None:
    text = "echo 'now llama-quantize m.gguf o.gguf Q8_0 runs'\nbash -c 'which llama-quantize'\n"
    assert rules(f"{text}{COMMAND}--tensor-type attn_v=q8_0{FILES}") == RULES[:1]


@pytest.mark.parametrize("mark", ["'", '"'])
def test_a_here_string_of_powershell_is_told(mark: str) -> None:
    call = f"& .\\llama-quantize.exe --custom-q $custom{FILES}"
    message = error_of(f'$custom = @{mark}\nattn_v=q8_0\n{mark}@ -replace "`n", ","\n{call}', ".ps1")
    assert message.startswith(f"x.ps1:1: what stands between @{mark} and {mark}@ is not read; write it on one line")
    assert rules(f"$custom = 'attn_v=q8_0'\n{call}", ".ps1") == RULES[:1]
