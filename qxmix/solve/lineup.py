"""Recipes, plans and models side by side: what each weighs, what it is predicted to lose, and what it loses."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from qxmix.container.imatrix import Imatrix
from qxmix.container.model import ModelHeader
from qxmix.diff import Side, kind_of, load_side
from qxmix.plan import Plan
from qxmix.running.model import Running, Use
from qxmix.running.place import running

if TYPE_CHECKING:
    from qxmix.container.moments import Moments
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
    running: Running | None = None
    """What running it takes; None where nobody asked, or a size is not known."""

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
    names: Sequence[str],
    header: ModelHeader | None,
    imatrix: Imatrix | None,
    predictor: Predictor | None,
    moments: Moments | None = None,
) -> tuple[Entrant, ...]:
    """Load all of them, and predict what they lose.

    Args:
        names: Paths, or names of shipped recipes.
        header: The model that recipes are planned on; None: the first of the names that is a model.
        imatrix: What they are planned with, or None.
        predictor: Of the model, or None.
        moments: What recipes that ask for feedback are planned with, or None.

    Raises:
        QxmixError: one of them cannot be loaded; or a recipe cannot be planned.

    """
    if header is None:
        model = next((name for name in names if kind_of(name) == "model"), None)
        header = None if model is None else _header(model)
    sides = [load_side(name, header, imatrix, moments, model_is="with --model") for name in names]
    return tuple(entrant_of(side, predictor) for side in sides)


def entrant_of(side: Side, predictor: Predictor | None) -> Entrant:
    """A side with what it is predicted to lose."""
    return Entrant(side, _types(side), _predicted(side, predictor) if predictor else None)


def with_running(entrants: Sequence[Entrant], header: ModelHeader | None, use: Use) -> tuple[Entrant, ...]:
    """The same with what running each takes; of a model by its own header, of others by ``header``."""
    found = []
    for entrant in entrants:
        known = _header(entrant.label) if kind_of(entrant.label) == "model" else header
        nbytes = {name: e.nbytes for name, e in entrant.side.entries.items() if e.nbytes is not None}
        told = len(nbytes) == len(entrant.side.entries)
        found.append(replace(entrant, running=running(known, nbytes, use)) if known and told else entrant)
    return tuple(found)


def evaluate_all(
    entrants: Sequence[Entrant],
    text: bytes,
    base: Path | None,
    settings: Settings,
    on_chunk: Callable[[int, int], None],
) -> tuple[Entrant, ...]:
    """Score the models, and what the recipes make of theirs, which is written for it, in one run of one engine.

    Args:
        entrants: Of :func:`line_up`.
        text: UTF-8.
        base: The model to compare with, or None.
        settings: How the text is cut and run.
        on_chunk: Called with the number of chunks that are done and of all.

    Raises:
        QxmixError: a recipe cannot be written, or a file not be run.

    """
    if base is not None and any(entrant.side.plan is not None for entrant in entrants):
        _check_text(base, text, settings)
    with tempfile.TemporaryDirectory(prefix="qxmix-compare-") as folder:
        files: dict[int, tuple[Path, float | None]] = {}
        for i, entrant in enumerate(entrants):
            if entrant.side.plan is not None:
                files[i] = _written(entrant.side.plan, Path(folder), i)
            elif kind_of(entrant.label) == "model":
                files[i] = Path(entrant.label), None
        scores = _scores([path for path, _ in files.values()], text, base, settings, on_chunk)
    found = {
        i: replace(entrants[i], scores=score, write_seconds=seconds)
        for (i, (_, seconds)), score in zip(files.items(), scores, strict=True)
    }
    return tuple(found.get(i, entrant) for i, entrant in enumerate(entrants))


def _check_text(base: Path, text: bytes, settings: Settings) -> None:
    """Refuse a text that is too short before any file is written for it, which may take an hour."""
    from qxmix.engines.embed import is_encoder  # noqa: PLC0415
    from qxmix.engines.evaluate import check_text  # noqa: PLC0415

    if not is_encoder(_header(str(base))):  # which reads lines, of any length
        check_text(base, text, settings)


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
        found = [r.summary._asdict() for r in evaluate(paths, text, base=base, settings=settings, on_chunk=on_chunk)]
    of_file = {"path", "nbytes"}
    return [{name: v for name, v in one.items() if v is not None and name not in of_file} for one in found]


def _written(plan: Plan, folder: Path, number: int) -> tuple[Path, float]:
    """The file of a plan, and the seconds that it took; tensors that plans have in common are made once."""
    from qxmix.execute.run import apply  # noqa: PLC0415 - kernels, for recipes that are to be run

    path = folder / f"{number}.gguf"
    return path, apply(plan, path, cache=folder / "cache").seconds


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
    known = [
        (loss, predictor.is_guess(name, entry.type))
        for name, entry in side.entries.items()
        if name in predictor.errors and entry.type not in ("F32", "F64")
        if (loss := predictor.loss(name, entry.type)) is not None
    ]
    return predictor.total(sum(loss for loss, _ in known), sum(loss for loss, is_guess in known if is_guess))
