"""From a model and a request to what can be chosen: items with their options, and the bytes that are not open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from qxmix.container.gguf_format import pad
from qxmix.container.model import TensorInfo
from qxmix.errors import PlanError
from qxmix.plan import Plan, PlannedTensor
from qxmix.planning.fallback import misfit
from qxmix.planning.importance import find_entry, missing_is
from qxmix.planning.kept import Why
from qxmix.planning.loading import why_not_run
from qxmix.quants import get
from qxmix.recipe.categories import name_parts, part_of
from qxmix.recipe.model import KEEP
from qxmix.solve.model import Item, Option, undominated
from qxmix.solve.request import Limits, Request, Share

_PLAIN = frozenset({"F64", "F32", "F16", "BF16"})


@dataclass(frozen=True, slots=True)
class Choices:
    """What is open and what is not."""

    items: tuple[Item, ...]
    free: tuple[TensorInfo, ...]
    """The tensors of the items, in the order of the model."""
    settled: tuple[PlannedTensor, ...]
    """The others: kept, or pinned by a rule of the base recipe."""


def choices_of(request: Request, plan: Plan, losses: Callable[[TensorInfo], Mapping[str, float]]) -> Choices:
    """All items of a request.

    Args:
        request: What is asked.
        plan: Of the request's base recipe.
        losses: What each type costs a tensor; of types that are missing nothing is known, and they are no options.

    Raises:
        PlanError: the limits leave a tensor no type at all.

    """
    free = [t for t in plan.tensors if _is_free(t)]
    sizes = _Sizes(request)
    options = {t.name: _options(request, t.source, sizes.of(t.source), losses(t.source)) for t in free}
    if closed := [t.name for t in free if not options[t.name]]:
        more = f" and {len(closed) - 1} more tensors" if len(closed) > 1 else ""
        text = f"types, floors, ceilings and bans leave no type that its rows allow{more}; loosen one of them"
        raise PlanError.at(closed[0], text)
    groups = _grouped([t.name for t in free], request.limits, request.budget.shares)
    items = tuple(item for names in groups for item in _items(names, options))
    return Choices(items, tuple(t.source for t in free), tuple(t for t in plan.tensors if not _is_free(t)))


def _is_free(tensor: PlannedTensor) -> bool:
    """Whether no rule, no policy and no engine decides what becomes of the tensor."""
    return tensor.rule is None and (tensor.kept is None or tensor.kept.why is Why.RULE)


def share_of(name: str, shares: Sequence[Share]) -> int | None:
    """Index of the share that a tensor's bytes count for, or None."""
    named = (i for i, s in enumerate(shares) if s.selector is not None and s.selector.holds(name))
    rest = (i for i, s in enumerate(shares) if s.selector is None)
    return next(named, next(rest, None))


class _Sizes:
    """Which types a tensor can have, and in how many bytes: the same for one part of all layers, and found once."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._known: dict[object, dict[str, int]] = {}

    def of(self, tensor: TensorInfo) -> dict[str, int]:
        """Bytes in the file by type, as far as engines, rows and importance allow."""
        request = self._request
        has_entry = find_entry(tensor, request.imatrix, request.base.engines)[0] is not None
        key = part_of(tensor.name), tensor.shape, tensor.type, has_entry
        if key not in self._known:
            self._known[key] = {
                name: pad(get(name).nbytes(tensor.shape), request.header.alignment)
                for name in request.types
                if _can_be(request, tensor, name, has_entry=has_entry)
            }
        return self._known[key]


def _options(
    request: Request, tensor: TensorInfo, sizes: Mapping[str, int], losses: Mapping[str, float]
) -> dict[str, Option]:
    """By type; a tensor that is quantized already, or that no type fits, may stay as it is."""
    found = {
        name: Option(name, nbytes, losses[name])
        for name, nbytes in sizes.items()
        if name in losses and request.limits.allows(tensor.name, name)
    }
    if tensor.type not in _PLAIN or not sizes:
        found[KEEP] = Option(KEEP, pad(tensor.nbytes, request.header.alignment), 0.0)
    return found


def _can_be(request: Request, tensor: TensorInfo, type_name: str, *, has_entry: bool) -> bool:
    """Whether the engines load and run the tensor so, and its encoder has the importance that it wants."""
    engines = request.base.engines
    quant_type = get(type_name)
    if (
        not get(tensor.type).codec
        or misfit(tensor, quant_type)
        or ("ik_llama.cpp" in engines and why_not_run(quant_type, tensor.n_cols))
    ):
        return False
    if tensor.type not in _PLAIN and not request.base.allow_requantize:
        return False
    return has_entry or missing_is(tensor, quant_type, request.base)[0] != "error"


def _grouped(names: Sequence[str], limits: Limits, shares: Sequence[Share]) -> list[list[str]]:
    """Names that get one type together, in the order of the first of them."""
    groups: dict[object, list[str]] = {}
    for name in names:
        groups.setdefault((_tie_key(name, limits), share_of(name, shares)), []).append(name)
    return list(groups.values())


def _tie_key(name: str, limits: Limits) -> object:
    """Equal for tensors that are tied."""
    of = name_parts(name)
    if of.layer is not None:
        rest = name.removeprefix(f"{of.stack}.{of.layer}.")
        for i, starts in enumerate(limits.ties):
            start = next((s for s in starts if rest.startswith(s)), None)
            if start is not None:
                return of.stack, of.layer, i, rest.removeprefix(start)
    return name


def _items(names: list[str], options: Mapping[str, Mapping[str, Option]]) -> Iterator[Item]:
    """One item of the names; one each where no type is open to all of them."""
    common = [kind for kind in options[names[0]] if all(kind in options[n] for n in names)]
    if not common:
        for name in names:
            yield Item((name,), undominated(list(options[name].values())))
        return
    sums = [
        Option(kind, sum(options[n][kind].nbytes for n in names), sum(options[n][kind].loss for n in names))
        for kind in common
    ]
    yield Item(tuple(names), undominated(sums))
