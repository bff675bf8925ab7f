"""What a tensor gets instead of a type that cannot hold it, step by step.

The engines' substitutes are facts of the types (``QuantType.fallbacks``).  llama.cpp goes on to F16 where the
substitute does not fit either; ik_llama.cpp has no second step and would abort in the quantizer, so here it is an error
of the plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from qxmix.container.model import TensorInfo
from qxmix.quants import Engine, QuantType, get
from qxmix.recipe.model import Fallback, Policy

_NEVER_INTERLEAVED = frozenset({"token_embd.weight", "per_layer_token_embd.weight"})
"""Rows of these are looked up one by one, which an interleaved type cannot serve (ik_llama.cpp issue 296)."""


class Types(dict[str, QuantType]):
    """The types that a plan comes to, by upper-case name; each is looked up once."""

    def __missing__(self, name: str) -> QuantType:
        """Look it up.

        Raises:
            KeyError: there is no such type.

        """
        found = self[name] = get(name)
        return found


class Step(NamedTuple):
    """One type given up for another."""

    before: str
    after: str
    cause: str

    def __str__(self) -> str:
        return f"{self.before} -> {self.after}: {self.cause}"


class Effective(NamedTuple):
    """The type a tensor really gets."""

    quant_type: QuantType
    steps: tuple[Step, ...] = ()
    """What happened on the way, in order; empty where the requested type fits."""
    error: str = ""
    """Why no type was found; ``quant_type`` is then the last one tried."""


def effective_type(
    tensor: TensorInfo,
    requested: QuantType,
    fallbacks: tuple[Fallback, ...],
    target_policy: Policy,
    engines: tuple[Engine, ...],
    types: Types,
) -> Effective:
    """The type a tensor gets when ``requested`` is asked for.

    Args:
        tensor: The tensor.
        requested: The type that rule or default chose.
        fallbacks: That of the rule, if it has one, then the recipe's.
        target_policy: The policy where none of them states one.
        engines: The engines that must load the result.
        types: Where substitutes are found by their names.

    """
    steps: list[Step] = []
    current, tried = requested, {requested.name}
    policy = next((f.policy for f in fallbacks if f.policy is not None), target_policy)
    while cause := misfit(tensor, current):
        chain = _chain(fallbacks, current)
        if policy == "error" and not chain:
            return Effective(current, tuple(steps), f"{cause}, and 'fallback' is 'error'")
        chosen = _next(tensor, [types[name] for name in chain], _by_policy(tensor, current, policy, types), tried)
        if chosen is None:
            return Effective(current, tuple(steps), f"{cause}, and {_dead_end(current, chain, policy)}")
        steps.append(Step(current.name, chosen.name, cause))
        if foreign := [e for e in engines if e not in chosen.engines]:
            text = f"{cause}, and the fallback {chosen.name} is unknown to {foreign[0]}"
            return Effective(chosen, tuple(steps), text)
        current = chosen
        tried.add(current.name)
    return Effective(current, tuple(steps))


def misfit(tensor: TensorInfo, quant_type: QuantType) -> str:
    """Why the type cannot hold the tensor; empty where it can."""
    if not quant_type.fits(tensor.n_cols):
        return f"rows of {tensor.n_cols} weights are not whole blocks of {quant_type.block_size}"
    if quant_type.row_group > 1:
        if is_looked_up(tensor):
            return "rows of an embedding are looked up one by one and cannot be interleaved"
        if tensor.n_rows % quant_type.row_group:
            return f"{tensor.n_rows} rows are not whole groups of {quant_type.row_group}"
    return ""


def is_looked_up(tensor: TensorInfo) -> bool:
    """Whether rows are looked up one by one, so that the tensor's name, too, decides which types can hold it."""
    return tensor.name in _NEVER_INTERLEAVED


def nominal_nbytes(quant_type: QuantType, tensor: TensorInfo) -> float:
    """Bytes the tensor would have if its rows could be cut into blocks of the type anywhere."""
    n_rows = tensor.n_rows * tensor.n_matrices
    return quant_type.row_meta_nbytes * n_rows + tensor.n_weights * quant_type.block_nbytes / quant_type.block_size


def _next(
    tensor: TensorInfo, chain: Sequence[QuantType], by_policy: QuantType | None, tried: set[str]
) -> QuantType | None:
    """The first substitute that fits, else what the policy has, which can be followed further."""
    for candidate in chain:
        if candidate.name not in tried and not misfit(tensor, candidate):
            return candidate
    return by_policy if by_policy is not None and by_policy.name not in tried else None


def _chain(fallbacks: tuple[Fallback, ...], current: QuantType) -> tuple[str, ...]:
    return next((f.chains[key] for f in fallbacks for key in (current.name, "") if key in f.chains), ())


def _by_policy(tensor: TensorInfo, current: QuantType, policy: Policy, types: Types) -> QuantType | None:
    if policy == "error":
        return None
    if current.fits(tensor.n_cols):
        # The rows are whole blocks, so it is the interleaving that fails; both engines' loaders know the plain type.
        return types[current.base] if current.base else None
    substitute = current.fallback(policy)
    if substitute and types[substitute].fits(tensor.n_cols):
        return types[substitute]
    if policy == "llama.cpp" and (substitute or current.block_size <= 32):  # noqa: PLR2004
        return types["F16"]
    return None


def _dead_end(current: QuantType, chain: tuple[str, ...], policy: Policy) -> str:
    tried = f"none of {', '.join(chain)} fits" if chain else ""
    if policy == "error":
        return tried
    engine = f"{policy} has no substitute for {current.name} that fits"
    return f"{tried}, and {engine}" if tried else engine
