"""Command lines of ``plan``, ``lint``, ``verify`` and ``diff`` and their recipes, changed by mutation: no traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING

from click.testing import CliRunner

from qxmix.cli.main import main
from tests.fuzz.recipes import mutated_recipe
from tests.fuzz.scripts import MODEL
from tests.planning.models import write

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

_SEEDS = """
plan r.yaml m.gguf --all
plan r.yaml m.gguf --json --strict
plan llama.cpp/q4_k_m m.gguf
lint r.yaml m.gguf --strict
lint ik_llama.cpp/iq4_ks m.gguf --json
verify m.gguf --source m.gguf
diff r.yaml llama.cpp/q4_0 m.gguf
diff pure/q8_0 llama.cpp/q8_0
diff m.gguf r.yaml m.gguf --json
"""
_WORDS = """
--all --json --strict --imatrix --lock --nonsense -o -j 0 -1 9999999999999999999 r.yaml m.gguf none.yaml . /
llama.cpp/q4_0 llama.cpp/none pure/q4_0 --source --split-max-size 1G 0 "" -- - = --json=x nan 1e999 ../../x
"""


def mutated_command(rng: Random) -> bytes:
    """A command line, a NUL character, and a recipe."""
    words = rng.choice(_SEEDS.strip().split("\n")).split()
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        at = rng.randrange(1, len(words) + 1)
        if rng.random() < 0.3 and len(words) > 1:
            del words[at - 1 if at == len(words) else at]
        else:
            words[at : at + rng.randrange(2)] = [rng.choice(_WORDS.split())]
    return "\n".join(words).encode() + b"\0" + mutated_recipe(rng)


def fuzz_command(data: bytes, folder: Path) -> str:
    """Run it in this process; returns what it says where it ends in an error."""
    line, _, recipe = data.partition(b"\0")
    (folder / "r.yaml").write_bytes(recipe)
    model = folder / "m.gguf"
    if not model.exists():
        write(MODEL, model)
    names = {"r.yaml": str(folder / "r.yaml"), "m.gguf": str(model), "-": "none.yaml"}
    words = [names.get(w, w) for w in line.decode().split("\n") if w not in ("-o", "--lock")]
    result = CliRunner().invoke(main, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 1, 2, 3)
    assert "Traceback" not in result.output
    lines = [x for x in result.output.split("\n") if x.strip()]
    return lines[-1][:200] if result.exit_code and lines else ""
