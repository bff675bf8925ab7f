"""The files of a demo, and making them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from qxmix.demo.imatrix import make_demo_imatrix
from qxmix.demo.model import DEMO_SEED, make_demo_model
from qxmix.demo.text import make_demo_text
from qxmix.errors import RunError


@dataclass(frozen=True, slots=True)
class DemoFiles:
    """Where the files of a demo are."""

    model: Path
    imatrix: Path
    recipe: Path
    text: Path
    output: Path
    """What applying the recipe makes."""

    @classmethod
    def in_folder(cls, folder: Path, *, moe: bool) -> Self:
        """The files of the demo in ``folder``; both models can stand there side by side."""
        stem = "demo-moe" if moe else "demo"
        return cls(
            folder / f"{stem}-F16.gguf",
            folder / f"{stem}.imatrix.dat",
            folder / f"{stem}.yaml",
            folder / f"{stem}.txt",
            folder / f"{stem}-quantized.gguf",
        )


def make_demo_files(files: DemoFiles, *, moe: bool, seed: int | None, overwrite: bool) -> list[tuple[Path, str]]:
    """Make model, imatrix, recipe and text, and the folder they are in.

    Returns:
        Each path and what it is.

    Raises:
        RunError: one of the files exists, and ``overwrite`` is not set.
        OSError: the folder cannot be written.

    """
    paths = (files.model, files.imatrix, files.recipe, files.text, files.output)
    existing = [path for path in paths if path.exists()]
    if existing and not overwrite:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        text = f"has {existing[0].name}{more} already; give another folder, or --overwrite to make the demo again"
        raise RunError.at(files.model.parent, text)
    files.model.parent.mkdir(parents=True, exist_ok=True)
    make_demo_model(files.model, moe=moe, seed=DEMO_SEED if seed is None else seed)
    make_demo_imatrix(files.imatrix, moe=moe)
    files.recipe.write_bytes(Path(__file__).with_name("demo.yaml").read_bytes())
    files.text.write_bytes(make_demo_text().encode())
    return [
        (files.model, f"a llama model{' with experts' if moe else ''}, F16"),
        (files.imatrix, "an importance matrix for it"),
        (files.recipe, "a recipe"),
        (files.text, "a text for it to predict"),
    ]
