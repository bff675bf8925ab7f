"""Blocks of a script, and what is known at a place in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qxmix.dialects.proof.expand import Argument, Expander, Value
from qxmix.dialects.proof.lexer import Token
from qxmix.errors import RecipeError

OPENING = frozenset({"if", "while", "until", "case", "for", "select", "{"})
CLOSING = frozenset({"fi", "done", "esac", "}"})
_SHOWN = 8
"""Most values of a loop that a message names."""


@dataclass(frozen=True, slots=True)
class Call:
    """The words behind ``llama-quantize``, or options that were pasted without it."""

    arguments: tuple[Argument, ...]
    line: int
    has_program: bool
    skipped: tuple[str, ...] = ()
    """Other programs that the text runs, ``python (line 3)``."""
    caveats: tuple[str, ...] = ()
    """Where the reading is what its author meant, and not what a shell does."""
    loop: Loop | None = None
    """The loop in which it stands, if no value was given for its variable."""


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop around ``llama-quantize`` whose variable has no given value."""

    name: str
    values: tuple[str, ...]
    line: int
    """Of ``llama-quantize``."""

    def problem(self) -> str:
        """What is wrong; what to give follows it."""
        shown = ", ".join(self.values[:_SHOWN]) + (", ..." if len(self.values) > _SHOWN else "")
        over = f" ({shown})" if self.values else ""
        return f"llama-quantize stands in a loop over {self.name}{over}; import it once for each value: "

    def option(self) -> str:
        """The option that gives it its first value."""
        return f"--set {self.name}={self.values[0] if self.values else 'VALUE'}"


@dataclass(slots=True)
class Block:
    """A loop, a condition, a function or a subshell that is open."""

    word: str
    line: int
    before: dict[str, Value]
    changed: set[str] = field(default_factory=set)
    loop: str = ""
    """The variable of a loop whose value was not given."""
    values: tuple[str, ...] = ()


@dataclass(slots=True)
class State:
    """What is known at a place in the script, and what was found before it."""

    name: str
    given: Mapping[str, str]
    variables: dict[str, Value]
    blocks: list[Block] = field(default_factory=list)
    calls: list[tuple[list[Argument], int]] = field(default_factory=list)
    options: list[Argument] = field(default_factory=list)
    options_line: int = 0
    skipped: list[str] = field(default_factory=list)
    lost: list[tuple[int, str]] = field(default_factory=list)
    left: int = 0
    """Line of an ``exit`` that no condition guards."""
    functions: set[str] = field(default_factory=set)
    constants: set[str] = field(default_factory=set)
    """Variables that a shell sets no more."""
    follows: bool = False
    """The command before is sure to succeed, so that what stands behind its ``&&`` is run."""
    sourced: bool = False
    """Another file or a text was run, which may have set any variable."""
    loop: Loop | None = None
    defines: bool = False
    """The next brace opens the body of a function."""

    def fail(self, line: int, text: str) -> RecipeError:
        """An error at a line."""
        return RecipeError.at(f"{self.name}:{line}", text)


def keyword(state: State, head: str, line: int) -> None:
    """Take in a reserved word that opens, parts or closes a block."""
    if head in OPENING:
        word = "function" if state.defines and head == "{" else head
        state.defines = False
        state.blocks.append(Block(word, line, dict(state.variables)))
    elif head in ("else", "elif") and state.blocks:
        block = state.blocks[-1]
        block.changed |= _changes(block, state)
        state.variables = dict(block.before)
    elif head in CLOSING and state.blocks:
        _close(state)


def _changes(block: Block, state: State) -> set[str]:
    return {n for n in {*block.before, *state.variables} if block.before.get(n, ...) != state.variables.get(n, ...)}


def _close(state: State) -> None:
    """Leave a block: what was set in it is set or not."""
    block = state.blocks.pop()
    if block.word == "{" or (block.word == "for" and not block.loop):
        return
    for name in block.changed | _changes(block, state):
        state.variables[name] = None


def parenthesis(state: State, token: Token) -> None:
    """Open or close a subshell."""
    if token.operator == "(":
        state.blocks.append(Block("(", token.line, dict(state.variables)))
    elif state.blocks and state.blocks[-1].word == "(":
        # A subshell leaves nothing behind.
        state.variables = state.blocks.pop().before


def open_loop(state: State, words: list[Token], expander: Expander) -> None:
    """Enter ``for NAME in WORDS``: with the value that was given for it, if one was."""
    block = Block("for", words[0].line, dict(state.variables))
    state.blocks.append(block)
    name = words[1].bare if len(words) > 1 else ""
    if name in state.given:
        state.variables[name] = state.given[name]
        return
    found = [a for w in words[3:] for a in expander.words(w)]
    block.loop = name or "..."
    block.values = tuple(a.text for a in found if not a.unknown)
    state.variables[name] = None


def surely_unset(state: State, name: str) -> bool:
    """Whether no value can have been set for a variable, so that a shell takes the default of ``${NAME:-default}``."""
    inside = name.isdigit() and any(b.word == "function" for b in state.blocks)
    return name not in state.variables and not state.sourced and not inside


def note_loop(state: State, line: int) -> None:
    """Note the loop around a command that would run more than once."""
    found = next((b for b in state.blocks if b.loop), None)
    if found is not None:
        state.loop = state.loop or Loop(found.loop, found.values, line)
