"""A model as rules ask about it.  Nothing here depends on a recipe, so that many recipes can share one view."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qxmix.container.layout import OutputTensor, table_entry
from qxmix.container.model import ModelHeader, TensorInfo
from qxmix.errors import Place
from qxmix.planning import bits
from qxmix.planning.bits import Tensors
from qxmix.planning.facts import MAIN_STACK, count_layers, model_facts, tensor_facts
from qxmix.planning.fallback import is_looked_up
from qxmix.planning.gate import never_quantized, unreadable
from qxmix.planning.kept import Kept
from qxmix.quants import Engine
from qxmix.recipe import layers
from qxmix.recipe.categories import block_of, category_of, name_parts, part_of
from qxmix.recipe.conditions import FactValue
from qxmix.recipe.layers import LayerSelector
from qxmix.recipe.literals import required, sequences
from qxmix.recipe.model import NameTest
from qxmix.recipe.patterns import search


@dataclass(frozen=True, slots=True)
class Gate:
    """What the engines of a target leave to rules."""

    kept: Mapping[Kept, Tensors]
    """Why they never quantize tensors."""
    quantizable: Tensors
    readable: Tensors
    """Those that a rule with ``force`` can quantize."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Tensors of one shape, source type and size: what has one type comes out alike of them."""

    tensors: Tensors
    facts: dict[str, FactValue]
    """Of each of them, but for the type so far and what an importance matrix has."""


