"""Starts of remote files that were read before, kept with what tells whether the file is still the same."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from qxmix.container.remote.address import Address
from qxmix.container.remote.ask import Part
from qxmix.resources import cache_home


def load_part(address: Address) -> Part | None:
    """What an earlier run read of a file; None if it did not, or what it wrote is damaged."""
    path = _path(address)
    with suppress(OSError, ValueError, KeyError, TypeError):
        head, _, data = path.read_bytes().partition(b"\n")
        told = json.loads(head)
        if told["sha256"] == hashlib.sha256(data).hexdigest():
            return Part(data, int(told["nbytes"]), str(told["etag"]), str(told["commit"]))
    return None


def save_part(address: Address, part: Part) -> None:
    """Keep it, in one step; where there is no place to write, the next run asks again."""
    path = _path(address)
    if not part.etag:
        return
    sha256 = hashlib.sha256(part.data).hexdigest()
    told = {"nbytes": part.nbytes, "etag": part.etag, "commit": part.commit, "sha256": sha256}
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(json.dumps(told).encode() + b"\n" + part.data)
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink()


def _path(address: Address) -> Path:
    """By a hash of the address without its query: a signed one differs each time."""
    return cache_home() / "headers" / hashlib.sha256(address.url.partition("?")[0].encode()).hexdigest()
