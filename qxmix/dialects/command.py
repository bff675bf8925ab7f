"""A ``llama-quantize`` command line: which option means what, and which cannot be carried over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from qxmix.dialects.mixes import mix_name
from qxmix.dialects.model import Dialect, SourceMix, TypeFlag
from qxmix.dialects.plain import shell_text
from qxmix.dialects.shell import read_script
from qxmix.dialects.shell_words import Word
from qxmix.errors import RecipeError
from qxmix.quants import Engine, find
from qxmix.quants.quant_type import LEAST_FACTOR, MOST_FACTOR
from qxmix.recipe.remedies import near

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
_SWITCHES = ("--pure", "--leave-output-tensor", "--allow-requantize", "--ignore-imatrix-rules", "--symmetric-q40")
_FACTORS = "--fudge-factors"
_ELSEWHERE = {
    "--keep-split": (0, "it is an option of 'qxmix apply'"),
    "--dry-run": (0, "'qxmix plan' is one"),
    "--partial-requant": (0, "'qxmix apply' resumes by itself"),
    "--slow-iq2ks": (0, "the slow search of IQ2_KS is the only one of qxmix"),
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
    "--target-bpw": (1, "qxmix chooses no types by itself"),
    "--target-size": (1, "qxmix chooses no types by itself"),
    "--state-file": (1, "qxmix chooses no types by itself"),
}
_ONLY_IK = frozenset({
    "--custom-q", "--extra-output-tensor", "--repack", "--repack-pattern", "--symmetric-q40", "--slow-iq2ks",
    "--fudge-factors",    "--hide-imatrix", "--ignore-imatrix-rules", "--partial-requant", *_IK_FLAGS,
})  # fmt: skip
_ONLY_ML = frozenset({"--tensor-type", "--tensor-type-file", "--prune-layers", "--max-buffer-size", "--target-bpw"})


@dataclass(slots=True)
class Command:
    """What the options of a command line say."""

    engine: Engine
    base: str | None = None
    rules: list[tuple[str, Word]] = field(default_factory=list)
    """``one`` or ``many`` items or a ``file`` of them, and the word they stand in, in the order of the options."""
    files: list[Word] = field(default_factory=list)
    flags: dict[TypeFlag, str] = field(default_factory=dict)
    switches: set[str] = field(default_factory=set)
    has_imatrix: bool = False
    factors: dict[str, float] = field(default_factory=dict)
    """Factors of scales by upper-case type."""
    notes: list[str] = field(default_factory=list)


def find_command(
    text: str, name: str, suffix: str, dialect: Dialect | None, given: Mapping[str, str]
) -> Command | None:
    """The command line in a text, or None where there is none.

    Args:
        text: The text.
        name: Its name, for messages.
        suffix: That of its file.
        dialect: Whose command it is; None tells it from its options and types.
        given: Values of variables that the text does not tell.

    Raises:
        RecipeError: it has options that cannot be carried over, all named in one error.

    """
    commands = read_script(shell_text(text, suffix), name, given).commands
    found = [rest for c in commands if (rest := _behind_program(c)) is not None]
    # Options that were pasted alone may stand on lines of their own.
    words = found[0] if found else [w for c in commands if c[0].text.startswith("--") for w in c]
    return _read(words, name, dialect) if found or words else None


def engine_of(texts: Iterable[str], dialect: Dialect | None) -> Engine:
    """Whose command line the words are: as it is said, else told by options, mixes and types that one engine has."""
    if dialect is not None:
        return "llama.cpp" if dialect == "llama.cpp" else "ik_llama.cpp"
    words = list(texts)
    if _ONLY_IK.intersection(words):
        return "ik_llama.cpp"
    if _ONLY_ML.intersection(words):
        return "llama.cpp"
    types = [t for w in words if (t := find(w)) is not None]
    only_ik = any(mix_name(w, "ik_llama.cpp") and not mix_name(w, "llama.cpp") for w in words)
    return "ik_llama.cpp" if only_ik or any("llama.cpp" not in t.engines for t in types) else "llama.cpp"


def _behind_program(words: list[Word]) -> list[Word] | None:
    """The arguments of a command that runs ``llama-quantize``, by itself or in a container."""
    texts = [w.text for w in words]
    if "run" in texts and "--quantize" in texts:
        return words[texts.index("--quantize") + 1 :]
    at = next((i for i, t in enumerate(texts) if _is_program(t)), None)
    if at is None or (at and not _starts_programs(texts, at)) or not words[at + 1 :]:
        return None
    if texts[at - 1] == "--entrypoint":
        at = next((i for i in range(at + 1, len(texts)) if _is_image(texts, i)), at)
    return words[at + 1 :]


def _starts_programs(texts: list[str], at: int) -> bool:
    """Whether what stands before the program runs it, as ``make llama-quantize`` does not."""
    return any(t.startswith("--") for t in texts[at + 1 :]) or any(t.endswith(".gguf") for t in texts[at + 1 :])


def _is_image(texts: list[str], at: int) -> bool:
    takes = ("-v", "-e", "-w", "-u", "--volume", "--env", "--name", "--gpus", "--mount", "--workdir", "--user")
    return not texts[at].startswith("-") and texts[at - 1] not in takes


def _is_program(text: str) -> bool:
    last = text.replace("\\", "/").rpartition("/")[2].lower()
    return last.removesuffix(".exe") in ("llama-quantize", "quantize")


def _read(words: list[Word], name: str, dialect: Dialect | None) -> Command:
    command = Command(engine_of((w.text for w in words), dialect))
    refused: list[str] = []
    left = list(words)
    while left and left[0].text.startswith("--"):
        word = left.pop(0)
        option = word.text
        n_args = _n_args(option)
        args = [left.pop(0) for _ in range(min(n_args, len(left)))]
        if len(args) < n_args:
            raise RecipeError.at(f"{name}:{word.line}", f"{option} lacks its value")
        why = _take(command, option, args, name)
        if why:
            refused.append(" ".join((option, *(a.text for a in args))) + f" ({why})")
    if refused:
        raise RecipeError.at(name, f"cannot be carried over: {'; '.join(refused)}; remove them to import the rest")
    _positional(command, left)
    return command


def _n_args(option: str) -> int:
    if option in _SWITCHES:
        return 0
    known = _ELSEWHERE.get(option) or _REFUSED.get(option)
    if known:
        return known[0]
    takes = option in _FLAGS or option in ("--imatrix", "--custom-q", "--tensor-type", "--tensor-type-file", _FACTORS)
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
        command.switches.add(option)
    elif option == "--imatrix":
        command.has_imatrix = True
    elif option in (*_FLAGS, _FACTORS):
        return _take_flag(command, option, args[0])
    elif option in ("--custom-q", "--tensor-type", "--tensor-type-file"):
        if args[0].unknown:
            text = f"the value of {option} is {args[0].unknown[0]}, which this text does not tell; put it in"
            raise RecipeError.at(f"{name}:{args[0].line}", text)
        if option == "--tensor-type-file":
            command.files.append(args[0])
        kinds = {"--tensor-type": "one", "--custom-q": "many", "--tensor-type-file": "file"}
        command.rules.append((kinds[option], args[0]))
    else:
        hint = near(option, [*_FLAGS, *_SWITCHES, "--custom-q", "--tensor-type", "--tensor-type-file", "--imatrix"])
        return f"unknown option{hint}"
    return ""


def _take_factors(command: Command, arg: Word) -> str:
    """``iq1_kt=1,iq2_xs=0.95``: since ik_llama.cpp's PR 2361."""
    for item in arg.text.split(","):
        name, _, number = item.partition("=")
        found = find(name)
        if found is None or not found.takes_factor:
            return f"'{name}' is no type whose scales take a factor; 'qxmix types' tells which do"
        try:
            command.factors[found.name] = float(number)
        except ValueError:
            return f"'{number}' of {name} is no number"
        if not LEAST_FACTOR <= command.factors[found.name] <= MOST_FACTOR:
            return f"{number} of {name} is not between {LEAST_FACTOR} and {MOST_FACTOR}"
    return ""


def _take_flag(command: Command, option: str, arg: Word) -> str:
    if option == _FACTORS:
        return _take_factors(command, arg)
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
    for place in (1, 2):
        if len(words) > place and (found := mix_name(words[place].text, command.engine)):
            command.base = found
            if len(words) > place + 1:
                threads = words[place + 1].text
                command.notes.append(f"{threads} threads are left out: 'qxmix apply -j' takes their number")
            return


def options_of(mix: SourceMix) -> dict[str, str]:
    """Types by the option that gives them."""
    names = {flag: option for option, flag in _FLAGS.items()}
    return {names[flag]: kind for flag, kind in mix.flags.items()}
