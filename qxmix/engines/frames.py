"""Messages between a session and its child process: one line of JSON, then the raw bytes it announces."""

from __future__ import annotations

import json
from typing import BinaryIO

Message = dict[str, object]


def send(stream: BinaryIO, message: Message, payload: bytes | memoryview = b"") -> None:
    """Write ``message`` and ``payload``; the length of the payload is added under ``nbytes``."""
    stream.write(json.dumps(message | {"nbytes": len(payload)}).encode() + b"\n")
    stream.write(payload)
    stream.flush()


def receive(stream: BinaryIO) -> Message | None:
    """Read the next message, or None at the end of the stream; its payload is left to be read."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    message: Message = json.loads(line)
    return message


def receive_payload(stream: BinaryIO, message: Message) -> bytes:
    """Read the payload that ``message`` announced; short where the stream ends."""
    n_bytes = message["nbytes"]
    assert isinstance(n_bytes, int)
    return stream.read(n_bytes)
