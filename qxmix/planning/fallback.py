"""What a tensor gets instead of a type that cannot hold it, step by step.

The engines' substitutes are facts of the types (``QuantType.fallbacks``).  llama.cpp goes on to F16 where the
substitute does not fit either; ik_llama.cpp has no second step and would abort in the quantizer, so here it is an error
of the plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qxmix.quants import Engine, QuantType, get

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qxmix.container.model import TensorInfo
    from qxmix.recipe.model import Fallback, Policy

_NEVER_INTERLEAVED = frozenset({"token_embd.weight", "per_layer_token_embd.weight"})
"""Rows of these are looked up one by one, which an interleaved type cannot serve (ik_llama.cpp issue 296)."""


@dataclass(frozen=True, slots=True)
class Effective:
    """The type a tensor really gets."""

    type: str
    steps: tuple[str, ...] = ()
    """What happened on the way, in order; empty where the requested type fits."""
    error: str = ""
    """Why no type was found; ``type`` is then the last one tried."""


def effective_type(
    tensor: TensorInfo,
    requested: str,
    fallbacks: tuple[Fallback, ...],
    target_policy: Policy,
    engines: tuple[Engine, ...],
) -> Effective:
    """The type a tensor gets when ``requested`` is asked for.

    Args:
        tensor: The tensor.
        requested: Upper-case name of the type that rule or default chose.
        fallbacks: That of the rule, if it has one, then the recipe's.
        target_policy: The policy where none of them states one.
        engines: The engines that must load the result.

    """
    steps: list[str] = []
    current, tried = requested, {requested}
    policy = next((f.policy for f in fallbacks if f.policy is not None), target_policy)
    while cause := misfit(tensor, get(current)):
        if policy == "error" and not _chain(fallbacks, current):
            return Effective(current, tuple(steps), f"{cause}, and 'fallback' is 'error'")
        chosen = _next(tensor, current, fallbacks, policy, tried)
        if chosen is None:
            return Effective(current, tuple(steps), f"{cause}, and {_dead_end(current, fallbacks, policy)}")
        steps.append(f"{current} -> {chosen}: {cause}")
        if foreign := [e for e in engines if e not in get(chosen).engines]:
            return Effective(chosen, tuple(steps), f"{cause}, and the fallback {chosen} is unknown to {foreign[0]}")
        current = chosen
        tried.add(current)
    return Effective(current, tuple(steps))


def misfit(tensor: TensorInfo, quant_type: QuantType) -> str:
    """Why the type cannot hold the tensor; empty where it can."""
    if not quant_type.fits(tensor.n_cols):
        return f"rows of {tensor.n_cols} weights are not whole blocks of {quant_type.block_size}"
    if quant_type.row_group > 1:
        if tensor.name in _NEVER_INTERLEAVED:
            return "rows of an embedding are looked up one by one and cannot be interleaved"
        if tensor.n_rows % quant_type.row_group:
            return f"{tensor.n_rows} rows are not whole groups of {quant_type.row_group}"
    return ""


def nominal_nbytes(quant_type: QuantType, tensor: TensorInfo) -> float:
    """Bytes the tensor would have if its rows could be cut into blocks of the type anywhere."""
    n_rows = tensor.n_rows * tensor.n_matrices
    return quant_type.row_meta_nbytes * n_rows + tensor.n_weights * quant_type.block_nbytes / quant_type.block_size


def _next(
    tensor: TensorInfo, current: str, fallbacks: tuple[Fallback, ...], policy: Policy, tried: set[str]
) -> str | None:
    """The first substitute that fits, else the first that can be followed further."""
    for candidate in _chain(fallbacks, current):
        if candidate not in tried and not misfit(tensor, get(candidate)):
            return candidate
    if policy == "error":
        return None
    return next((c for c in _by_policy(tensor, current, policy) if c not in tried), None)


def _chain(fallbacks: tuple[Fallback, ...], current: str) -> tuple[str, ...]:
    return next((f.chains[key] for f in fallbacks for key in (current, "") if key in f.chains), ())


def _by_policy(tensor: TensorInfo, current: str, policy: Engine) -> Iterator[str]:
    now = get(current)
    if now.fits(tensor.n_cols):
        # The rows are whole blocks, so it is the interleaving that fails; both engines' loaders know the plain type.
        if now.base:
            yield now.base
        return
    substitute = now.fallback(policy)
    fits = bool(substitute) and get(substitute).fits(tensor.n_cols)
    if fits:
        yield substitute
    elif policy == "llama.cpp" and (substitute or now.block_size <= 32):  # noqa: PLR2004
        yield "F16"


def _dead_end(current: str, fallbacks: tuple[Fallback, ...], policy: Policy) -> str:
    chain = _chain(fallbacks, current)
    tried = f"none of {', '.join(chain)} fits" if chain else ""
    if policy == "error":
        return tried
    engine = f"{policy} has no substitute for {current} that fits"
    return f"{tried}, and {engine}" if tried else engine
