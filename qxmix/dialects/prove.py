"""Whether a recipe decides a model like its source does, tensor by tensor."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from qxmix.container.model import ModelHeader
from qxmix.dialects.model import SourceMix
from qxmix.dialects.proof.decide import EMPTY_IMATRIX, source_types
from qxmix.plan import Plan, make_plan
from qxmix.quants import find
from qxmix.recipe import load_recipe
from qxmix.recipe.problem_ids import IDS


@dataclass(frozen=True, slots=True)
class Proof:
    """Both type maps held against each other."""

    plan: Plan
    different: tuple[tuple[str, str, str], ...]
    """Tensor, its type under the source, its type under the recipe."""
    caveats: tuple[str, ...] = ()
    """Why the source's engine does not take the source as it stands, though it can be told what is meant."""


def prove(mix: SourceMix, text: str, header: ModelHeader) -> Proof:
    """Plan the recipe in ``text`` and compare it with the source on one model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "imported.yaml"
        path.write_text(text, encoding="utf-8")
        recipe = load_recipe(path)
    plan = make_plan(recipe, header, EMPTY_IMATRIX if mix.has_imatrix else None)
    source = source_types(mix.reading, header)
    plain = recipe.target != mix.engine
    pairs = ((t.name, _plain(source[t.name]) if plain else source[t.name], t.type) for t in plan.tensors)
    needy = [p for p in plan.problems if p.id == "imatrix-missing" and p.severity == "error"]
    caveats = list(mix.reading.caveats)
    if needy and not mix.has_imatrix and mix.base is not None:
        caveats.append(f"{mix.engine} stops without --imatrix: {needy[0]}")
    return Proof(plan, tuple(p for p in pairs if p[1] != p[2]), tuple(caveats))


def inherited(proof: Proof, *, has_imatrix: bool) -> frozenset[str]:
    """Ids of the warnings that a plan of the recipe has because its source says so."""
    found = {p.id for p in proof.plan.problems if p.severity == "warning" and IDS[p.id].silenced_by != "nobody"}
    # The importance matrix of the proof is empty.
    return frozenset(i for i in found if not (has_imatrix and i.startswith("imatrix")))


def _plain(name: str) -> str:
    """The type without interleaving, which another engine does not know."""
    found = find(name)
    return found.base if found and found.base else name
