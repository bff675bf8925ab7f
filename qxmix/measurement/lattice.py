"""Tensors whose weights sit on a lattice: what ``qxmix inspect --lattice`` found, and the file that keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from qxmix.container.identity import header_sha256
from qxmix.container.model import ModelHeader
from qxmix.container.source import opened
from qxmix.container.spots import spots_sha256
from qxmix.errors import ModelFileError
from qxmix.quants import find

VERSION = 3
LEAST_BITS, MAX_BITS = 2, 8
GROUPS = (0, 256, 128, 64, 32)
"""Adjacent weights of a row that share a scale, the most first; 0: the row."""


class Lattice(NamedTuple):
    """How the weights of one tensor are whole multiples of a scale, beside a minimum or not."""

    tensor: str
    bits: int
    """Of the whole numbers: 2 to 8."""
    group: int
    """Adjacent weights of a row that share a scale; 0: all of it."""
    minimum: bool
    """Whether a minimum is added to the multiples."""
    type: str | None
    """Upper-case name of the smallest type that holds every whole number; None: none does."""
    why: str | None
    """Why none does; None where one does."""
    sha256: str
    """Of all of the tensor's data in the model, as an apply adds it up (:mod:`qxmix.execute.digests`)."""
    spots_sha256: str
    """Of a few spots of them, which a plan has the time to read."""

    @property
    def what(self) -> str:
        """``4 bits per 32 weights``."""
        per = f"per {self.group} weights" if self.group else "per row"
        return f"{self.bits} bits {per}" + (" with a minimum" if self.minimum else "")


class Kept(NamedTuple):
    """What an output has of the whole numbers of one tensor."""

    lattice: Lattice
    """What the model has."""
    type: str
    """Upper-case name of the output's type."""
    n_weights: int
    n_lost: int
    """Weights more than a quarter of a step from the model's, so that they tell their whole number no more for sure."""
    farthest_steps: float
    """Largest distance of a weight from the model's, in steps of its group; groups of one value have none."""
    farthest_units: float | None
    """The same in units in the last place of the weight as a bfloat16, zeros left out; None with a minimum, which
    rounds small weights by more."""
    meant: bool
    """Whether its rule silences ``lattice-lost``, or no type keeps the lattice, so that a loss is no problem."""


class Expected(NamedTuple):
    """The weights that lattices were found in, all of them."""

    path: Path
    """The file of the lattices."""
    sha256: Mapping[str, str]
    """Digest of each tensor's data, by its name."""

    def compare(self, model: Path, tensor: str, sha256: str) -> None:
        """Refuse a tensor of ``model`` with another digest; one that has no lattice may have any.

        Raises:
            ModelFileError: it has.

        """
        if self.sha256.get(tensor, sha256) != sha256:
            raise _made_of_other(self.path, _told_of_other(model, tensor))


def expected_of(path: Path, found: tuple[Lattice, ...]) -> Expected:
    """What the lattices that a file holds were found in."""
    return Expected(path, {lattice.tensor: lattice.sha256 for lattice in found})


def lattices_json(header: ModelHeader, found: tuple[Lattice, ...]) -> dict[str, Any]:
    """The content of the file, ready for ``json.dumps``; its shape is ``schemas/lattice.schema.json``."""
    return {
        "qxmix_lattice": VERSION,
        "header_sha256": header_sha256(header),
        "tensors": [lattice._asdict() for lattice in found],
    }


def load_lattices(path: Path, header: ModelHeader) -> tuple[Lattice, ...]:
    """Read what was found in a model, and a few spots of the tensors that it names, where the model has them here.

    Raises:
        ModelFileError: the file cannot be read, is none of lattices, or is of another model or other weights.

    """
    try:
        with ModelFileError.of_system(path, "cannot be read"):
            data = json.loads(path.read_text(encoding="utf-8"))
        version, of = data["qxmix_lattice"], data["header_sha256"]
        found = tuple(map(_lattice, data["tensors"])) if version == VERSION else ()
        if len({lattice.tensor for lattice in found}) < len(found):
            raise ValueError  # noqa: TRY301 - told below
    except (ValueError, KeyError, TypeError, RecursionError):
        text = "is no file of lattices; make one with 'qxmix inspect MODEL --lattice -o L.json'"
        raise ModelFileError.at(path, text) from None
    if version != VERSION:
        text = f"has version {version} and this qxmix reads {VERSION}; make it anew (qxmix inspect MODEL --lattice)"
        raise ModelFileError.at(path, text)
    other = "" if of == header_sha256(header) else f"is of another model than {header.path.name}"
    other = other or _other_tensors(found, header) or _other_weights(found, header)
    if other:
        raise _made_of_other(path, other)
    return found


def _made_of_other(path: Path, other: str) -> ModelFileError:
    return ModelFileError.at(path, f"{other}; make one of it (qxmix inspect MODEL --lattice -o L.json)")


def _told_of_other(model: Path, tensor: str) -> str:
    return f"was made of other weights than {model.name} has in {tensor}"


def _other_tensors(found: tuple[Lattice, ...], header: ModelHeader) -> str:
    names = {t.name for t in header.tensors}
    unknown = next((lattice.tensor for lattice in found if lattice.tensor not in names), None)
    return f"names {unknown}, which {header.path.name} does not have" if unknown is not None else ""


def _other_weights(found: tuple[Lattice, ...], header: ModelHeader) -> str:
    """What to say where a tensor has other data than a lattice was found in; nothing where all have the same."""
    spots = {lattice.tensor: lattice.spots_sha256 for lattice in found}
    if header.weights != "here":
        return ""
    for shard, path in enumerate(header.paths):
        named = [t for t in header.tensors if t.shard == shard and t.name in spots]
        if not named:
            continue
        with opened(path) as data:
            for tensor in named:
                if spots_sha256(data, tensor) != spots[tensor.name]:
                    return _told_of_other(header.path, tensor.name)
    return ""


def _lattice(data: dict[str, Any]) -> Lattice:
    lattice = Lattice(**data)
    numbers = type(lattice.bits) is type(lattice.group) is int and isinstance(lattice.minimum, bool)
    whole = numbers and LEAST_BITS <= lattice.bits <= MAX_BITS and lattice.group in GROUPS
    kept = lattice.why is None and isinstance(lattice.type, str) and find(lattice.type) is not None
    known = kept or (lattice.type is None and isinstance(lattice.why, str))
    texts = lattice.tensor, lattice.sha256, lattice.spots_sha256
    if not (whole and known and all(isinstance(text, str) for text in texts)):
        raise ValueError
    return lattice
