"""What a shell script hands to ``llama-quantize``: its statements followed one after the other, and nothing run.

Assignments, arrays and loops over a value that was given are followed; what is set under a condition, by another
program or in a pipeline is not known, and a word that depends on it says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial

from qxmix.dialects.proof.blocks import (
    CLOSING,
    OPENING,
    Block,
    Call,
    State,
    keyword,
    note_loop,
    open_loop,
    parenthesis,
    surely_unset,
)  # fmt: skip
from qxmix.dialects.proof.expand import Argument, Expander, Value
from qxmix.dialects.proof.filters import evaluate
from qxmix.dialects.proof.grammar import check_grammar
from qxmix.dialects.proof.lexer import Lexer, Token
from qxmix.dialects.proof.program import PROGRAM, arguments_of, looks_lost
from qxmix.dialects.proof.redirections import check_redirections
from qxmix.errors import RecipeError

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\+?=)", re.ASCII)
_SETTING = frozenset({"export", "declare", "local", "readonly", "typeset"})
_PLAIN_LETTERS = frozenset("agprxfFt")
"""Options of these that leave a value as it is written."""
_ANYTHING = frozenset({"source", ".", "eval"})
_BETWEEN = frozenset({"then", "do", "else", "elif", "!", "time", "in"})
_LEAVING = frozenset({"exit", "exec", "return"})
_BUILTINS = frozenset({"unset", "read", "mapfile", "readarray", "printf", "getopts", "set", "shift", "let"})
_HARMLESS = frozenset({"[", "[[", "test", "echo", "cd", "mkdir", "ls", "true", ":", "pushd", "popd", "trap"})
_SEPARATORS = frozenset({"\n", ";", ";;", "&", "&&", "||", "|", "|&", "(", ")"})


def read_shell(text: str, name: str, given: Mapping[str, str]) -> Call | None:
    """The one ``llama-quantize`` command of a script, or None where there is none.

    Args:
        text: The script.
        name: Its name, for messages.
        given: Values of variables that the text does not tell.

    Raises:
        RecipeError: there are several such commands, one stands in a loop, or lines are left that belong to it.

    """
    lexed = Lexer(text, name).lex()
    check_grammar(lexed.tokens, name)
    state = State(name, given, dict(given))
    statement: list[Token] = []
    before = ""
    for token in (*lexed.tokens, Token(0, operator="\n")):
        if token.operator in _SEPARATORS:
            if statement or token.operator != "\n":
                state.follows = _run(state, statement, before, token.operator)
                before = token.operator
            statement = []
            if token.operator in ("(", ")"):
                parenthesis(state, token)
        else:
            statement.append(token)
    caveats = tuple(
        f"a comment stands inside of the continued command on line {n}, where a shell ends it"
        for n in lexed.inner_comments
    )
    return _call(state, caveats)


def _call(state: State, caveats: tuple[str, ...]) -> Call | None:
    if len(state.calls) > 1:
        lines = ", ".join(str(line) for _, line in state.calls)
        raise RecipeError.at(state.name, f"has {len(state.calls)} llama-quantize commands (lines {lines}); leave one")
    if state.calls and (state.options or state.lost):
        line, text = (state.options_line, state.options[0].text) if state.options else state.lost[0]
        raise state.fail(
            line, f"'{text}' stands on a line of its own, which is no part of the command on line "
            f"{state.calls[0][1]}; end the lines before it with a backslash",
        )  # fmt: skip
    if not state.calls and not state.options:
        return None
    if state.lost:
        line, text = state.lost[0]
        raise state.fail(line, f"'{text}' begins no command; join its line with the others by a backslash")
    words, line = state.calls[0] if state.calls else (state.options, state.options_line)
    if state.left and state.left < line:
        raise state.fail(state.left, f"the script ends here, before llama-quantize on line {line}; remove the line")
    return Call(tuple(words), line, bool(state.calls), tuple(state.skipped), caveats, state.loop)


def _run(state: State, tokens: list[Token], before: str, after: str) -> bool:
    """Follow one simple command between two operators; whether it is sure to succeed."""
    words = _without_redirections(state, tokens)
    if after == "(" and len(words) == 1 and words[0].bare:
        state.functions.add(words[0].bare)
        state.defines = True
        return False
    if words and words[0].bare == "function" and len(words) > 1:
        state.functions.add(words[1].bare)
        state.defines, words = True, words[2:]
    while words and (head := words[0].bare) in OPENING | CLOSING | _BETWEEN:
        if head in ("for", "select"):
            open_loop(state, words, _expander(state))
            return False
        if head == "case":
            state.blocks.append(Block(head, words[0].line, dict(state.variables)))
            return False
        words = words[1:]
        keyword(state, head, tokens[0].line)
    guarded = ((before != "&&" or not state.follows) and before in ("&&", "||", "|", "|&")) or after in ("|", "|&", "&")
    expander = _expander(state)
    n_calls = len(state.calls)
    first = next((i for i, w in enumerate(words) if not _assigned(w)), len(words))
    if first < len(words):
        # What stands before a command is set for that command alone.
        _command(state, expander, words[first:], guarded=guarded or (first > 0 and words[first].bare == "read"))
        if len(state.calls) > n_calls:
            check_redirections(state, tokens, expander)
        return False
    for word in words:
        if found := _assigned(word):
            _assign(state, expander, word, found, guarded=guarded)
    return True


def _without_redirections(state: State, tokens: list[Token]) -> list[Token]:
    """The words; operators of redirection are dropped with the word behind them."""
    words: list[Token] = []
    skip = False
    for i, token in enumerate(tokens):
        if skip:
            skip = False
        elif token.operator == "<<":
            words.append(token)
        elif token.operator:
            skip = True
            if i + 1 == len(tokens):
                raise state.fail(token.line, f"'{token.operator}' has no file behind it; remove it")
        else:
            words.append(token)
    return words


def _assigned(token: Token) -> re.Match[str] | None:
    first = token.pieces[0] if token.pieces else None
    return _ASSIGNMENT.match(first.text) if first and first.how == "bare" and not token.operator else None


def _assign(state: State, expander: Expander, token: Token, found: re.Match[str], *, guarded: bool) -> None:
    name, sign = found[1], found[2]
    if name in state.given:
        return
    if name in state.constants:
        raise state.fail(
            token.line, f"'{name}' was made read-only above, and a shell sets it no more; remove 'readonly'"
        )
    value: Value
    if token.array is not None:
        words = [a for t in token.array for a in expander.words(t)]
        known = not any(a.unknown for a in words) and not any(t.operator for t in token.array)
        value = tuple(a.text for a in words) if known else None
    else:
        text = expander.joined(token.pieces)
        value = None if text is None else text[found.end() :]
    if sign == "+=":
        value = _appended(state.variables.get(name, ""), value)
    state.variables[name] = None if guarded else value


def _appended(old: Value, new: Value) -> Value:
    if isinstance(old, str) and isinstance(new, str):
        return old + new
    if isinstance(new, tuple) and old is not None:
        return (*(old if isinstance(old, tuple) else (old,) if old else ()), *new)
    return None


def _command(state: State, expander: Expander, tokens: list[Token], *, guarded: bool) -> None:
    head, line = tokens[0].bare, tokens[0].line
    if head in _SETTING:
        _set(state, expander, tokens, guarded=guarded)
    elif head in _ANYTHING:
        for name in state.variables.keys() - state.given.keys():
            state.variables[name] = None
        state.sourced = True
    elif head in _BUILTINS:
        _set_by_builtin(state, expander, head, tokens, guarded=guarded)
    elif head in state.functions:
        state.skipped.append(f"{head} (line {line})")
    else:
        words = [a for t in tokens if not t.operator for a in expander.words(t)]
        if head in _LEAVING and not any(PROGRAM.search(w.text) for w in words):
            state.left = state.left or (0 if state.blocks or guarded else line)
        elif words:
            _program(state, words, line)


def _set(state: State, expander: Expander, tokens: list[Token], *, guarded: bool) -> None:
    """``export``, ``declare`` and their like; with an option that changes values, what they set is not known."""
    head, line = tokens[0].bare, tokens[0].line
    if head == "local" and not any(b.word in ("function", "(") for b in state.blocks):
        raise state.fail(line, "'local' stands outside of a function, where a shell sets nothing; remove the word")
    letters = "".join(t.bare[1:] for t in tokens[1:] if t.bare[:1] in ("-", "+"))
    for token in tokens[1:]:
        found = _assigned(token)
        if found:
            _assign(state, expander, token, found, guarded=guarded or not _PLAIN_LETTERS.issuperset(letters))
        if head == "readonly" or "r" in letters:
            state.constants.add(found[1] if found else token.bare)


def _program(state: State, words: list[Argument], line: int) -> None:
    """A command that runs a program: ours, the rest of one that was cut in two, or another."""
    found = arguments_of(words, state.name)
    if found is not None:
        note_loop(state, line)
        state.calls.append((found, words[-len(found) - 1].line if found else line))
    elif words[0].text.startswith("--"):
        state.options += words
        state.options_line = state.options_line or line
    elif lost := looks_lost(words):
        state.lost.append((line, lost))
    elif words[0].text not in _HARMLESS:
        state.skipped.append(f"{words[0].text} (line {line})")


def _set_by_builtin(state: State, expander: Expander, head: str, tokens: list[Token], *, guarded: bool) -> None:
    """Variables that a builtin sets become unknown; ``read -d '' name`` takes a here-document."""
    names = [t.bare for t in tokens[1:] if t.bare and re.fullmatch(r"[A-Za-z_]\w*", t.bare)]
    if head == "printf" and not any(t.bare == "-v" for t in tokens):
        return
    if head == "set" and any(t.bare[:1] not in ("-", "+") or t.bare == "--" for t in tokens[1:]):
        # What the script was started with is replaced.
        names += "123456789"
    document = next((t for t in tokens if t.operator == "<<"), None)
    for name in names:
        state.variables[name] = None
    plain = ["".join(p.text for p in t.pieces) for t in tokens if not t.operator]
    is_text = plain[1:-1] in (["-r", "-d", ""], ["-rd", ""], ["-d", "", "-r"]) and plain[-1:] == names and not guarded
    if head == "read" and document is not None and is_text:
        text = expander.joined(document.heredoc)
        state.variables[names[0]] = None if text is None else text.strip(" \t\n")


def _expander(state: State) -> Expander:
    return Expander(state.variables, _substitute(state), partial(surely_unset, state))


def _substitute(state: State) -> Callable[[str, int], str | None]:
    def run(inner: str, line: int) -> str | None:
        return evaluate(inner, state.name, line or 1, state.variables, run)

    return run
