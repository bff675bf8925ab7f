"""One request for a part of a file, and one clear error for each way in which a server may fail.

A token for the hub goes to the hub's own host alone: every redirect is followed by hand, and another host is asked
without it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from qxmix.container.remote.address import Address, is_remote, remote_error
from qxmix.errors import ModelFileError

if TYPE_CHECKING:
    from requests import PreparedRequest, Response

TIMEOUT_SECONDS = 30.0
"""Without an answer, or without another byte of it."""
_SLOWEST = 4096
"""Bytes per second: a server that is slower after so many seconds is given up."""
_MAX_REDIRECTS = 8
_TRY_AGAIN = "try again, or download the file and give its path"
_PARTIAL, _NOT_MODIFIED = 206, 304
_MAX_DIGITS = 18

_REFUSALS = {
    200: "the server sends whole files only, no parts; download the file and give its path",
    401: "may not be read without permission; for a gated or private model set HF_TOKEN, or log in to the hub",
    403: "may not be read without permission; for a gated or private model set HF_TOKEN, or log in to the hub",
    404: "is not there (404); check the name, and on the hub owner, repository and revision",
    416: "is empty, or shorter than it was",
    429: "the server has had too many requests; wait a while and try again",
}


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a file as a server sent it."""

    data: bytes
    nbytes: int
    """Size of the whole file."""
    etag: str
    """What tells one state of the file from another; empty where the server does not say."""
    commit: str
    """Of the hub, the commit that the revision is; else empty."""


def ask(address: Address, start: int, end: int, known_etag: str = "") -> Part | None:
    """Bytes from ``start`` to ``end`` of a file, less where it ends before; None if it still has ``known_etag``.

    Raises:
        ModelFileError: it is not there or may not be read, the server or the network fails, or sends something else.

    """
    headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
    if known_etag:
        headers["If-None-Match"] = known_etag
    requests = _requests()
    with _told(address, requests), requests.Session() as session:
        # Neither a .netrc's passwords nor anything else that was not asked for goes along.
        session.auth = _no_auth
        answer, commit, etag = _follow(address, session, headers)
        with answer:
            if answer.status_code == _NOT_MODIFIED and known_etag:
                return None
            nbytes, data = _part_of(address, answer, start, end)
        return Part(data, nbytes, etag, commit)


def _part_of(address: Address, answer: Response, start: int, end: int) -> tuple[int, bytes]:
    """Size of the whole file, and the bytes that were asked for."""
    if answer.status_code != _PARTIAL:
        other = f"the server answers {answer.status_code} {answer.reason or ''}".rstrip() + f"; {_TRY_AGAIN}"
        raise remote_error(address, _REFUSALS.get(answer.status_code, other))
    nbytes = _size(address, answer, start)
    wanted = min(end, nbytes) - start
    data = _body(address, answer, wanted)
    if len(data) < wanted:
        raise remote_error(address, f"the server sent {len(data)} of {wanted} bytes and ended; {_TRY_AGAIN}")
    return nbytes, data


def _follow(address: Address, session: object, headers: dict[str, str]) -> tuple[Response, str, str]:
    """The answer at the end of all redirects; commit and etag are told by the first host that knows them."""
    url, token = address.url, _hub_token() if address.on_hub else ""
    home, commit, etag = urlsplit(url), "", ""
    for _ in range(_MAX_REDIRECTS):
        now = urlsplit(url)
        same = (now.scheme, now.netloc) == (home.scheme, home.netloc)
        sent = headers | ({"Authorization": f"Bearer {token}"} if token and same else {})
        answer: Response = session.get(  # type: ignore[attr-defined]  # requests is an extra
            url, headers=sent, stream=True, allow_redirects=False, timeout=TIMEOUT_SECONDS
        )
        commit = commit or answer.headers.get("X-Repo-Commit", "")
        etag = etag or answer.headers.get("X-Linked-Etag") or ""
        if not answer.is_redirect:
            return answer, commit, etag or answer.headers.get("ETag", "")
        url = urljoin(url, answer.headers["Location"])
        answer.close()
        if not is_remote(url) or url.lower().startswith("hf:"):
            raise remote_error(address, "the server redirects to something that is no web address")
        if now.scheme == "https" and not url.lower().startswith("https:"):
            raise remote_error(address, "the server redirects to an address that is not encrypted")
    raise remote_error(address, f"the server redirects more than {_MAX_REDIRECTS} times")


def _no_auth(request: PreparedRequest) -> PreparedRequest:
    return request


def _requests() -> ModuleType:
    try:
        return import_module("requests")
    except ImportError:
        told = 'models on the web are read by requests, which is not installed; pip install "qxmix[remote]"'
        raise ModelFileError(told) from None


def _hub_token() -> str:
    """The user's token, by the hub's own rules where its package is there: environment, or a login."""
    try:
        found: str | None = import_module("huggingface_hub").get_token()
    except ImportError:
        found = os.environ.get("HF_TOKEN")
    return found or ""


@contextmanager
def _told(address: Address, requests: ModuleType) -> Iterator[None]:
    """Turn errors of the network into one that names no secret."""
    errors, raw = requests.exceptions, import_module("urllib3").exceptions
    try:
        yield
    except errors.SSLError:
        told = (
            "the server's certificate is not trusted, or it does not encrypt; check the address and this machine's date"
        )
        raise remote_error(address, told) from None
    except (errors.Timeout, raw.TimeoutError):
        raise remote_error(address, f"the server did not answer within {TIMEOUT_SECONDS:g} s; {_TRY_AGAIN}") from None
    except (errors.InvalidURL, errors.InvalidSchema, UnicodeError, ValueError):
        told = "is no address that can be opened; it must be like https://host/path/model.gguf"
        raise remote_error(address, told) from None
    except (errors.ChunkedEncodingError, errors.ContentDecodingError, raw.ProtocolError, raw.DecodeError):
        raise remote_error(address, f"the server's answer broke off; {_TRY_AGAIN}") from None
    except errors.RequestException:
        told = f"the server cannot be reached; check the address and the network, or {_TRY_AGAIN}"
        raise remote_error(address, told) from None


def _size(address: Address, answer: Response, start: int) -> int:
    """Size of the whole file, from ``Content-Range: bytes 0-99/1234``."""
    unit, _, told = answer.headers.get("Content-Range", "").partition(" ")
    span, _, total = told.partition("/")
    known = total.isascii() and total.isdigit() and len(total) <= _MAX_DIGITS
    if unit.lower() != "bytes" or span.partition("-")[0] != str(start) or not known or int(total) <= start:
        raise remote_error(address, f"the server sends another part than it was asked for; {_TRY_AGAIN}")
    return int(total)


def _body(address: Address, answer: Response, wanted: int) -> bytes:
    """At most ``wanted`` bytes, whatever the server sends, however slowly."""
    data, started = bytearray(), time.monotonic()
    # Whatever has arrived, and not first a whole buffer of it: of a trickle that would never be full.
    while len(data) < wanted and (piece := answer.raw.read1(1 << 16, decode_content=True)):
        data += piece
        seconds = time.monotonic() - started
        if seconds > TIMEOUT_SECONDS and len(data) < seconds * _SLOWEST and len(data) < wanted:
            told = f"the server sent {len(data):,} of {wanted:,} bytes in {seconds:.0f} s; {_TRY_AGAIN}"
            raise remote_error(address, told)
    return bytes(data[:wanted])
