"""The values of a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from qxmix.container.imatrix import Imatrix
from qxmix.container.layout import OutputFile
from qxmix.container.model import ModelHeader, TensorInfo
from qxmix.errors import Problem
from qxmix.planning import bits
from qxmix.planning.bits import Tensors
from qxmix.planning.kept import Kept
from qxmix.quants import QuantType
from qxmix.quants.feedback.options import Feedback
from qxmix.recipe.encoding import Factor
from qxmix.recipe.model import Recipe

if TYPE_CHECKING:
    from qxmix.container.moments import Moments
    from qxmix.quants.codec import Search


class Split(NamedTuple):
    """How the output is split into files."""

    max_nbytes: int | None = None
    """Most bytes of a file; a tensor that alone is larger gets a file of its own."""
    max_tensors: int | None = None
    keep: bool = False
    """Every tensor stays in the shard it has in the model."""
    bare_first: bool = False
    """Of an output split anew, the first file holds metadata alone."""


class TensorFeedback(NamedTuple):
    """How the errors of a tensor's weights are fed back."""

    entry: str
    """Name of the moments' entry."""
    options: Feedback


class Alike(NamedTuple):
    """Tensors about which the same is decided."""

    tensors: Tensors
    rule: int | None
    requested: str
    type: str
    kept: bool
    encodes: bool


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """One tensor of the output."""

    source: TensorInfo
    quant_type: QuantType | None
    """The type it gets, of a copied tensor that which it has; None for an id that neither engine writes."""
    action: Literal["copy", "encode"]
    """Carried over byte for byte, or decoded and encoded."""
    reason: str
    """Why this type: the rule and its line, the default, a fallback step by step, or what keeps it as it is."""
    requested: str
    """The type before any fallback; equal to ``type`` where there was none."""
    rule: int | None
    """Index into ``recipe.rules`` of the rule that decided, or None."""
    importance: str | None
    """Name of the imatrix entry that weights it, or None."""
    search: Search | None
    """How its scales are searched, if the recipe says it; None: as the reference does."""
    nbytes: int
    """Bytes of data in the output."""
    shard: int
    """Index into ``Plan.files``."""
    offset: int
    """Where its data start, in bytes from the start of that output file."""
    feedback: TensorFeedback | None = None
    """Error feedback, where it is asked for, the type has it and there are moments."""
    kept: Kept | None = None
    """Why it is carried over where neither a rule nor the default gives it a type; None where one does."""
    symmetric: bool = False
    """Levels lie evenly around zero: rounded by one formula, without search, importance or feedback."""
    scale: Factor | None = None
    """What its scales are multiplied with, if the recipe says it and the encoder takes it; ``auto`` until found."""
    second: str | None = None
    """Name of the moments' entry by which ``auto`` is found; None: by the importance, or all columns alike."""

    @property
    def type(self) -> str:
        """Upper-case name of the type it gets; of a copied tensor the type it has."""
        return self.quant_type.name if self.quant_type is not None else self.source.type

    @property
    def name(self) -> str:
        """The tensor's name."""
        return self.source.name

    @property
    def counts_alike(self) -> bool:
        """Whether every column counts 1: a search is named, the type has it, and nothing says what counts how much."""
        searches = self.action == "encode" and self.quant_type is not None and self.quant_type.searches
        named = searches and self.search is not None and not self.symmetric
        return named and self.importance is None and self.feedback is None

    @property
    def heeds_search(self) -> bool:
        """Whether the search that the recipe names can change its bytes."""
        kind = self.quant_type
        if self.action != "encode" or kind is None or self.symmetric:
            return False
        return kind.heeds(self.search) and (kind.searches or self.feedback is None)

    @property
    def source_type(self) -> str:
        """Upper-case name of the type it has in the model."""
        return self.source.type


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """A recipe applied to a model's header, complete to the last byte of the output."""

    recipe: Recipe
    header: ModelHeader
    imatrix: Imatrix | None
    tensors: tuple[PlannedTensor, ...]
    """In output order."""
    file_type: int | None
    """``general.file_type`` of the output, or None where no id describes it."""
    files: tuple[OutputFile, ...]
    problems: tuple[Problem, ...]
    """What breaks a policy or deserves a look; errors first."""
    moments: Moments | None = None
    """The second moments, whether or not a tensor uses them."""

    def __repr__(self) -> str:
        return (
            f"<Plan {self.recipe.name} of {self.header.path.name}: {len(self.tensors)} tensors, "
            f"{self.file_nbytes} bytes, {self.bpw:.4f} bpw, {len(self.problems)} problems>"
        )

    @property
    def alike(self) -> tuple[Alike, ...]:
        """What is decided, in the order of the first tensors."""
        told = bits.by_value((t.rule, t.requested, t.type, bool(t.kept), t.action == "encode") for t in self.tensors)
        return tuple(Alike(tensors, *what) for what, tensors in told.items())

    @property
    def file_nbytes(self) -> int:
        """Bytes of all output files."""
        return sum(f.nbytes for f in self.files)

    @property
    def data_nbytes(self) -> int:
        """Bytes of all tensors, padding not counted."""
        return sum(t.nbytes for t in self.tensors)

    @property
    def bpw(self) -> float:
        """Bits per weight over all tensors, kept ones included: what llama.cpp and model cards print."""
        return 8 * self.data_nbytes / max(1, sum(t.source.n_weights for t in self.tensors))

    @property
    def quantized_bpw(self) -> float:
        """Bits per weight over the tensors that are encoded; 0 where there is none."""
        encoded = [t for t in self.tensors if t.action == "encode"]
        return 8 * sum(t.nbytes for t in encoded) / max(1, sum(t.source.n_weights for t in encoded))
