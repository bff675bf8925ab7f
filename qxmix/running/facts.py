"""The facts of a model by the names that GGUF has for them, numbers and arrays of numbers alike."""

from __future__ import annotations

from qxmix.container.model import MetadataField, ModelHeader
from qxmix.container.reader import read_numbers


class Facts:
    """Metadata below the architecture's name."""

    def __init__(self, header: ModelHeader) -> None:
        """Of ``header``."""
        self._fields = {f.key: f for f in header.metadata}
        self.arch = header.architecture
        """What the model is built like: ``llama``."""

    def _field(self, key: str) -> MetadataField | None:
        return self._fields.get(f"{self.arch}.{key}")

    def has(self, key: str) -> bool:
        """Whether the model says anything of it."""
        return self._field(key) is not None

    def integer(self, key: str) -> int | None:
        """A number; None where it is missing, an array, or none."""
        field = self._field(key)
        value = field.value if field else None
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def per_layer(self, key: str, n_layer: int) -> list[int]:
        """One number for each layer: those of an array, or the same for all; empty where it is missing."""
        field = self._field(key)
        if field is None:
            return []
        if field.array is not None:
            return [int(n) for n in read_numbers(field)]
        value = self.integer(key)
        return [] if value is None else [value] * n_layer

    def flags(self, key: str, n_layer: int) -> list[bool] | None:
        """One flag for each layer; None where there is no array as long."""
        field = self._field(key)
        if field is None or field.array is None:
            return None
        found = [bool(n) for n in read_numbers(field)]
        return found if len(found) >= n_layer else None
