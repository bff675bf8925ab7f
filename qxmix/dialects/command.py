"""A ``llama-quantize`` command line: which option means what, and which cannot be carried over."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qxmix.dialects.mixes import mix_name
from qxmix.dialects.shell import Word, read_script
from qxmix.errors import Problem, RecipeError
from qxmix.quants import find

if TYPE_CHECKING:
    from qxmix.dialects.model import Dialect, TypeFlag
    from qxmix.quants import Engine

_FLAGS: dict[str, TypeFlag] = {
    "--token-embedding-type": "token_embd",
    "--per-layer-token-embedding-type": "per_layer_token_embd",
    "--output-tensor-type": "output",
    "--ffn-gate-inp-type": "ffn_gate_inp",
    "--attn-v-type": "attn_v",
    "--attn-k-type": "attn_k",
    "--attn-q-type": "attn_q",
    "--attn-qkv-type": "attn_qkv",
    "--attn-output-type": "attn_output",
    "--ffn-down-type": "ffn_down",
    "--ffn-gate-type": "ffn_gate",
    "--ffn-up-type": "ffn_up",
}
_IK_FLAGS = frozenset(_FLAGS) - {"--token-embedding-type", "--output-tensor-type"}
_SWITCHES = ("--pure", "--leave-output-tensor", "--allow-requantize", "--ignore-imatrix-rules")
_ELSEWHERE = {
    "--keep-split": (0, "it is an option of 'qxmix apply'"),
    "--dry-run": (0, "'qxmix plan' is one"),
    "--partial-requant": (0, "'qxmix apply' resumes by itself"),
    "--max-buffer-size": (1, "'qxmix apply' streams rows"),
}
_REFUSED = {
    "--prune-layers": (1, "qxmix drops no layers"),
    "--override-kv": (1, "qxmix carries metadata over as they are"),
    "--extra-output-tensor": (1, "qxmix adds no tensors"),
    "--repack": (0, "qxmix repacks nothing; write rules with _r4 types"),
    "--repack-pattern": (1, "qxmix repacks nothing; write rules with _r4 types"),
    "--include-weights": (1, "qxmix uses every entry of an imatrix"),
    "--exclude-weights": (1, "qxmix uses every entry of an imatrix"),
    "--hide-imatrix": (0, "qxmix notes the base name of the imatrix"),
    "--symmetric-q40": (0, "qxmix has no such encoder"),
    "--slow-iq2ks": (0, "qxmix has no such encoder"),
    "--target-bpw": (1, "qxmix chooses no types by itself"),
    "--target-size": (1, "qxmix chooses no types by itself"),
    "--state-file": (1, "qxmix chooses no types by itself"),
}
_ONLY_IK = {
    "--custom-q", "--extra-output-tensor", "--repack", "--repack-pattern", "--symmetric-q40", "--slow-iq2ks",
    "--hide-imatrix", "--ignore-imatrix-rules", "--partial-requant", *_IK_FLAGS,
}  # fmt: skip
_ONLY_ML = {"--tensor-type", "--tensor-type-file", "--prune-layers", "--max-buffer-size", "--target-bpw"}


@dataclass(slots=True)
class Command:
    """What the options of a command line say."""

    engine: Engine
    base: str | None = None
    rules: list[tuple[str, Word]] = field(default_factory=list)
    """``one`` or ``many`` items, and the word they stand in, in the order of the options."""
    files: list[Word] = field(default_factory=list)
    flags: dict[TypeFlag, str] = field(default_factory=dict)
    has_imatrix: bool = False
    pure: bool = False
    leave_output: bool = False
    allow_requantize: bool = False
    ignore_imatrix_rules: bool = False
    notes: list[str] = field(default_factory=list)


def find_command(text: str, name: str, dialect: Dialect | None) -> Command | None:
    """The command line in a text, or None where there is none.

    Raises:
        RecipeError: there are several, or it has options that cannot be carried over, all named in one error.

    """
    if "llama-quantize" not in text and "--custom-q" not in text and "--tensor-type" not in text:
        return None
    found = [c for c in read_script(text, name).commands if any(_is_quantize(w.text) for w in c)]
    programs = [c for c in found if any(_is_program(w.text) for w in c)]
    if len(programs) > 1:
        lines = ", ".join(str(c[0].line) for c in programs)
        raise RecipeError(Problem(name, f"has {len(programs)} llama-quantize commands (lines {lines}); leave one"))
    if not found:
        return None
    # Options that were pasted alone may stand on lines of their own.
    words = programs[0] if programs else [w for c in found for w in c]
    start = next((i for i, w in enumerate(words) if _is_program(w.text)), -1) + 1
    return _read(words[start:], name, dialect)


def _is_program(text: str) -> bool:
    return text.replace("\\", "/").rpartition("/")[2].removesuffix(".exe") in ("llama-quantize", "quantize")


def _is_quantize(text: str) -> bool:
    return _is_program(text) or text in ("--custom-q", "--tensor-type", "--tensor-type-file")


def _read(words: list[Word], name: str, dialect: Dialect | None) -> Command:
    command = Command(_engine(words, dialect))
    refused: list[str] = []
    plain: list[Word] = []
    left = list(words)
    while left:
        word = left.pop(0)
        option = word.text
        if not option.startswith("--"):
            plain.append(word)
            continue
        n_args = _n_args(option)
        args = [left.pop(0) for _ in range(min(n_args, len(left)))]
        if len(args) < n_args:
            raise RecipeError(Problem(f"{name}:{word.line}", f"{option} lacks its value"))
        why = _take(command, option, args, name)
        if why:
            refused.append(" ".join((option, *(a.text for a in args))) + f" ({why})")
    if refused:
        raise RecipeError(
            Problem(name, f"cannot be carried over: {'; '.join(refused)}; remove them to import the rest")
        )
    _positional(command, plain)
    return command


def _engine(words: list[Word], dialect: Dialect | None) -> Engine:
    if dialect is not None:
        return "llama.cpp" if dialect == "llama.cpp" else "ik_llama.cpp"
    texts = {w.text for w in words}
    if texts & _ONLY_IK:
        return "ik_llama.cpp"
    if texts & _ONLY_ML:
        return "llama.cpp"
    types = [t for w in words if (t := find(w.text)) is not None]
    only_ik = any(mix_name(w.text, "ik_llama.cpp") and not mix_name(w.text, "llama.cpp") for w in words)
    return "ik_llama.cpp" if only_ik or any("llama.cpp" not in t.engines for t in types) else "llama.cpp"


def _n_args(option: str) -> int:
    if option in _SWITCHES:
        return 0
    known = _ELSEWHERE.get(option) or _REFUSED.get(option)
    if known:
        return known[0]
    takes = option in _FLAGS or option in ("--imatrix", "--custom-q", "--tensor-type", "--tensor-type-file")
    return 1 if takes else 0


def _take(command: Command, option: str, args: list[Word], name: str) -> str:
    """Take an option in; returns why it cannot be carried over, else an empty string."""
    if option in _REFUSED:
        return _REFUSED[option][1]
    other = _ONLY_ML if command.engine == "ik_llama.cpp" else _ONLY_IK
    if option in other:
        return f"it is no option of {command.engine}"
    if option in _ELSEWHERE:
        command.notes.append(f"{option} is left out: {_ELSEWHERE[option][1]}")
    elif option in _SWITCHES:
        setattr(command, option.removeprefix("--").removesuffix("-tensor").replace("-", "_"), True)
    elif option == "--imatrix":
        command.has_imatrix = True
    elif option in _FLAGS:
        return _take_flag(command, option, args[0])
    elif option in ("--custom-q", "--tensor-type", "--tensor-type-file"):
        if args[0].unknown:
            text = f"the value of {option} is {args[0].unknown[0]}, which this text does not tell; put it in"
            raise RecipeError(Problem(f"{name}:{args[0].line}", text))
        if option == "--tensor-type-file":
            command.files.append(args[0])
        else:
            command.rules.append(("one" if option == "--tensor-type" else "many", args[0]))
    else:
        return "unknown option"
    return ""


def _take_flag(command: Command, option: str, arg: Word) -> str:
    found = find(arg.text)
    if found is None or command.engine not in found.engines:
        return f"'{arg.text}' is no type of {command.engine}"
    if option == "--attn-qkv-type":
        command.notes.append("--attn-qkv-type is left out: it has no effect in ik_llama.cpp")
    else:
        command.flags[_FLAGS[option]] = found.name
    return ""


def _positional(command: Command, words: list[Word]) -> None:
    """``in.gguf [out.gguf] TYPE [nthreads]``; without a TYPE the base stays None."""
    types = [(i, found) for i, w in enumerate(words) if (found := mix_name(w.text, command.engine))]
    named = [(i, found) for i, found in types if i > 0 and not words[i].text.isdecimal()] or [
        t for t in types if t[0] > 0
    ]
    if not named:
        return
    place, command.base = named[0]
    if len(words) > place + 1:
        command.notes.append(f"{words[place + 1].text} threads are left out: 'qxmix apply -j' takes their number")
