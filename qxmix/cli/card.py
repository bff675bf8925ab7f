"""The card of ``qxmix apply --card``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qxmix.cli.inputs import open_measurement
from qxmix.container.whole_file import write_whole
from qxmix.errors import RunError
from qxmix.plan import Plan, Split


def card_of(outputs: Sequence[tuple[Plan, Path]], measure: Path | None, split: Split) -> str:
    """The text of the card.

    Raises:
        ModelFileError: the measurement is none, or of another model.

    """
    from qxmix.diff import side_of  # noqa: PLC0415 - this and the solver for those who want a card
    from qxmix.report.card import card_markdown  # noqa: PLC0415
    from qxmix.solve.lineup import entrant_of  # noqa: PLC0415
    from qxmix.solve.predict import predictor_of  # noqa: PLC0415

    plans = [plan for plan, _ in outputs]
    predictor = None
    if measure is not None:
        predictor = predictor_of(plans[0].header, open_measurement(measure, plans[0].header, plans[0].imatrix))
    options = ["--keep-split"] if split.keep else []
    options += ["--split-max-size", str(split.max_nbytes)] if split.max_nbytes else []
    options += ["--split-max-tensors", str(split.max_tensors)] if split.max_tensors else []
    options += ["--no-tensor-first-split"] if split.bare_first else []
    entrants = [entrant_of(side_of(plan, path.name), predictor) for plan, path in outputs]
    return card_markdown(entrants, plans, options)


def write_card(path: Path | None, text: str) -> None:
    """Write it, if it has a name.

    Raises:
        RunError: it cannot be written; the outputs are there.

    """
    if path is None:
        return
    with RunError.of_system(path, "the card cannot be written"):
        write_whole(path, text)
