"""Runs one apply in a process of its own, to be killed: ``interrupted.py MODEL OUTPUT [key=value ...]``.

Prints ``work`` when the first tensor is under way and, at the end, ``done N`` with the leaves that were resumed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from qxmix.errors import QxmixError
from qxmix.execute import apply
from tests.execute.plans import plan_for

if TYPE_CHECKING:
    from qxmix.execute import Progress


def show(progress: Progress) -> None:
    """Print each leaf that is done."""
    if progress.phase == "work":
        print("work", flush=True)


def main() -> None:
    """Apply the usual mix."""
    model, output, *options = sys.argv[1:]
    values = {key: json.loads(value) for key, _, value in (o.partition("=") for o in options)}
    try:
        result = apply(plan_for(Path(model), {}, default="IQ4_NL"), output, on_progress=show, **values)
    except KeyboardInterrupt:
        sys.exit(130)
    except QxmixError as error:
        sys.exit(str(error))
    print("done", result.n_resumed, flush=True)


if __name__ == "__main__":
    main()
