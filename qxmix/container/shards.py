"""Models split into several files: finding them, and checking that they belong together."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from qxmix.container.gguf_format import MAGIC, SPLIT_COUNT, SPLIT_NO, SPLIT_TENSORS_COUNT, pad
from qxmix.container.layout import shard_suffix
from qxmix.container.model import field_of
from qxmix.container.parse import GgufFile, parse_gguf
from qxmix.container.source import bad_file, show

_SHARD_NAME = re.compile(r"(?P<stem>.+)-(?P<no>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)
_LISTED = 3


def with_all_shards(first: GgufFile, read: Callable[[Path, int], GgufFile] | None = None) -> tuple[GgufFile, ...]:
    """The file and, if it is the first shard of a split model, the others in order.

    Args:
        first: The first shard, or the whole model.
        read: Reads the shard of the given path and number; None where they stand beside the first one on disk.

    Raises:
        ModelFileError: it is a later shard, another one is missing, or they do not belong together.

    """
    count = _integer(first, SPLIT_COUNT, 1)
    no = _integer(first, SPLIT_NO, 0)
    if count <= 1:
        return (first,)
    if no == 0 and _integer(first, SPLIT_TENSORS_COUNT, -1) == len(first.tensors):
        # Joined by a tool that left the keys of the first shard in: all that they count is here.
        return (first,)
    match = _SHARD_NAME.fullmatch(first.path.name)
    if match is None or int(match["count"]) != count or int(match["no"]) != no + 1:
        raise bad_file(
            first.path, f"says it is shard {no + 1} of {count} but is not named so; {_way_out(first, no, count)}"
        )
    paths = [first.path.with_name(f"{match['stem']}{shard_suffix(i, count)}.gguf") for i in range(count)]
    if no != 0:
        missing = "" if read is not None or paths[0].exists() else " (it is missing here)"
        raise bad_file(
            first.path,
            f"is shard {no + 1} of {count}; give the first, {show(paths[0].name, 200)}{missing}",
        )
    if read is None:
        _refuse_missing(paths)
    shards = (first, *((read or parse_gguf)(path, i) for i, path in enumerate(paths) if i))
    _check_together(shards, count)
    return shards


def _way_out(first: GgufFile, no: int, count: int) -> str:
    """What to do with a shard that has another name, as it came to be so."""
    end = max((t.offset + t.nbytes for t in first.tensors), default=0)
    if first.nbytes > pad(end, first.alignment) + len(MAGIC):
        return (
            "more data follow those of its tensors, so shards were probably joined with 'cat', which makes no model; "
            "give the first of the shards as they were downloaded, or join them with 'llama-gguf-split --merge'"
        )
    if first.path.parent.name == "blobs":
        return (
            "it is a blob of a download cache, where files have no names; give the path under 'snapshots' beside this "
            "folder that links to it"
        )
    return f"rename the shards to NAME{shard_suffix(no, count)}.gguf and so on, as the engines expect"


def _refuse_missing(paths: list[Path]) -> None:
    missing = [p.name for p in paths[1:] if not p.exists()]
    if missing:
        names = ", ".join(show(n, 200) for n in missing[:_LISTED])
        more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
        raise bad_file(
            paths[0], f"is the first of {len(paths)} shards, and {names}{more} missing beside it; download all of them"
        )


def _check_together(shards: tuple[GgufFile, ...], count: int) -> None:
    names: dict[str, int] = {}
    for i, shard in enumerate(shards):
        no, of = _integer(shard, SPLIT_NO, -1), _integer(shard, SPLIT_COUNT, -1)
        if (no, of) != (i, count):
            raise bad_file(
                shard.path,
                f"should be shard {i + 1} of {count} by its name, and says split.no {no}, split.count {of}; the shards "
                "are mixed up, download them again",
            )
        for tensor in shard.tensors:
            if tensor.name in names:
                raise bad_file(
                    shard.path,
                    f"has the tensor {show(tensor.name)}, and so has {show(shards[names[tensor.name]].path.name, 200)}"
                    "; the shards are of different models, download them again",
                )
            names[tensor.name] = i
    expected = _integer(shards[0], SPLIT_TENSORS_COUNT, len(names))
    if expected != len(names):
        raise bad_file(
            shards[0].path,
            f"says the {count} shards hold {expected} tensors, and they hold {len(names)}; download them again",
        )


def _integer(file: GgufFile, key: str, default: int) -> int:
    """The value of a split key, which is 0 or more; ``default`` where it is missing."""
    field = field_of(file.metadata, key)
    if field is None:
        return default
    if not isinstance(field.value, int) or isinstance(field.value, bool) or field.value < 0:
        raise bad_file(file.path, f"{key} is no count but {show(str(field.value))}; download or convert it again")
    return field.value
