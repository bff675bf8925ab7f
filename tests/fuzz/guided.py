"""The targets under atheris: ``guided.py KIND [libFuzzer options] CORPUS``; started by run.py."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[2]))

with atheris.instrument_imports(include=["qxmix"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    kind = sys.argv.pop(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def one_input(data: bytes) -> None:
            TARGETS[kind](data, folder)

        atheris.Setup(sys.argv, one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
