"""Scripts and command lines that run ``llama-quantize``, changed by mutation, and what an import of them must hold.

Whatever is said to be proved is shown to a real shell, which must hand on the same words, and those of ik_llama.cpp to
its own ``llama-quantize --dry-run``, which must choose the same types.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from typing import TYPE_CHECKING

from qxmix.dialects.parse import parse_source
from qxmix.dialects.proof.source import call_of
from qxmix.dialects.prove import prove
from qxmix.dialects.write import recipe_text
from qxmix.errors import QxmixError
from tests.fuzz.checks import check_error
from tests.fuzz.script_seeds import PIECES, SCRIPTS
from tests.planning.models import header, write, write_imatrix
from tests.planning.test_mixes import llama_quantize, printed_types
from tests.planning.zoo import dense

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

    from qxmix.container.model import ModelHeader

MODEL = dense("llama", 2, 256, 288, 8, 4)
"""Two layers; rows of 288 weights make types fall back."""


def mutated_script(rng: Random) -> bytes:
    """A right script with a few words or characters changed."""
    parts = re.findall(r"\s+|[^\s]+", rng.choice(SCRIPTS))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 5))):
        _CHANGES[rng.randrange(len(_CHANGES))](parts, rng)
    return "".join(parts).encode("utf-8", "replace")


def _insert(parts: list[str], rng: Random) -> None:
    parts[rng.randrange(len(parts) + 1):0] = [" ", rng.choice(PIECES), " "]  # fmt: skip


def _insert_within(parts: list[str], rng: Random) -> None:
    at = rng.randrange(len(parts))
    column = rng.randrange(len(parts[at]) + 1)
    parts[at] = parts[at][:column] + rng.choice(PIECES) + parts[at][column:]


def _drop(parts: list[str], rng: Random) -> None:
    at = rng.randrange(len(parts))
    if len(parts) > 1:
        del parts[at : at + rng.choice((1, 1, 2))]
    parts[:] = parts or [" "]


def _replace(parts: list[str], rng: Random) -> None:
    parts[rng.randrange(len(parts))] = rng.choice(PIECES)


def _repeat(parts: list[str], rng: Random) -> None:
    start = rng.randrange(len(parts))
    at = rng.randrange(len(parts) + 1)
    parts[at:at] = parts[start : start + rng.choice((1, 3, 5))]


def _swap(parts: list[str], rng: Random) -> None:
    a, b = rng.randrange(len(parts)), rng.randrange(len(parts))
    parts[a], parts[b] = parts[b], parts[a]


def _cut(parts: list[str], rng: Random) -> None:
    at = rng.randrange(len(parts))
    column = rng.randrange(len(parts[at]))
    parts[at] = parts[at][:column] + parts[at][column + 1 :] or " "


def _borrow(parts: list[str], rng: Random) -> None:
    """A run of words of another script."""
    other = re.findall(r"\s+|[^\s]+", rng.choice(SCRIPTS))
    start, at = rng.randrange(len(other)), rng.randrange(len(parts) + 1)
    parts[at:at] = other[start : start + rng.choice((1, 3, 5, 9))]


_CHANGES = (_insert, _insert, _insert_within, _insert_within, _drop, _replace, _repeat, _swap, _cut, _borrow)


_CONDITION = re.compile(r"\b(?:if|while|until|case|function|env|nohup|sudo|numactl|time|exec|nice)\b|&&|\|\||\{")
"""Scripts that need not run what they say, or are run by programs that need not be here."""
_PLACE = re.compile(r"(?:^|[\s;&|(])(?:\./)?(?:build/bin/)?llama-quantize(?:\s|\Z)")
"""Where the program is, here."""


def fuzz_script(data: bytes, folder: Path) -> str:
    """As a source of an import; what is proved is held to a shell and to the engine."""
    (folder / "types.txt").write_text("attn_v=q8_0 ffn_down=q6_k\nattn=q5_k\n")
    path = folder / ("x.bat" if b"%OPTS%" in data[:200] and b"set " in data[:9] else "x.sh")
    text = data.decode("utf-8", "replace")
    head = _head()
    try:
        mix = parse_source(text, path, None, None, {}, head)
        recipe = recipe_text(mix, "x", mix.engine)
        found = prove(mix, recipe, head)
    except QxmixError as error:
        return check_error(error)
    assert not found.different, found.different
    call = call_of(text, "x", path.suffix, {}) if "command line" in mix.origin else None
    if found.caveats or call is None or not call.has_program or not _is_posix(text):
        return ""
    words = shell_words(text, folder)
    if not words and (_CONDITION.search(text) or not _PLACE.search(text)):
        return ""
    assert words, "a shell does not run what is said to be proved"
    read = [a.text if not a.unknown else None for a in call.arguments]
    assert len(words) == len(read), (words, read)
    assert all(r is None or r == w for r, w in zip(read, words, strict=True)), (words, read)
    if mix.engine == "ik_llama.cpp" and llama_quantize() is not None:
        types = engine_types(tuple(words), folder)
        if not types and None in read:
            # A number of threads that this shell does not know, so that the engine is given none.
            return ""
        assert types == {t.name: t.type for t in found.plan.tensors}, "the engine chooses other types"
    return ""


@cache
def _head() -> ModelHeader:
    return header(MODEL)


def _is_posix(text: str) -> bool:
    """A text that is a shell's own, not Markdown or another system's."""
    return "```" not in text and ".exe" not in text and not re.search(r"(?m)^\s*[$>&] | `$", text)


@cache
def _bin(folder: Path) -> Path:
    """A folder with the few programs that scripts here may run, and a ``llama-quantize`` that tells its arguments."""
    path = folder / "bin"
    path.mkdir(exist_ok=True)
    for name in ("grep", "sed", "tr", "paste", "cat", "env", "nohup", "tee", "ls", "nproc"):
        if found := shutil.which(name):
            (path / name).symlink_to(found)
    for name, text in (
        ("llama-quantize", 'printf "%s\\0" run "$@" >> "$ARGUMENTS"\n'),
        ("sudo", 'while case $1 in -*) true;; *) false;; esac; do shift; done; exec "$@"\n'),
        ("numactl", 'while case $1 in -*) true;; *) false;; esac; do shift 2; done; exec "$@"\n'),
    ):
        program = path / name
        program.write_text(f"#!/bin/bash\n{text}")
        program.chmod(0o755)
    run = folder / "run"
    (run / "build" / "bin").mkdir(parents=True, exist_ok=True)
    for place in (run, run / "build" / "bin"):
        (place / "llama-quantize").symlink_to(path / "llama-quantize")
    return path


def shell_words(text: str, folder: Path) -> list[str]:
    """The words that bash hands to ``llama-quantize``, none if it does not run it once."""
    programs, told = _bin(folder), folder / "arguments"
    told.write_bytes(b"")
    (folder / "run" / "script.sh").write_text(text, encoding="utf-8")
    environment = {"PATH": str(programs), "ARGUMENTS": str(told), "HOME": str(folder)}
    command = [shutil.which("bash") or "/bin/bash", "script.sh"]
    subprocess.run(
        command,
        cwd=folder / "run",
        env=environment,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
        check=False,
    )
    words = told.read_bytes().decode().split("\0")[:-1]
    return words[1:] if words[:1] == ["run"] and words.count("run") == 1 else []


@cache
def _model(folder: Path) -> tuple[Path, Path]:
    return write(MODEL, folder / "model.gguf"), write_imatrix(MODEL, folder / "model.dat", every=True)


@cache
def engine_types(words: tuple[str, ...], folder: Path) -> dict[str, str]:
    """What ik_llama.cpp's own program chooses with these arguments for the model; empty where it refuses them."""
    model, matrix = _model(folder)
    arguments, at = list(words), 0
    while at < len(arguments) and arguments[at].startswith("--"):
        takes = arguments[at] in ("--imatrix", "--custom-q") or arguments[at].endswith("-type")
        if arguments[at] == "--imatrix" and at + 1 < len(arguments):
            arguments[at + 1] = str(matrix)
        at += 2 if takes else 1
    if at < len(arguments):
        arguments[at] = str(model)
    command = [str(llama_quantize()), "--dry-run", *arguments]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=300, env={**os.environ, "LC_ALL": "C"}
    )
    return printed_types(done.stdout + done.stderr) if done.returncode == 0 else {}
