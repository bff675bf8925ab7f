"""What to expect of a model that nobody measured: errors per type and sensitivities per category and depth."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, log
from pathlib import Path

from qxmix.quants import get
from qxmix.recipe.categories import category_of, layer_of

PATH = Path(__file__).parent / "prior.json"


@dataclass(frozen=True, slots=True)
class Prior:
    """The shipped expectation; ``prior.json`` says what it was fitted on."""

    errors: Mapping[str, float]
    """Upper-case type to the relative weighted error that it usually makes."""
    depths: tuple[float, ...]
    """Relative depths, 0 the first layer and 1 the last, at which the sensitivities of a category stand."""
    sensitivities: Mapping[str, tuple[float, ...]]
    """Loss per error of one tensor of a category, times the number of layers, at each depth; one where there is no
    depth."""
    parts: tuple[tuple[str, str, float], ...]
    """Part of a name, the category it is like, and a factor: the first that a name contains counts."""
    spread: float
    """Standard deviation of the logarithm of what was measured over what the prior says of a tensor."""

    def error(self, type_name: str) -> float | None:
        """The usual error of a type, or of the type it is a permutation of; None where neither is known."""
        return self.errors.get(type_name, self.errors.get(get(type_name).base))

    def sensitivity(self, name: str, n_layer: int, *, tied: bool) -> float:
        """Loss per error of the tensor of this name in a model of ``n_layer`` layers."""
        kind, factor = self._kind(name, tied=tied)
        values = self.sensitivities[kind]
        layer = layer_of(name)
        if len(values) == 1 or layer is None:
            return factor * values[0]
        found = factor * _at(self.depths, values, min(1.0, layer / max(1, n_layer - 1))) / max(1, n_layer)
        # Layers between which nothing is known to differ are equal to the bit, and get their types in runs.
        return float(f"{found:.3g}")

    def _kind(self, name: str, *, tied: bool) -> tuple[str, float]:
        category = category_of(name)
        if category == "token_embd" and tied:
            # It is both, and what it loses as the one adds to what it loses as the other.
            return "output", 1 + self.sensitivities[category][0] / self.sensitivities["output"][0]
        for part, kind, factor in self.parts:
            if part in name:
                return kind, factor
        return (category, 1.0) if category in self.sensitivities else ("other", 1.0)


@lru_cache(maxsize=1)
def load_prior() -> Prior:
    """Read the shipped file."""
    raw = json.loads(PATH.read_text(encoding="utf-8"))
    return Prior(
        raw["errors"],
        tuple(raw["depths"]),
        {kind: tuple(values) for kind, values in raw["sensitivities"].items()},
        tuple((part, kind, factor) for part, kind, factor in raw["parts"]),
        raw["spread"],
    )


def _at(depths: Sequence[float], values: Sequence[float], depth: float) -> float:
    """Between two depths the logarithm of the sensitivity is a line."""
    i = min(max(bisect_left(depths, depth), 1), len(depths) - 1)
    share = (depth - depths[i - 1]) / (depths[i] - depths[i - 1])
    return exp((1 - share) * log(values[i - 1]) + share * log(values[i]))
