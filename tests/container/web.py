"""A web server on this machine that serves parts of files, well or in one of many bad ways."""

from __future__ import annotations

import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class Asked:
    """One request that arrived."""

    path: str
    headers: dict[str, str]
    start: int
    end: int
    sent: int = 0


@dataclass
class Web:
    """Files by path, and what was asked for."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    etags: dict[str, str] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=dict)
    bad: Callable[[Handler, bytes, Asked], None] | None = None
    """Answers instead of the server."""
    redirects: dict[str, str] = field(default_factory=dict)


class Handler(BaseHTTPRequestHandler):
    """Answers requests for parts."""

    protocol_version = "HTTP/1.1"
    web: Web

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        span = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")
        asked = Asked(self.path, dict(self.headers), int(span[0]), int(span[1] or 1 << 60) + 1)
        self.web.asked.append(asked)
        if path in self.web.redirects:
            self.answer(302, {"Location": self.web.redirects[path]})
            return
        data = self.web.files.get(path)
        if data is None:
            self.answer(404, {}, b"no")
            return
        if self.web.bad is not None:
            self.web.bad(self, data, asked)
            return
        self.part(data, asked)

    def part(self, data: bytes, asked: Asked, **headers: str) -> None:
        """The answer of a good server."""
        path = asked.path.partition("?")[0]
        etag = self.web.etags.get(path, '"1"')
        more = {"ETag": etag, "X-Repo-Commit": self.web.commits.get(path, "c0ffee")}
        if self.headers.get("If-None-Match") == etag:
            self.answer(304, more)
            return
        end = min(asked.end, len(data))
        piece = data[asked.start : end]
        asked.sent = len(piece)
        self.answer(206, {"Content-Range": f"bytes {asked.start}-{end - 1}/{len(data)}", **more, **headers}, piece)

    def answer(self, code: int, headers: dict[str, str], body: bytes = b"", *, length: int | None = None) -> None:
        """Any answer."""
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's word
        """Say nothing."""


CERTIFICATE = Path(__file__).with_name("localhost.pem")
"""For 127.0.0.1, signed by itself, with its key: of use to nobody but tests."""


@contextmanager
def serving(*, encrypted: bool = False) -> Iterator[Web]:
    """A server for as long as the block runs."""
    web = Web("")
    handler = type("OneHandler", (Handler,), {"web": web})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if encrypted:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that hang up are what is tested
    web.url = f"http{'s' * encrypted}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
