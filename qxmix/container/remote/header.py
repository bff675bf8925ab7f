"""Reading a remote model's header, shard by shard."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qxmix.container.parse import GgufFile, parse_start
from qxmix.container.reader import MoreNeeded
from qxmix.container.remote.address import Address, remote_error
from qxmix.container.remote.ask import Part, ask
from qxmix.container.remote.kept import load_part, save_part
from qxmix.container.shards import with_all_shards
from qxmix.container.source import Given
from qxmix.errors import ModelFileError

FIRST_NBYTES = 1 << 20
"""What is asked for first; the header of a model with a small vocabulary fits in."""
SECOND_NBYTES = 8 << 20
"""What is had after a second request: headers with a vocabulary of 128,000 have 4 to 8 MB.  Each part that is too
short is parsed for nothing, which by doubling from the first megabyte took as long as parsing the whole."""
_MOST_NBYTES = 256 << 20
"""What a header may be at most: ten times the largest that is known."""


def read_remote(text: str) -> tuple[GgufFile, ...]:
    """The headers of all shards of a model on the web.

    Args:
        text: The address of the model, or of the first shard of a split one.

    Raises:
        ModelFileError: a file is not there or may not be read, is no GGUF model or damaged, the server or the network
            fails, or the shards are not of one commit.

    """
    address = Address.parse(text)
    first, commit = _read(address, 0)
    if first.absent:
        return (first,)

    def beside(path: Path, shard: int) -> GgufFile:
        file, its_commit = _read(address.beside(path.name), shard)
        if its_commit != commit:
            raise remote_error(address.beside(path.name), "belongs to a newer commit than the first shard; try again")
        return file

    return with_all_shards(first, beside)


def _read(address: Address, shard: int) -> tuple[GgufFile, str]:
    """The header of one file, and the commit it is of."""
    kept = load_part(address)
    part = ask(address, 0, FIRST_NBYTES, kept.etag if kept else "") or kept
    assert part is not None
    while True:
        try:
            file = parse_start(Given(Path(address.name)), part.data, part.nbytes, shard)
        except MoreNeeded:
            part = _longer(address, part)
        except ModelFileError as error:
            raise ModelFileError([replace(p, where=str(address)) for p in error.problems]) from None
        else:
            if part is not kept:
                save_part(address, part)
            return file, part.commit


def _longer(address: Address, part: Part) -> Part:
    """The same with twice as much data or more."""
    n = len(part.data)
    if n >= _MOST_NBYTES:
        raise remote_error(address, f"has a header of more than {_MOST_NBYTES >> 20} MiB; the file is damaged")
    more = ask(address, n, max(2 * n, SECOND_NBYTES))
    assert more is not None
    if (more.nbytes, more.etag) != (part.nbytes, part.etag):
        raise remote_error(address, "changed while its header was read; try again")
    return Part(part.data + more.data, part.nbytes, part.etag, part.commit)