@dataclass(slots=True)
class ModelView:
    """The sets of tensors that rules speak of; each is worked out when it is first asked for."""

    header: ModelHeader
    _kinds: tuple[Kind, ...] | None = None
    _gates: dict[tuple[Engine, ...], Gate] = field(default_factory=dict)
    _facts: dict[bool, dict[str, FactValue]] = field(default_factory=dict)
    _categories: dict[str, Tensors] | None = None
    _stacks: dict[tuple[str, int], Tensors] | None = None
    """By the name of a stack of layers and the number of one."""
    _index: dict[str, list[int]] | None = None
    """Tensors by the sequences of components that their names hold."""
    _searched: dict[str, tuple[Tensors, Tensors]] = field(default_factory=dict)
    """Of each pattern the tensors it was tried on, and those it was found in."""
    _places: dict[tuple[NameTest, Tensors, bool], dict[int, int]] = field(default_factory=dict)
    _table_nbytes: int | None = None
    _totals: dict[object, int] = field(default_factory=dict)
    _layered: dict[object, Tensors] = field(default_factory=dict)
    _parts: dict[str, Tensors] | None = None
    _gates_and_ups: tuple[tuple[int, int], ...] | None = None

    def facts(self, *, has_imatrix: bool) -> dict[str, FactValue]:
        """The facts that are the same for every tensor."""
        if has_imatrix not in self._facts:
            self._facts[has_imatrix] = model_facts(self.header, has_imatrix=has_imatrix)
        return self._facts[has_imatrix]

    def gate(self, engines: tuple[Engine, ...]) -> Gate:
        """What these engines never quantize."""
        found = self._gates.get(engines)
        if found is None:
            tensors, arch = self.header.tensors, self.header.architecture
            kept = bits.by_value(never_quantized(t, engines, arch) for t in tensors)
            readable = bits.from_flags([unreadable(t) is None for t in tensors])
            found = self._gates[engines] = Gate(kept, self.all & ~bits.union(kept.values()), readable)
        return found

    @property
    def all(self) -> Tensors:
        """All tensors."""
        return (1 << len(self.header.tensors)) - 1

    @property
    def table_nbytes(self) -> int:
        """Bytes of the output's tensor table, which are the same for whatever types."""
        if self._table_nbytes is None:
            rows = (OutputTensor(t.name, t.shape, 0, 0) for t in self.header.tensors)
            self._table_nbytes = sum(len(table_entry(row, 0)) for row in rows)
        return self._table_nbytes

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """All tensors by shape and source type."""
        if self._kinds is None:
            tensors = self.header.tensors
            # Of a type that nobody knows the size follows from no shape.
            alike = bits.by_value((t.shape, t.type_id, t.nbytes, is_looked_up(t)) for t in tensors)
            self._kinds = tuple(Kind(found, tensor_facts(tensors[bits.first(found)])) for found in alike.values())
        return self._kinds

    @property
    def parts(self) -> dict[str, Tensors]:
        """All tensors by the part of a name that is the same in every layer."""
        if self._parts is None:
            self._parts = bits.by_value(part_of(t.name) for t in self.header.tensors)
        return self._parts

    @property
    def gates_and_ups(self) -> tuple[tuple[int, int], ...]:
        """Each ``ffn_gate`` with the ``ffn_up`` that it is multiplied with."""
        if self._gates_and_ups is None:
            index = {t.name: i for i, t in enumerate(self.header.tensors)}
            ups = ((i, index.get(n.replace("ffn_gate", "ffn_up"))) for n, i in index.items() if "ffn_gate" in n)
            self._gates_and_ups = tuple((i, up) for i, up in ups if up is not None)
        return self._gates_and_ups

    def n_weights(self, tensors: Tensors) -> int:
        """How many weights a set of tensors has."""
        sizes = (self.header.tensors[bits.first(kind.tensors)].n_weights for kind in self.kinds)
        return sum(n * (kind.tensors & tensors).bit_count() for kind, n in zip(self.kinds, sizes, strict=True))

    def named(self, names: NameTest, among: Tensors, where: Place) -> Tensors:
        """Those among the given ones whose names pass a test.

        Raises:
            RecipeError: the pattern takes for ever on a name.

        """
        if names.categories:
            among &= bits.union(self._category(c) for c in names.categories)
        if names.match is None or not among:
            return among
        holders = self._holders(names.match)
        return self._found(names.match, among if holders is None else among & holders, where)

    def _category(self, category: str) -> Tensors:
        if self._categories is None:
            self._categories = bits.by_value(category_of(t.name) for t in self.header.tensors)
        return self._categories.get(category, 0)

    def _holders(self, match: str) -> Tensors | None:
        """Tensors whose names hold what a pattern requires; None where it requires nothing that is known."""
        keys = required(match)
        if keys is None:
            return None
        if self._index is None:
            self._index = {}
            for i, tensor in enumerate(self.header.tensors):
                for key in sequences(tensor.name):
                    self._index.setdefault(key, []).append(i)
        return bits.union(bits.from_indices(self._index.get(key, ())) for key in keys)

    def _found(self, match: str, among: Tensors, where: Place) -> Tensors:
        tried, found = self._searched.get(match, (0, 0))
        if new := among & ~tried:
            tensors = self.header.tensors
            found |= bits.from_indices([i for i in bits.indices(new) if search(match, tensors[i].name, where)])
            self._searched[match] = (tried | new, found)
        return found & among

    def in_layers(self, selector: LayerSelector) -> Tensors:
        """The tensors in the layers that a selector names by their numbers."""
        found = self._layered.get(selector)
        if found is None:
            found = self._layered[selector] = bits.union(
                tensors
                for (stack, layer), tensors in self._all_layers().items()
                if layers.holds(selector, layer, self._total(selector.of, stack))
            )
        return found

    def at_places(
        self, selector: LayerSelector, names: NameTest, counted: Tensors, where: Place, *, by_name: bool
    ) -> Tensors:
        """The tensors whose place among those that a test selects is one that a selector names; see :meth:`places`."""
        key = (selector, names, counted, by_name)
        found = self._layered.get(key)
        if found is None:
            tensors = self.header.tensors
            chosen = [
                i
                for i, place in self.places(names, counted, where, by_name=by_name).items()
                if layers.holds(selector, place, self._total(selector.of, name_parts(tensors[i].name).stack))
            ]
            found = self._layered[key] = bits.from_indices(chosen)
        return found

    def places(self, names: NameTest, counted: Tensors, where: Place, *, by_name: bool) -> dict[int, int]:
        """Place of each counted tensor among those whose names a test selects, in order of the file or the names."""
        key = (names, counted, by_name)
        found = self._places.get(key)
        if found is None:
            chosen = bits.indices(self.named(names, counted, where))
            if by_name:
                chosen.sort(key=lambda i: _name_order(self.header.tensors[i]))
            found = self._places[key] = {index: place for place, index in enumerate(chosen)}
        return found

    def _all_layers(self) -> dict[tuple[str, int], Tensors]:
        if self._stacks is None:
            names = (name_parts(t.name) for t in self.header.tensors)
            self._stacks = bits.by_value(None if p.layer is None else (p.stack, p.layer) for p in names)
        return self._stacks

    def _total(self, of: tuple[str, ...], stack: str) -> int:
        """All tensors of the categories, kept ones included, or else the layers.

        Those of the model are what it states, as the engines count them, and those of any other stack are counted.
        """
        key = of or (stack if stack != MAIN_STACK else "")
        found = self._totals.get(key)
        if found is None:
            n_layer = self.facts(has_imatrix=False)["n_layer"]
            assert isinstance(n_layer, int)
            if of:
                found = bits.union(map(self._category, of)).bit_count()
            else:
                found = count_layers(self.header.tensors, stack) if stack not in ("", MAIN_STACK) else n_layer
            self._totals[key] = found
        return found


def _name_order(tensor: TensorInfo) -> tuple[int, bytes]:
    """llama.cpp's order: tensors outside of blocks first, then by block, each by the bytes of the name."""
    layer = block_of(tensor.name)
    return -1 if layer is None else layer, tensor.name.encode()
