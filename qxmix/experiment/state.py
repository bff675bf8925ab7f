"""What of an experiment is done: a file of JSON lines, the first of which says what the experiment is."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qxmix.errors import RunError
from qxmix.experiment.model import Outcome

NAME = "done.jsonl"


@dataclass(frozen=True, slots=True)
class State:
    """The notes of one experiment."""

    path: Path
    outcomes: tuple[Outcome, ...]
    """Those that an earlier run finished."""

    @classmethod
    def open(cls, folder: Path, identity: dict[str, object]) -> State:
        """Begin, or go on with what stands in ``folder``.

        Raises:
            RunError: it is another experiment's folder, or cannot be written.

        """
        path = folder / NAME
        try:
            lines = _complete_lines(path)
            if not lines:
                path.write_text(json.dumps(identity) + "\n", encoding="utf-8")
                return cls(path, ())
        except OSError as error:
            raise RunError(f"{path}: {error.strerror}") from None
        if lines[0] != identity:
            differ = ", ".join(key for key in identity if lines[0].get(key) != identity[key])
            text = f"holds another experiment ({differ or 'of another version'}); give another --work, or remove it"
            raise RunError(f"{folder}: {text}")
        return cls(path, tuple(Outcome(**line) for line in lines[1:]))

    def note(self, outcome: Outcome) -> None:
        """Write down that a case is done."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(outcome)) + "\n")

    def close(self) -> None:
        """Remove the notes: the experiment is over."""
        self.path.unlink(missing_ok=True)


def _complete_lines(path: Path) -> list[dict[str, Any]]:
    """The lines that were written whole; one that a kill cut short is dropped from the file, too."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]
