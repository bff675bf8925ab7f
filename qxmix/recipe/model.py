"""The values a recipe is made of.  Everything is plain data; nothing in it is ever evaluated as code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from qxmix.errors import Place
from qxmix.quants import Engine

if TYPE_CHECKING:
    from qxmix.quants.feedback.options import Feedback
    from qxmix.recipe.conditions import Condition
    from qxmix.recipe.encoding import Scales
    from qxmix.recipe.layers import LayerSelector
    from qxmix.recipe.metadata import MetadataEdit

Target = Literal["llama.cpp", "ik_llama.cpp", "any"]
TARGETS: tuple[Target, ...] = ("llama.cpp", "ik_llama.cpp", "any")

Policy = Literal["llama.cpp", "ik_llama.cpp", "error"]

SearchName = Literal["gradient", "heuristic", "exhaustive"]
SEARCHES: tuple[SearchName, ...] = ("gradient", "heuristic", "exhaustive")

DEFAULT = "default"
"""In place of a type: whatever the recipe's ``default`` is.  Lower case, so no type is called so."""
KEEP = "keep"
"""In place of a type: the tensor is carried over as it is."""


@dataclass(frozen=True, slots=True)
class Fallback:
    """What a tensor gets whose rows the chosen type does not divide."""

    policy: Policy | None = None
    """The map that applies where no chain does; None: that of the target."""
    chains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Upper-case type to the types to try instead, in order; under ``""`` the chain of all other types."""


class Adjust(NamedTuple):
    """A step after the match: where its conditions hold, the type so far becomes another."""

    type: str
    layers: LayerSelector | None = None
    when: Condition = ()


class Expect(NamedTuple):
    """How many tensors a rule has to decide."""

    min: int = 0
    max: int | None = None


class NameTest(NamedTuple):
    """What a rule asks of a tensor's name alone: of those that pass, ordinals are counted."""

    match: str | None
    """Regular expression, searched in the name."""
    categories: tuple[str, ...]
    """One of these; empty for any."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: whom it selects, and what they become."""

    where: Place
    """Where it stands: ``recipe.yaml:12: rules[3]``."""
    source: int
    """Index into ``Recipe.sources`` of the file it stands in."""
    unit: int
    """Index of the recipe it belongs to, counted outward-in along ``extends``: those before override it."""
    type: str
    """Upper-case name of a type, or ``default`` or ``keep``."""
    match: str | None = None
    """Regular expression, searched in the name."""
    categories: tuple[str, ...] = ()
    layers: LayerSelector | None = None
    when: Condition = ()
    adjust: tuple[Adjust, ...] = ()
    fallback: Fallback | None = None
    """Beats the recipe's fallback for the tensors of this rule."""
    search: SearchName | None = None
    feedback: Feedback | Literal[False] | None = None
    """Whether and how errors are fed back; None: as the recipe says."""
    symmetric: bool | None = None
    """Whether levels lie evenly around zero, where the type has such; None: as the recipe says."""
    imatrix: bool = True
    """Whether an importance weights its tensors where there is one."""
    scale: Scales | None = None
    """What scales are multiplied with; None, and for types that are not in it: as the recipe says."""
    force: bool = False
    """Quantize tensors that the engines never quantize."""
    tie: bool = False
    """Tensors of one layer that this rule decides end with the same type."""
    expect: Expect | None = None
    comment: str = ""
    silence: Mapping[str, str] = field(default_factory=dict)
    """Ids of problems that this rule may cause, each with the reason; those of its file are in here."""

    @property
    def names(self) -> NameTest:
        """What it asks of a name."""
        return NameTest(self.match, self.categories)

    @property
    def selector(self) -> str:
        """Short text of what it selects, for tables and reasons."""
        parts = [f"/{self.match}/" if self.match is not None else "", ", ".join(self.categories)]
        if self.layers is not None:
            parts.append(f"layers {self.layers.text}")
        return " ".join(part for part in parts if part) or "all"


