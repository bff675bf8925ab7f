"""Whether a shell would take a script at all: its tokens against the grammar of POSIX.1-2017, 2.10.2.

A shell stops at the first line it cannot parse and runs nothing behind it.  So does this: what is left unread here is
nothing that anybody could be sure of.
"""

from __future__ import annotations

from collections.abc import Sequence

from qxmix.dialects.proof.faults import short
from qxmix.dialects.proof.lexer import Token
from qxmix.errors import RecipeError

_BETWEEN_COMMANDS = frozenset({"\n", ";", "&", "&&", "||", "|", "|&", ";;", "(", ")"})
_RESERVED = frozenset({"then", "do", "done", "fi", "else", "elif", "esac", "}", "in", "select", "coproc"})
_COMPOUND = frozenset({"if", "while", "until", "for", "case", "{", "[["})
_MAX_DEPTH = 40
_MAX_DESCRIPTOR = 2
"""Files that are open before a script opens any."""


def check_grammar(tokens: Sequence[Token], name: str) -> None:
    """Raises an error at the first token that a shell would not take.

    Raises:
        RecipeError: there is one, or a block is not closed.

    """
    checker = _Checker(tokens, name)
    checker.commands(frozenset(), least=0)
    if checker.at < len(tokens):
        raise checker.fail()


class _Checker:
    def __init__(self, tokens: Sequence[Token], name: str) -> None:
        self._tokens = tokens
        self._name = name
        self._depth = 0
        self.at = 0

    def fail(self) -> RecipeError:
        """An error at the position."""
        if self.at >= len(self._tokens):
            line = self._tokens[-1].line if self._tokens else 1
            text = "the script ends where a shell wants more; is a block not closed, or a line cut off?"
            return RecipeError.at(f"{self._name}:{line}", text)
        token = self._tokens[self.at]
        said = token.operator.replace("\n", "the end of the line") or "".join(p.text for p in token.pieces)
        text = f"a shell stops at '{short(said)}' here; paste the command alone, or mend the script"
        return RecipeError.at(f"{self._name}:{token.line}", text)

    def _operator(self) -> str:
        return self._tokens[self.at].operator if self.at < len(self._tokens) else ""

    def _bare(self) -> str:
        token = self._tokens[self.at] if self.at < len(self._tokens) else None
        return token.bare if token and not token.operator and token.array is None else ""

    def _lines(self) -> None:
        while self._operator() == "\n":
            self.at += 1

    def _need(self, word: str) -> None:
        if (self._bare() or self._operator()) != word:
            raise self.fail()
        self.at += 1

    def commands(self, ends: frozenset[str], least: int = 1) -> None:
        """A list of commands up to a word or operator that ends it."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self.fail()
        count = 0
        while True:
            self._lines()
            if self.at >= len(self._tokens) or (self._bare() or self._operator()) in ends:
                break
            self._chain()
            count += 1
            if self._operator() in (";", "&", "\n"):
                self.at += 1
            elif (self._bare() or self._operator()) not in ends and self.at < len(self._tokens):
                raise self.fail()
        if count < least:
            raise self.fail()
        self._depth -= 1

    def _chain(self) -> None:
        self._command()
        while self._operator() in ("&&", "||", "|", "|&"):
            self.at += 1
            self._lines()
            self._command()

    def _command(self) -> None:
        while self._bare() in ("!", "time"):
            self.at += 1
        word = self._bare()
        if self._operator() == "(":
            self.at += 1
            self.commands(frozenset({")"}))
            self._need(")")
            self._redirections()
        elif word in _RESERVED:
            raise self.fail()
        elif word in _COMPOUND:
            self._compound(word)
        elif word == "function" or (word and self._operator_behind() == "("):
            self._function(word)
        else:
            self._simple()

    def _operator_behind(self) -> str:
        return self._tokens[self.at + 1].operator if self.at + 1 < len(self._tokens) else ""

    def _function(self, word: str) -> None:
        self.at += 2 if word == "function" else 1
        if self._operator() == "(":
            self.at += 1
            self._need(")")
        self._lines()
        if self._bare() != "{":
            raise self.fail()
        self._compound("{")

    def _compound(self, word: str) -> None:
        self.at += 1
        if word == "if":
            self._if()
        elif word in ("while", "until"):
            self.commands(frozenset({"do"}))
            self._body()
        elif word == "for":
            self._for()
        elif word == "case":
            self._case()
        elif word == "{":
            self.commands(frozenset({"}"}))
            self._need("}")
        else:
            while self._bare() != "]]":
                if self.at >= len(self._tokens) or self._operator() in ("\n", ";", "&"):
                    raise self.fail()
                self.at += 1
            self.at += 1
        self._redirections()

    def _body(self) -> None:
        self._need("do")
        self.commands(frozenset({"done"}))
        self._need("done")

    def _if(self) -> None:
        self.commands(frozenset({"then"}))
        self._need("then")
        self.commands(frozenset({"elif", "else", "fi"}))
        if self._bare() == "elif":
            self.at += 1
            self._if()
            return
        if self._bare() == "else":
            self.at += 1
            self.commands(frozenset({"fi"}))
        self._need("fi")

    def _for(self) -> None:
        if not self._bare().isidentifier():
            raise self.fail()
        self.at += 1
        self._lines()
        if self._bare() == "in":
            self.at += 1
            while self.at < len(self._tokens) and not self._operator():
                self.at += 1
        if self._operator() in (";", "\n"):
            self.at += 1
        self._lines()
        self._body()

    def _case(self) -> None:
        self.at += 1
        self._lines()
        self._need("in")
        self._lines()
        while self._bare() != "esac":
            if self._operator() == "(":
                self.at += 1
            self._word()
            while self._operator() == "|":
                self.at += 1
                self._word()
            self._need(")")
            self.commands(frozenset({";;", "esac"}), least=0)
            if self._operator() == ";;":
                self.at += 1
            self._lines()
        self.at += 1

    def _word(self) -> None:
        if self.at >= len(self._tokens) or self._operator():
            raise self.fail()
        self.at += 1

    def _redirections(self) -> None:
        while (sign := self._operator()) and sign not in _BETWEEN_COMMANDS:
            self.at += 1
            if sign in ("<&", ">&") and not self._bare().isdecimal() and self._bare() != "-":
                # What a shell makes of another word there depends on the shell.
                raise self.fail()
            if sign in ("<&", ">&") and int(self._bare().replace("-", "0")) > _MAX_DESCRIPTOR:
                raise self.fail()
            if sign not in ("<<", "<<-"):
                self._word()

    def _simple(self) -> None:
        start = self.at
        while self.at < len(self._tokens) and self._operator() not in _BETWEEN_COMMANDS:
            if self._operator():
                self._redirections()
            else:
                self.at += 1
        if self.at == start:
            raise self.fail()
