"""The planner: recipe, header and importance matrix in, plan out; everything that is wrong becomes a problem in it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from qxmix.importance.prior import with_prior
from qxmix.planning.choose import Chooser
from qxmix.planning.draft import draft, planned
from qxmix.planning.facts import model_facts
from qxmix.planning.fallback import Types
from qxmix.planning.findings import find_problems
from qxmix.planning.gate import kept_by_recipe, never_quantized, unreadable
from qxmix.planning.model import Plan, Split
from qxmix.planning.sizes import file_type_of, place
from qxmix.planning.tie import tie

if TYPE_CHECKING:
    from qxmix.container.imatrix import Imatrix
    from qxmix.container.model import ModelHeader
    from qxmix.container.moments import Moments
    from qxmix.planning.kept import Kept
    from qxmix.recipe.model import Recipe


def make_plan(
    recipe: Recipe,
    header: ModelHeader,
    imatrix: Imatrix | None = None,
    split: Split | None = None,
    moments: Moments | None = None,
) -> Plan:
    """Plan what every tensor of a model becomes, to the last byte of the output.

    A plan that breaks a policy is still a plan: its ``problems`` say what is wrong, and whoever applies it refuses.

    Args:
        recipe: The recipe.
        header: The model.
        imatrix: Its importance matrix, or None.
        split: How to split the output; None makes one file.
        moments: Second moments of the tensors' inputs, for error feedback; None for none.

    Returns:
        The plan, its tensors in the order of the model.

    Raises:
        RecipeError: a pattern of the recipe takes for ever on a tensor's name.
        PlanError: the output would have more shards than a file can count.

    """
    if imatrix is not None and recipe.imatrix.prior:
        imatrix = with_prior(imatrix, recipe.imatrix.prior)
    kept, forcible = _gate(recipe, header)
    chooser = make_chooser(
        recipe,
        header,
        [not reason for reason in kept],
        imatrix=imatrix,
        keep_split=split is not None and split.keep,
    )
    chosen = chooser.choose(forcible)
    types = Types()
    drafts = tie(
        recipe,
        [draft(recipe, t, chosen.get(i), kept[i], imatrix, types) for i, t in enumerate(header.tensors)],
    )
    tensors = tuple(planned(recipe, d, moments) for d in drafts)
    file_type = file_type_of(recipe, header, tensors)
    tensors, files = place(recipe, header, imatrix, tensors, file_type, split or Split(), moments)
    plan = Plan(recipe, header, imatrix, tensors, file_type, files, (), moments)
    return replace(plan, problems=find_problems(plan, drafts, chooser, forcible, types, split or Split()))


def make_chooser(
    recipe: Recipe, header: ModelHeader, quantizable: list[bool], *, imatrix: Imatrix | None, keep_split: bool = False
) -> Chooser:
    """The rules seen against a model, counting tensors as the recipe says or else as the target does.

    llama.cpp sorts tensors by block and name, but not where it keeps the split of the model.
    """
    llama_cpp = recipe.target == "llama.cpp"
    order = recipe.ordinals.order or ("name" if llama_cpp and not keep_split else "file")
    overridden = recipe.ordinals.overridden or ("skip" if llama_cpp else "count")
    facts = model_facts(header, has_imatrix=imatrix is not None)
    return Chooser(recipe, header, facts, quantizable, order == "name", overridden == "count", imatrix=imatrix)


def _gate(recipe: Recipe, header: ModelHeader) -> tuple[list[Kept | None], list[int]]:
    """Why each tensor is carried over (None: it is quantized), and the indices that rules have a say about."""
    kept: list[Kept | None] = []
    forcible: list[int] = []
    for i, tensor in enumerate(header.tensors):
        if by_recipe := kept_by_recipe(tensor, recipe):
            kept.append(by_recipe)
            continue
        kept.append(never_quantized(tensor, recipe.engines, header.architecture))
        if not unreadable(tensor):
            forcible.append(i)
    return kept, forcible
