"""Where the arguments of ``llama-quantize`` begin in a command line: behind what other programs put before it."""

from __future__ import annotations

import re

from qxmix.dialects.proof.expand import Argument
from qxmix.dialects.proof.faults import short
from qxmix.errors import RecipeError

PROGRAM = re.compile(r"(?:^|[/\\])(?:llama-quantize|quantize)(?:\.exe)?$", re.IGNORECASE)
_BEFORE = frozenset({
    "time", "nohup", "sudo", "doas", "env", "nice", "ionice", "taskset", "numactl", "exec", "command", "stdbuf",
    "timeout", "chrt", "setsid", "systemd-run", "srun", "caffeinate", "catchsegv", "gdb", "perf", "strace", "wsl",
    "start", "&", "call", "proot", "unbuffer", "builtin",
})  # fmt: skip
_CONTAINERS = frozenset({"docker", "podman", "nerdctl"})
_CONTAINER_VALUES = frozenset({
    "-v", "--volume", "-e", "--env", "-w", "--workdir", "--name", "--gpus", "-u", "--user", "--mount", "--ipc",
    "--shm-size", "--network", "--net", "-p", "--publish", "-m", "--memory", "--cpus", "--cpuset-cpus", "--ulimit",
    "--entrypoint", "--device", "--runtime", "--env-file", "--security-opt", "--cap-add", "--platform", "-h",
    "--hostname", "--group-add", "--label", "-l", "--pull",
})  # fmt: skip
_SHELLS = frozenset({
    "bash", "sh", "zsh", "dash", "ksh", "fish", "su", "ssh", "eval", "tmux", "screen", "script", "parallel", "xargs",
    "wsl", "cmd", "powershell", "pwsh", "start-process", "kubectl", *_CONTAINERS,
})  # fmt: skip
"""What runs a command that it is given as one word."""
_OPTIONS = ("--custom-q", "--tensor-type", "--output-tensor-type", "--token-embedding-type", "--imatrix")
_INSIDE = re.compile(
    rf"(?:^|[\s/\\;&|(])(?:llama-quantize|quantize)(?:\.exe)?\s.*(?:\.gguf|{'|'.join(_OPTIONS)})",
    re.IGNORECASE | re.DOTALL,
)
_RULE = re.compile(r"[^=\s]+=(?:i?q\d\w*|b?f16|f32|mxfp4|tq\d_0)\Z", re.IGNORECASE)


def arguments_of(words: list[Argument], name: str) -> list[Argument] | None:
    """The arguments of ``llama-quantize`` if the command runs it, else None.

    Raises:
        RecipeError: the program is named behind words that are no known way of starting it, with its options, or stands
            in the quotes of another.

    """
    _check_quotes(words, name)
    head = words[0].text.rpartition("/")[2] if words else ""
    if head in _CONTAINERS:
        return _in_container(words)
    at = next((i for i, w in enumerate(words) if PROGRAM.search(w.text)), None)
    if at is None:
        return None
    if words[at].text != words[at].text.strip():
        text = f"'{words[at].text}' begins with a space, by a backslash or quotes; remove them"
        raise RecipeError.at(f"{name}:{words[at].line}", text)
    if at == 0 or (head in _BEFORE and _leads(words[1:at])):
        return words[at + 1 :]
    if any(w.text in _OPTIONS for w in words[at:]):
        text = f"'{words[0].text}' before {words[at].text} is no known way to start it; remove what stands before it"
        raise RecipeError.at(f"{name}:{words[0].line}", text)
    return None


def _check_quotes(words: list[Argument], name: str) -> None:
    inside = next((w for w in words if _INSIDE.search(w.text)), None)
    if inside and any(w.text.rpartition("/")[2].lower().removesuffix(".exe") in _SHELLS for w in words):
        text = f"the command stands in quotes, for '{words[0].text}' to run it: '{short(inside.text)}'"
        raise RecipeError.at(f"{name}:{inside.line}", f"{text}; import what is between them, alone")


def _leads(words: list[Argument]) -> bool:
    """Whether words are options of what starts a program, their values, assignments, or more such starters."""
    option = False
    for text in (w.text for w in words):
        known = text.startswith("-") or "=" in text or text in _BEFORE or re.fullmatch(r"[\d.,:smh-]+", text)
        if not known and not option:
            return False
        option = text.startswith("-")
    return True


def _in_container(words: list[Argument]) -> list[Argument] | None:
    """Behind the image of ``docker run``: with an entry point, a program, or llama.cpp's own ``--quantize``."""
    texts = [w.text for w in words]
    if "run" not in texts and "exec" not in texts:
        return None
    at = min(texts.index(t) for t in ("run", "exec") if t in texts) + 1
    entry = ""
    while at < len(words) and texts[at].startswith("-"):
        option, sign, value = texts[at].partition("=")
        takes = option in _CONTAINER_VALUES and not sign
        if option == "--entrypoint":
            entry = value if sign else texts[min(at + 1, len(words) - 1)]
        at += 2 if takes else 1
    inside = words[at + 1 :]
    if PROGRAM.search(entry):
        return inside
    if inside and inside[0].text in ("--quantize", "-q"):
        return inside[1:]
    program = next((i for i, w in enumerate(inside) if PROGRAM.search(w.text)), None)
    return None if program is None else inside[program + 1 :]


def looks_lost(words: list[Argument]) -> str:
    """A word that shows that a command is the rest of another, cut off by the end of a line; else an empty string."""
    first = words[0].text
    if first.startswith("-") or first.lower().endswith(".gguf") or _RULE.match(first):
        return first
    return next((w.text for w in words if w.text in _OPTIONS[:2] or _RULE.match(w.text)), "")
