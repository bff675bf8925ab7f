"""Command lines of five commands, their recipes and scripts, changed by mutation: none ends in a traceback."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import TYPE_CHECKING

from click.testing import CliRunner

from qxmix.cli.main import main
from tests.fuzz.recipes import mutated_recipe
from tests.fuzz.scripts import MODEL, mutated_script
from tests.planning.models import write

if TYPE_CHECKING:
    from pathlib import Path

_SEEDS = """
plan r.yaml m.gguf --all
plan r.yaml m.gguf --json --strict
plan r.yaml m.gguf --split-max-size 1M --markdown
plan llama.cpp/q4_k_m m.gguf
lint r.yaml m.gguf --strict
lint r.yaml m.gguf --publish
lint ik_llama.cpp/iq4_ks m.gguf --json
plan r.yaml m.gguf --explain blk.0.attn_v.weight --ctx 4096 --vram 24GiB
plan r.yaml m.gguf --map --ctx 512 --kv-type q8_0
import s.sh --model m.gguf
import s.sh --model m.gguf --dialect thireus
import s.sh --model m.gguf --base pure/q8_0 --set A=q8_0
verify m.gguf --source m.gguf
verify out.gguf --source m.gguf
verify out.gguf --json
verify bad.gguf --source m.gguf
recipe-of bad.gguf
diff r.yaml llama.cpp/q4_0 m.gguf
diff pure/q8_0 llama.cpp/q8_0
diff m.gguf r.yaml m.gguf --json
diff out.gguf r.yaml m.gguf --markdown
diff bad.gguf m.gguf
"""
_WORDS = """
--all --json --strict --imatrix --lock --nonsense -o -j 0 -1 9999999999999999999 r.yaml m.gguf none.yaml . /
llama.cpp/q4_0 llama.cpp/none pure/q4_0 --source --split-max-size 1G 0 "" -- - = --json=x nan 1e999 ../../x
s.sh out.gguf HEAD:r.yaml --model --base --set A=1 --dialect --publish --ctx --kv-type q9_0 --vram 1,2 --markdown
--measure --explain --map --moments --target llama.cpp --locked --extra blk.0.ffn_down.weight
"""

_FILES = {"r.yaml", "s.sh", "m.gguf", "out.gguf", "bad.gguf"}


def mutated_command(rng: Random) -> bytes:
    """A command line, a recipe and a script, with a NUL character between them."""
    words = rng.choice(_SEEDS.strip().split("\n")).split()
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        at = rng.randrange(1, len(words) + 1)
        if rng.random() < 0.3 and len(words) > 1:
            del words[at - 1 if at == len(words) else at]
        else:
            words[at : at + rng.randrange(2)] = [rng.choice(_WORDS.split())]
    return b"\0".join(("\n".join(words).encode(), mutated_recipe(rng), mutated_script(rng)))


def fuzz_command(data: bytes, folder: Path) -> str:
    """Run it in this process; returns what it says where it ends in an error."""
    line, recipe, script = data.split(b"\0", 2)
    (folder / "r.yaml").write_bytes(recipe)
    (folder / "s.sh").write_bytes(script)
    output = _files(folder)
    if b"bad.gguf" in line:
        (folder / "bad.gguf").write_bytes(_damaged(output.read_bytes(), Random(data)))  # noqa: S311
    words = [str(folder / w) if w in _FILES else w for w in line.decode().split("\n") if w not in ("-o", "--lock")]
    result = CliRunner().invoke(main, ["none.yaml" if w == "-" else w for w in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 1, 2, 3)
    assert "Traceback" not in result.output
    lines = [x for x in result.output.split("\n") if x.strip()]
    return lines[-1][:200] if result.exit_code and lines else ""


@cache
def _files(folder: Path) -> Path:
    """An output, its model beside it."""
    model, output, recipe = write(MODEL, folder / "m.gguf"), folder / "out.gguf", folder / "small.yaml"
    recipe.write_text("{qxmix: 1, name: small, target: any, default: q8_0, fallback: error}\n")
    done = CliRunner().invoke(main, ["apply", str(recipe), str(model), "-o", str(output)])
    assert done.exit_code == 0, (done.output[-600:], done.exception)
    return output


def _damaged(data: bytes, rng: Random) -> bytes:
    """The output with a few characters of what it says of its making replaced by others."""
    at, end = data.index(b"qxmix."), data.rindex(b"qxmix.") + 2000
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 2, 5))):
        damaged[rng.randrange(at, end)] = rng.randrange(256)
    return bytes(damaged)
