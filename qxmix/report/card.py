"""Outputs for a model card: what each is, and how whoever has the model makes the same bytes."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

import qxmix
from qxmix.plan import Plan
from qxmix.recipe import Recipe, shipped_names, shipped_path
from qxmix.report.lineup import lineup_markdown, sorted_entrants

if TYPE_CHECKING:
    from qxmix.solve.lineup import Entrant


def card_markdown(entrants: Sequence[Entrant], plans: Sequence[Plan], options: Sequence[str] = ()) -> str:
    """A table of the files by size, and a command for each.

    Args:
        entrants: The files; a label is the name of one.
        plans: What each was made by, in the same order.
        options: Of the command line, besides the importance matrix and the moments, that decide bytes.

    """
    plan = plans[0]
    from_ = f"Made from `{plan.header.path.name}` with qxmix {qxmix.__version__}"
    if plan.imatrix is not None:
        from_ += f", with the importance matrix `{plan.imatrix.path.name}` (SHA-256 `{plan.imatrix.sha256}`)"
    if plan.moments is not None:
        from_ += f", with the moments `{plan.moments.path.name}` (SHA-256 `{plan.moments.sha256}`)"
    commands = [_command(p, entrant.label, options) for p, entrant in zip(plans, entrants, strict=True)]
    given = [f"`{_name(p.recipe)}` has SHA-256 `{p.recipe.sha256}`" for p in plans if not _is_shipped(p.recipe)]
    lines = [
        lineup_markdown(sorted_entrants(entrants, "size")),
        "",
        f"{from_}. The same inputs give the same bytes on every machine:",
        "",
        "```sh",
        *commands,
        "```",
        "",
        "Each file carries its recipe (`qxmix recipe-of FILE`) and the digests of its tensors (`qxmix verify FILE`).",
        *(["", f"{'; '.join(given)}."] if given else []),
    ]
    return "\n".join(lines) + "\n"


def _command(plan: Plan, file: str, options: Sequence[str]) -> str:
    words = ["qxmix", "apply", _name(plan.recipe), plan.header.path.name]
    if plan.imatrix is not None:
        words += ["--imatrix", plan.imatrix.path.name]
    if plan.moments is not None:
        words += ["--moments", plan.moments.path.name]
    return shlex.join([*words, *options, "-o", file])


def _name(recipe: Recipe) -> str:
    """The name of a shipped recipe, or of a file without its folders."""
    given = recipe.sources[0].name
    return given.removesuffix(".yaml") if _is_shipped(recipe) else recipe.path.name


def _is_shipped(recipe: Recipe) -> bool:
    name = recipe.sources[0].name.removesuffix(".yaml")
    return name in shipped_names() and shipped_path(name) == recipe.path