class ImatrixPolicy(NamedTuple):
    """What is asked of the importance matrix."""

    missing: Literal["error", "warn"] | None = None
    """A tensor whose encoder reads an importance has none: an error, a warning, or (None) what the target says."""
    require: tuple[str, ...] = ()
    """Types that need one in this recipe although their encoder does without."""
    prior: int = 0
    """Tokens by which what an expert saw is blended with what the others of its tensor saw."""


class Ordinals(NamedTuple):
    """How tensors of a category are counted."""

    order: Literal["file", "name"] | None = None
    """By place in the file, or by block number and name; None: as the target does."""
    overridden: Literal["count", "skip"] | None = None
    """Whether a tensor taken by a rule of a recipe that extends this one counts; None: as the target does."""


class Limits(NamedTuple):
    """What the plan may not exceed."""

    max_bpw: float | None = None
    """Bits per weight over all tensors."""
    max_size: int | None = None
    """Bytes of all output files."""
    max_vram: tuple[int, ...] = ()
    """Bytes of each GPU that running may take; alone: all but the embeddings is to be there."""
    max_ram: int | None = None
    """Bytes of memory that running may take."""
    ctx: int = 0
    """Tokens of context, all sequences together, with which the two hold; 0 where there are none."""
    kv_type: str = "F16"
    """Upper-case name of the cache's type with which they hold."""
    parallel: int = 1
    """Sequences at a time with which they hold."""

    def exceeded(self, bpw: float, nbytes: int) -> tuple[str, ...]:
        """Ids of the problems of an output with so many bits per weight and bytes."""
        too_many = self.max_bpw is not None and bpw > self.max_bpw
        too_large = self.max_size is not None and nbytes > self.max_size
        return ("limit-bpw",) * too_many + ("limit-size",) * too_large


class Source(NamedTuple):
    """A file the recipe was read from."""

    name: str
    """The path as given, or a shipped recipe's name."""
    sha256: str
    """Of its bytes, in hex."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe with everything it extends."""

    name: str
    target: Target
    default: str
    """Upper-case name of a type, or ``keep``: what a tensor gets that no rule names."""
    rules: tuple[Rule, ...]
    """Its own rules, then those of the recipes it extends, in order; the first that selects a tensor decides."""
    path: Path
    sources: tuple[Source, ...]
    """The file itself first, then what it extends."""
    places: Mapping[str, Place] = field(default_factory=dict)
    """Where each setting stands: ``default`` to ``recipe.yaml:3: default``."""
    text: str = ""
    """The file as it stands; with what it extends as further documents (see :mod:`qxmix.recipe.bundle`)."""
    description: str = ""
    fallback: Fallback = field(default_factory=Fallback)
    imatrix: ImatrixPolicy = field(default_factory=ImatrixPolicy)
    keep: tuple[str, ...] = ()
    """Regular expressions: tensors that are carried over as they are."""
    allow_requantize: bool = False
    search: SearchName | None = None
    """How scales are searched; None: nobody says, so as the reference does."""
    feedback: Feedback | None = None
    """How errors are fed back where there are moments; None: not at all."""
    symmetric: bool = False
    """Whether levels lie evenly around zero, where the type has such."""
    scale: Scales | None = None
    """What scales are multiplied with; None: as the reference does."""
    ordinals: Ordinals = field(default_factory=Ordinals)
    file_type: int | None = None
    """``general.file_type`` of the output; None: that of the type with the most bytes."""
    limits: Limits = field(default_factory=Limits)
    metadata: tuple[MetadataEdit, ...] = ()
    """What the output's metadata have other than the model's, in the order in which it is done."""
    silence: Mapping[str, str] = field(default_factory=dict)
    """Ids of problems that are not to be reported, each with the reason; not inherited."""
    sha256: str = ""
    """Of the file's bytes; where it extends others, of the hashes of all of them joined by newlines."""

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The engines that must load the result."""
        return engines_of(self.target)


def engines_of(target: Target) -> tuple[Engine, ...]:
    """The engines that must load what is made for a target."""
    return ("llama.cpp", "ik_llama.cpp") if target == "any" else (target,)
