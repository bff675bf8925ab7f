"""The planner: recipe, header and importance matrix in, plan out; everything that is wrong becomes a problem in it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from qxmix.container.imatrix import Imatrix
from qxmix.container.model import ModelHeader
from qxmix.importance.prior import with_prior
from qxmix.planning import bits
from qxmix.planning.bits import Tensors
from qxmix.planning.choose import Chooser, Decisions
from qxmix.planning.drafting import drafts_of, planned
from qxmix.planning.fallback import Types
from qxmix.planning.findings import find_problems
from qxmix.planning.gate import kept_by_recipe
from qxmix.planning.model import Plan, Split
from qxmix.planning.sizes import file_type_of, nbytes_by_type, place
from qxmix.planning.tie import tie
from qxmix.planning.view import ModelView
from qxmix.recipe.model import Recipe

if TYPE_CHECKING:
    from qxmix.container.moments import Moments


def make_plan(
    recipe: Recipe,
    header: ModelHeader,
    imatrix: Imatrix | None = None,
    split: Split | None = None,
    moments: Moments | None = None,
    *,
    view: ModelView | None = None,
) -> Plan:
    """Plan what every tensor of a model becomes, to the last byte of the output.

    A plan that breaks a policy is still a plan: its ``problems`` say what is wrong, and whoever applies it refuses.

    Args:
        recipe: The recipe.
        header: The model.
        imatrix: Its importance matrix, or None.
        split: How to split the output; None makes one file.
        moments: Second moments of the tensors' inputs, for error feedback; None for none.
        view: The view of ``header`` that several recipes share; None makes one.

    Returns:
        The plan, its tensors in the order of the model.

    Raises:
        RecipeError: a pattern of the recipe takes for ever on a tensor's name.
        PlanError: the output would have more shards than a file can count.

    """
    if imatrix is not None and recipe.imatrix.prior:
        imatrix = with_prior(imatrix, recipe.imatrix.prior)
    view = view or ModelView(header)
    chooser, decisions = decide(recipe, view, imatrix, keep_split=split is not None and split.keep)
    types = Types()
    drafts = tie(recipe, drafts_of(recipe, view, decisions, imatrix, types))
    tensors = tuple(planned(recipe, d, moments) for d in drafts)
    encodes = any(t.action == "encode" for t in tensors)
    file_type = file_type_of(recipe, header, nbytes_by_type(tensors), encodes=encodes)
    tensors, files = place(recipe, header, imatrix, tensors, file_type, split or Split(), moments)
    plan = Plan(recipe, header, imatrix, tensors, file_type, files, (), moments)
    return replace(plan, problems=find_problems(plan, drafts, chooser, decisions, types, split or Split()))


def decide(
    recipe: Recipe, view: ModelView, imatrix: Imatrix | None, *, keep_split: bool = False
) -> tuple[Chooser, Decisions]:
    """Which rule decides each tensor, and what keeps those that none does."""
    gate = view.gate(recipe.engines)
    by_recipe = bits.by_value(kept_by_recipe(t, recipe) for t in view.header.tensors) if recipe.keep else {}
    by_keep = bits.union(by_recipe.values())
    chooser = make_chooser(recipe, view, gate.quantizable & ~by_keep, imatrix=imatrix, keep_split=keep_split)
    forcible = gate.readable & ~by_keep
    chosen = tuple(chooser.choose(forcible))
    by_rule: dict[int, Tensors] = {}
    for choice, tensors in chosen:
        if choice.rule is not None:
            by_rule[choice.rule] = by_rule.get(choice.rule, 0) | tensors
    said = by_keep | bits.union(tensors for _, tensors in chosen)
    kept = by_recipe | {why: rest for why, tensors in gate.kept.items() if (rest := tensors & ~said)}
    return chooser, Decisions(kept, by_keep, forcible, chosen, by_rule)


def make_chooser(
    recipe: Recipe, view: ModelView, quantizable: Tensors, *, imatrix: Imatrix | None, keep_split: bool = False
) -> Chooser:
    """The rules seen against a model, counting tensors as the recipe says or else as the target does.

    llama.cpp sorts tensors by block and name, but not where it keeps the split of the model.
    """
    llama_cpp = recipe.target == "llama.cpp"
    order = recipe.ordinals.order or ("name" if llama_cpp and not keep_split else "file")
    overridden = recipe.ordinals.overridden or ("skip" if llama_cpp else "count")
    facts = view.facts(has_imatrix=imatrix is not None)
    return Chooser(recipe, view, facts, quantizable, order == "name", overridden == "count", imatrix)
