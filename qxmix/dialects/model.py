"""What any other tool's recipe says, before it becomes a recipe of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from qxmix.quants import Engine

if TYPE_CHECKING:
    from qxmix.dialects.proof.arguments import Reading

Dialect = Literal["llama.cpp", "ik_llama.cpp", "thireus"]

TypeFlag = Literal[
    "token_embd", "per_layer_token_embd", "output", "ffn_gate_inp",
    "attn_v", "attn_k", "attn_q", "attn_qkv", "attn_output", "ffn_down", "ffn_gate", "ffn_up",
]  # fmt: skip
"""Flags of llama-quantize that name the type of one kind of tensor."""

MIX_FLAGS: tuple[TypeFlag, ...] = ("attn_v", "attn_k", "attn_q", "ffn_down", "attn_output", "ffn_gate", "ffn_up")
"""Those that ik_llama.cpp asks inside of its mixes, in the order in which it does."""


class SourceRule(NamedTuple):
    """One ``pattern=type``, in the order in which the source tries them."""

    pattern: str
    """The regular expression as the source compiles it (llama.cpp lower-cases it first)."""
    type: str
    """Upper-case name."""
    where: str
    """``script.sh:12``, or the option it stood in."""
    comments: tuple[str, ...] = ()
    """Comment lines that stood above it, without their ``#``."""


@dataclass(frozen=True, slots=True)
class SourceMix:
    """A source, parsed."""

    dialect: Dialect
    origin: str
    """What it was read from, for the comment on top of the recipe."""
    rules: tuple[SourceRule, ...]
    reading: Reading
    """The proof's own reading of the source."""
    base: str | None = None
    """Upper-case name of the mix that decides what no rule does (``Q5_K_M``); None: such tensors stay as they are."""
    switches: frozenset[str] = frozenset()
    """Options without a value that were given, such as ``--pure``."""
    has_imatrix: bool = False
    factors: Mapping[str, float] = field(default_factory=dict)
    """What scales are multiplied with, by upper-case type."""
    flags: Mapping[TypeFlag, str] = field(default_factory=dict)
    """Upper-case types by flag."""
    notes: tuple[str, ...] = ()
    """What a reader of the import should know: options that are another command's, spelling the engine refuses."""

    @property
    def engine(self) -> Engine:
        """The engine whose types, exclusions and fallbacks apply; shards of Thireus' suite are ik_llama.cpp's."""
        return "llama.cpp" if self.dialect == "llama.cpp" else "ik_llama.cpp"
