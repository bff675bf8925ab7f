"""What a user asks of the solver: sizes, types and limits, and to which tensors each applies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qxmix.container.imatrix import Imatrix
from qxmix.container.model import ModelHeader
from qxmix.plan import Split
from qxmix.quants import find, get
from qxmix.recipe.categories import CATEGORIES, category_of
from qxmix.recipe.model import Recipe
from qxmix.recipe.patterns import search

if TYPE_CHECKING:
    from qxmix.running.model import Use

REST = "rest"
"""In place of a pattern: the tensors that no other pattern takes."""


@dataclass(frozen=True, slots=True)
class Selector:
    """Some tensors: those of a category, or those in whose name a regular expression is found."""

    text: str
    """As written: ``attn_v``, ``exps``, ``^blk\\.0\\.``."""

    def holds(self, name: str) -> bool:
        """Whether it selects the tensor of this name.

        Raises:
            RecipeError: its expression takes for ever on the name.

        """
        return category_of(name) == self.text if self.text in CATEGORIES else search(self.text, name, self.text)


@dataclass(frozen=True, slots=True)
class Names:
    """Some tensors by their names."""

    text: str
    """What they are called."""
    names: frozenset[str]

    def holds(self, name: str) -> bool:
        """Whether the tensor of this name is one of them."""
        return name in self.names


@dataclass(frozen=True, slots=True)
class Bound:
    """Fewest or most bits, or types not wanted, for some tensors."""

    selector: Selector | None
    """None: all tensors."""
    types: tuple[str, ...]
    """Upper-case names; of a floor or ceiling one."""

    def holds(self, name: str) -> bool:
        """Whether it is about the tensor of this name."""
        return self.selector is None or self.selector.holds(name)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a choice must keep to, besides the size."""

    floors: tuple[Bound, ...] = ()
    ceilings: tuple[Bound, ...] = ()
    bans: tuple[Bound, ...] = ()
    ties: tuple[tuple[str, ...], ...] = (("ffn_gate", "ffn_up"),)
    """Starts of the parts of a layer that get one type, the rest of the part being equal: ``ffn_gate`` with
    ``ffn_up``, ``ffn_gate_exps`` with ``ffn_up_exps``.  ik_llama.cpp's fused kernel wants these of one type."""
    max_types: int | None = None
    """Most distinct types among the tensors that are chosen for."""

    def allows(self, name: str, type_name: str) -> bool:
        """Whether floors, ceilings and bans let the tensor of this name have the type."""
        if not (self.floors or self.ceilings or self.bans):
            return True
        bpw = get(type_name).bpw
        return not (
            any(b.holds(name) and bpw < get(b.types[0]).bpw for b in self.floors)
            or any(b.holds(name) and bpw > get(b.types[0]).bpw for b in self.ceilings)
            or any(b.holds(name) and type_name in b.types for b in self.bans)
        )


@dataclass(frozen=True, slots=True)
class Share:
    """A budget of its own for some tensors."""

    selector: Selector | Names | None
    """None: the rest."""
    nbytes: int


@dataclass(frozen=True, slots=True)
class Budget:
    """How large the result may be; what is None is not limited."""

    nbytes: int | None = None
    """Bytes of all output files."""
    bpw: float | None = None
    """Bits per weight over all tensors, as the plan counts them."""
    shares: tuple[Share, ...] = ()
    """Bytes in the file of the tensors that each selects, the first that selects a tensor counting."""

    @property
    def limits_all(self) -> bool:
        """Whether every tensor is under some limit."""
        return bool(self.nbytes or self.bpw) or any(share.selector is None for share in self.shares)


@dataclass(frozen=True, slots=True)
class Request:
    """All that the result follows from, but for the losses."""

    header: ModelHeader
    imatrix: Imatrix | None
    base: Recipe
    """Its rules are pinned; its target, its ``keep``, its policies and its search hold for the result."""
    budget: Budget
    types: tuple[str, ...]
    """Upper-case names of the candidates."""
    limits: Limits
    split: Split
    name: str
    """Of the recipe."""
    use: Use | None = None
    """What it has to run on, and how; None where nobody says."""


def known_type(text: str) -> str:
    """The upper-case name of a type that a recipe may ask for.

    Raises:
        ValueError: there is none of this name, or no new file may contain it.

    """
    found = find(text.strip())
    if found is None or not found.writable:
        raise ValueError(f"'{text.strip()}' is no type that a file is written in; 'qxmix types' lists them")
    return found.name
