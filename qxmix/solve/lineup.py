"""Recipes, plans and models side by side: what each weighs, what it is predicted to lose, and what it loses."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from qxmix.diff import Side, kind_of, load_side
from qxmix.errors import Problem, RecipeError
from qxmix.recipe import load_recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from qxmix.container.imatrix import Imatrix
    from qxmix.container.model import ModelHeader
    from qxmix.engines.evaluate import Settings
    from qxmix.solve.predict import Prediction, Predictor


@dataclass(frozen=True, slots=True)
class Entrant:
    """One of those that are compared."""

    side: Side
    types: Mapping[str, int]
    """Type to tensors of it, those with the most bytes first."""
    predicted: Prediction | None = None
    """None without a measurement."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """What the engine found, by the names of ``engines.scores.Summary`` or ``engines.embed.Embedded``: empty without a
    text, and for plans and lock files, which no engine runs."""
    write_seconds: float | None = None
    """What it took to write the file; of recipes that were written for this comparison."""

    @property
    def label(self) -> str:
        """As the user named it."""
        return self.side.label

    @property
    def nbytes(self) -> int | None:
        """Bytes of the files, or else of the tensors."""
        return self.side.file_nbytes or self.side.nbytes

    @property
    def divergence(self) -> float | None:
        """Measured, or else predicted, or None."""
        if self.measured is not None:
            return self.measured
        return None if self.predicted is None else self.predicted.value

    @property
    def measured(self) -> float | None:
        """Measured divergence: nats per token, or 1 - cosine of embeddings."""
        return self.scores.get("mean_kld", self.scores.get("mean_distance"))


def line_up(
    names: Sequence[str], header: ModelHeader | None, imatrix: Imatrix | None, predictor: Predictor | None
) -> tuple[Entrant, ...]:
    """Load all of them, and predict what they lose.

    Args:
        names: Paths, or names of shipped recipes.
        header: The model that recipes are planned on; None: the first of the names that is a model.
        imatrix: What they are planned with, or None.
        predictor: Of the model, or None.

    Raises:
        QxmixError: one of them cannot be loaded; or a recipe cannot be planned.

    """
    if header is None:
        model = next((name for name in names if kind_of(name) == "model"), None)
        header = None if model is None else _header(model)
    sides = [load_side(name, header, imatrix) for name in names]
    return tuple(entrant_of(side, predictor) for side in sides)


def entrant_of(side: Side, predictor: Predictor | None) -> Entrant:
    """A side with what it is predicted to lose."""
    return Entrant(side, _types(side), _predicted(side, predictor) if predictor else None)


def evaluate_all(
    entrants: Sequence[Entrant],
    header: ModelHeader | None,
    imatrix: Imatrix | None,
    text: bytes,
    base: Path | None,
    settings: Settings,
    on_chunk: Callable[[int, int], None],
) -> tuple[Entrant, ...]:
    """Score the models, and the recipes, which are written for it, in one run of one engine.

    Args:
        entrants: Of :func:`line_up`.
        header: The model that recipes are applied to.
        imatrix: What they are applied with, or None.
        text: UTF-8.
        base: The model to compare with, or None.
        settings: How the text is cut and run.
        on_chunk: Called with the number of chunks that are done and of all.

    Raises:
        QxmixError: a recipe cannot be written, or a file not be run.

    """
    with tempfile.TemporaryDirectory(prefix="qxmix-compare-") as folder:
        files: dict[int, tuple[Path, float | None]] = {}
        for i, entrant in enumerate(entrants):
            kind = kind_of(entrant.label)
            if kind == "model":
                files[i] = Path(entrant.label), None
            elif kind == "recipe":
                files[i] = _written(entrant.label, header, imatrix, Path(folder), i)
        scores = _scores([path for path, _ in files.values()], text, base, settings, on_chunk)
    found = {
        i: replace(entrants[i], scores=score, write_seconds=seconds)
        for (i, (_, seconds)), score in zip(files.items(), scores, strict=True)
    }
    return tuple(found.get(i, entrant) for i, entrant in enumerate(entrants))


def _scores(
    paths: list[Path], text: bytes, base: Path | None, settings: Settings, on_chunk: Callable[[int, int], None]
) -> list[dict[str, float]]:
    # Engines, for those who have a text.
    from qxmix.engines.embed import evaluate_encoders, is_encoder  # noqa: PLC0415
    from qxmix.engines.evaluate import evaluate  # noqa: PLC0415

    if base is not None and all(is_encoder(_header(str(path))) for path in (base, *paths)):
        of_lines = evaluate_encoders(paths, text, base=base, settings=settings, on_line=on_chunk)
        found = [asdict(result) for result in of_lines]
    else:
        found = [asdict(r.summary) for r in evaluate(paths, text, base=base, settings=settings, on_chunk=on_chunk)]
    of_file = {"path", "nbytes"}
    return [{name: v for name, v in one.items() if v is not None and name not in of_file} for one in found]


def _written(
    name: str, header: ModelHeader | None, imatrix: Imatrix | None, folder: Path, number: int
) -> tuple[Path, float]:
    """The file of a recipe, and the seconds that it took; tensors that recipes have in common are made once."""
    from qxmix.execute.run import apply  # noqa: PLC0415 - kernels, for recipes that are to be run
    from qxmix.plan import make_plan  # noqa: PLC0415

    if header is None:
        raise RecipeError(Problem(name, "is a recipe, and to be run it is applied to a model; give that with --model"))
    path = folder / f"{number}.gguf"
    result = apply(make_plan(load_recipe(name), header, imatrix), path, cache=folder / "cache")
    return path, result.seconds


def _header(path: str) -> ModelHeader:
    from qxmix.container.header import read_header  # noqa: PLC0415

    return read_header(path)


def _types(side: Side) -> dict[str, int]:
    counts: Counter[str] = Counter()
    nbytes: Counter[str] = Counter()
    for entry in side.entries.values():
        counts[entry.type] += 1
        nbytes[entry.type] += entry.nbytes or 0
    return {name: counts[name] for name, _ in nbytes.most_common()}


def _predicted(side: Side, predictor: Predictor) -> Prediction:
    """Sum over the tensors that the measurement knows; what stays F16 or F32 loses nothing that counts."""
    losses = (
        predictor.loss(name, entry.type)
        for name, entry in side.entries.items()
        if name in predictor.errors and entry.type not in ("F32", "F64")
    )
    return predictor.total(sum(loss for loss in losses if loss is not None))
