"""What a recipe changes in the metadata of the output: keys set, renamed and removed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from qxmix.errors import Place, Problem

if TYPE_CHECKING:
    from qxmix.recipe.tree import Node

MetadataValue = str | int | float | bool | tuple[str, ...]


class MetadataEdit(NamedTuple):
    """One key that the output has other than the model."""

    where: Place
    action: Literal["set", "rename", "remove"]
    key: str
    value: MetadataValue | None = None
    """What it is set to; a tuple is an array of strings."""
    type: str | None = None
    """GGUF's name of the value's type in lower case, where the recipe says it: ``uint32``."""
    to: str = ""
    """What it is renamed to."""


_ELSEWHERE = {
    "general.architecture": "it says how the tensors are to be read",
    "general.alignment": "it says where the tensors are",
    "general.file_type": "write 'file_type: N' at the top of the recipe",
    "general.quantization_version": "it follows from the types",
    **dict.fromkeys(
        (
            "tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type",
            "tokenizer.ggml.merges", "tokenizer.ggml.token_type_count", "tokenizer.ggml.precompiled_charsmap",
            "tokenizer.huggingface.json",
        ),
        "it is the vocabulary, which belongs to the weights",
    ),
}  # fmt: skip
_PREFIXES = {
    "split.": "it follows from how the output is split",
    "quantize.": "it says which importance matrix was used",
    "qxmix.": "it says how the output was made",
}
_FREE_OF_ARCHITECTURE = ("context_length", "expert_used_count", "pooling_type", "rope.")
"""Keys of an architecture that no tensor's shape depends on, and that engines let users override."""


def why_structural(key: str, architecture: str = "") -> str:
    """Why a recipe cannot change a key: it is not a description but follows from the tensors; empty where it can.

    Args:
        key: The key.
        architecture: Of the model; without it the keys that an architecture has of its own pass.

    """
    if key in _ELSEWHERE:
        return _ELSEWHERE[key]
    for prefix, reason in _PREFIXES.items():
        if key.startswith(prefix):
            return reason
    own = key.removeprefix(f"{architecture}.")
    if architecture and own != key and not own.startswith(_FREE_OF_ARCHITECTURE):
        return "it says how the tensors are to be read"
    return ""


def metadata_edits(name: str, parts: dict[str, Node], problems: list[Problem]) -> Iterator[MetadataEdit]:
    """The edits of a file: keys are renamed, then removed, then set.

    Args:
        name: Of the file.
        parts: What stands under ``metadata``; the schema has checked its structure.
        problems: Grows by keys that cannot be changed, and by those that two edits are for.

    """
    seen: set[str] = set()
    for edit in _all_edits(name, parts):
        for key in filter(None, (edit.key, edit.to)):
            if reason := why_structural(key):
                problems.append(Problem(edit.where, f"'{key}' cannot be changed: {reason}"))
            elif key in seen:
                problems.append(Problem(edit.where, f"'{key}' is named twice under 'metadata'; drop one"))
            seen.add(key)
        yield edit


def _all_edits(name: str, parts: dict[str, Node]) -> Iterator[MetadataEdit]:
    def under(action: str) -> Any:  # noqa: ANN401 - a mapping or a list, as the schema has it
        return parts[action].value if action in parts else ()

    def where(node: Node, step: str) -> Place:
        return Place(name, node.key_line or node.line, f"metadata.{step}")

    for key, node in dict(under("rename")).items():
        yield MetadataEdit(where(node, f"rename.{key}"), "rename", key, to=str(node.value))
    for i, node in enumerate(under("remove")):
        yield MetadataEdit(where(node, f"remove[{i}]"), "remove", str(node.value))
    for key, node in dict(under("set")).items():
        stated = node.value["type"].value if isinstance(node.value, dict) else None
        value = node.value["value"] if isinstance(node.value, dict) else node
        yield MetadataEdit(where(node, f"set.{key}"), "set", key, _plain(value), stated)


def _plain(node: Node) -> MetadataValue:
    if isinstance(node.value, list):
        return tuple(str(item.value) for item in node.value)
    assert isinstance(node.value, str | int | float)
    return node.value
