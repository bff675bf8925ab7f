"""What a plan is predicted to lose, and where: as text and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from qxmix.plan import Plan
from qxmix.report.text import human_nbytes, table
from qxmix.solve.attribute import Attribution, Part, attribute
from qxmix.solve.predict import Predictor, predictor_of

if TYPE_CHECKING:
    from qxmix.measurement.model import Measurement

_N_TENSORS = 8
"""Tensors that are named."""


class Predicted(NamedTuple):
    """The prediction for one plan."""

    found: Attribution
    predictor: Predictor

    def as_text(self, *, terminal: bool = False) -> str:
        """The divergence, the shares of the categories, the tensors with the largest ones."""
        found, now = self.found, self.found.predicted
        lines = [f"Predicted divergence {now.value:.5g} {self.predictor.unit}, within {now.low:.3g} and {now.high:.3g}"]
        if found.unknown:
            lines.append(f"Nothing is known of the types of {len(found.unknown)} tensors, like {found.unknown[0]}")
        if found.guessed:
            lines.append(
                f"A guess for {len(found.guessed):,} tensors, like {found.guessed[0]}: their types were not measured "
                "(qxmix measure --types adds them)"
            )
        if self.predictor.basis != "measured":
            lines.append("A guess: sensitivities of this model were not measured")
        sections = [
            "\n".join(lines),
            _table("category", found.categories, terminal=terminal),
            _table("tensor", found.tensors[:_N_TENSORS], terminal=terminal),
        ]
        return "\n\n".join(sections)

    def as_json(self) -> dict[str, object]:
        """As ``predicted`` of schemas/plan.schema.json."""
        found = self.found
        return {
            "unit": self.predictor.unit,
            "basis": self.predictor.basis,
            "value": found.predicted.value,
            "low": found.predicted.low,
            "high": found.predicted.high,
            "categories": {part.name: part.share for part in found.categories},
            "tensors": {part.name: part.share for part in found.tensors},
            "unknown": list(found.unknown),
            "guessed": list(found.guessed),
        }


def predicted_of(plan: Plan, measurement: Measurement) -> Predicted:
    """The prediction for a plan from a measurement of its model."""
    predictor = predictor_of(plan.header, measurement, plan.recipe.engines)
    return Predicted(attribute(plan, predictor), predictor)


def _table(title: str, parts: tuple[Part, ...], *, terminal: bool) -> str:
    rows = [(p.name, f"{p.n_tensors:,}", human_nbytes(p.nbytes), f"{100 * p.share:.1f} %") for p in parts]
    return table((title, "?>n", ">size", ">of the divergence"), rows, terminal=terminal)
