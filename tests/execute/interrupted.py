"""Runs one apply in a process of its own, to be killed: ``interrupted.py MODEL OUTPUT... [key=value ...]``.

The outputs are of as many ``MIXES``.  Prints ``work`` when the first tensor is under way and, at the end, ``done N``
with the leaves that were resumed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from qxmix.errors import QxmixError
from qxmix.execute import Options, apply_all
from qxmix.execute.complete import is_complete
from qxmix.execute.output import name_output
from tests.execute.plans import plan_for

if TYPE_CHECKING:
    from qxmix.execute import Progress


def show(progress: Progress) -> None:
    """Print each leaf that is done."""
    if progress.phase == "work":
        print("work", flush=True)


MIXES = ("IQ4_NL", "Q4_0", "Q8_0")


def main() -> None:
    """Apply the usual mixes."""
    model, *arguments = sys.argv[1:]
    values = {key: json.loads(value) for key, _, value in (a.partition("=") for a in arguments if "=" in a)}
    paths = [Path(a) for a in arguments if "=" not in a]
    outputs = [(plan_for(Path(model), {}, default=mix), path) for mix, path in zip(MIXES, paths, strict=False)]
    if values.get("resume"):
        outputs = [(plan, path) for plan, path in outputs if not is_complete(plan, name_output(plan, path))]
    try:
        results = apply_all(outputs, Options(**values), show) if outputs else ()
    except KeyboardInterrupt:
        sys.exit(130)
    except QxmixError as error:
        sys.exit(str(error))
    print("done", sum(r.n_resumed for r in results), flush=True)


if __name__ == "__main__":
    main()
