"""Headers of models on the web: read by parts, kept, and one clear error for each way in which a server fails."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qxmix import ModelFileError, load_recipe, make_plan, read_header
from qxmix.container.identity import header_sha256
from qxmix.container.remote import ask, header
from qxmix.container.remote.address import Address, is_remote
from tests.container.web import CERTIFICATE, Asked, Handler, Web, serving
from tests.gguf_bytes import gguf, small_model, strings_field, tensor, text_field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Bad = Callable[[Handler, bytes, Asked], None]

ROOT = Path(__file__).parents[2]
BIG = gguf(
    [text_field("general.architecture", "llama"), strings_field("tokenizer.ggml.tokens", list(map(str, range(6000))))],
    [tensor("a.weight", (32, 4), 0)],
    bytes(512),
)  # fmt: skip


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with serving() as found:
        found.files["/m/model.gguf"] = BIG
        yield found


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header, "FIRST_NBYTES", 4096)
    monkeypatch.setattr(header, "SECOND_NBYTES", 16384)


def told(address: str) -> str:
    with pytest.raises(ModelFileError) as caught:
        read_header(address)
    assert len(caught.value.problems) == 1
    return str(caught.value)


def test_it_is_the_header_of_the_file(web: Web, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(BIG)
    local, remote = read_header(tmp_path / "model.gguf"), read_header(f"{web.url}/m/model.gguf")
    assert (remote.tensors, remote.metadata, remote.file_nbytes) == (local.tensors, local.metadata, local.file_nbytes)
    assert header_sha256(remote) == header_sha256(local)
    assert (remote.weights, remote.path.name) == ("remote", "model.gguf")


@pytest.mark.usefixtures("small_steps")
def test_as_much_as_is_needed_is_read(web: Web) -> None:
    web.files["/m/model.gguf"] = BIG + bytes(1 << 22)
    read_header(f"{web.url}/m/model.gguf")
    ranges = [(a.start, a.end) for a in web.asked]
    assert ranges[0] == (0, 4096)
    assert all(end == start for (_, end), (start, _) in pairwise(ranges))
    assert sum(a.sent for a in web.asked) <= 2 * len(BIG)


def test_what_was_read_is_kept_while_the_file_is_the_same(web: Web) -> None:
    address = f"{web.url}/m/model.gguf"
    first = read_header(address)
    assert read_header(address).tensors == first.tensors
    assert web.asked[-1].sent == 0
    web.etags["/m/model.gguf"] = '"2"'
    web.files["/m/model.gguf"] = small_model()
    assert read_header(address).tensors != first.tensors


def test_a_damaged_cache_is_read_anew(web: Web, tmp_path: Path) -> None:
    address = f"{web.url}/m/model.gguf"
    read_header(address)
    (kept,) = (tmp_path / "cache" / "qxmix" / "headers").iterdir()
    kept.write_bytes(kept.read_bytes()[:-9])
    read_header(address)
    assert web.asked[-1].sent > 0


def shards() -> dict[str, bytes]:
    names = [f"/m/s-{i + 1:05d}-of-00002.gguf" for i in range(2)]
    return {name: small_model(split=(i, 2, 2), names=(f"t{i}",)) for i, name in enumerate(names)}


def test_the_first_shard_finds_the_rest(web: Web) -> None:
    web.files.update(shards())
    found = read_header(f"{web.url}/m/s-00001-of-00002.gguf?signature=secret")
    assert [t.name for t in found.tensors] == ["t0", "t1"]
    assert [a.path for a in web.asked] == [f"{name}?signature=secret" for name in shards()]
    del web.files["/m/s-00002-of-00002.gguf"]
    assert "s-00002-of-00002.gguf: is not there (404)" in told(f"{web.url}/m/s-00001-of-00002.gguf?signature=other")


def test_shards_of_two_commits_are_told(web: Web) -> None:
    web.files.update(shards())
    web.commits["/m/s-00002-of-00002.gguf"] = "another"
    assert "belongs to a newer commit than the first shard" in told(f"{web.url}/m/s-00001-of-00002.gguf")


def test_a_file_that_changes_meanwhile_is_told(web: Web, small_steps: None) -> None:  # noqa: ARG001 - a fixture
    def bad(handler: Handler, data: bytes, asked: Asked) -> None:
        web.etags["/m/model.gguf"] = f'"{asked.start}"'
        handler.part(data, asked)

    web.bad = bad
    assert "changed while its header was read" in told(f"{web.url}/m/model.gguf")


def test_the_token_goes_to_the_hub_alone(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as store:
        store.files["/blob"] = BIG
        web.redirects["/o/r/resolve/main/model.gguf"] = f"{store.url}/blob?signed=yes"
        monkeypatch.setenv("HF_ENDPOINT", web.url)
        monkeypatch.setattr(ask, "_hub_token", lambda: "hf_secret")
        monkeypatch.setenv("NETRC", "/dev/null")
        read_header("hf://o/r/model.gguf")
        assert web.asked[0].headers["Authorization"] == "Bearer hf_secret"
        assert "Authorization" not in store.asked[0].headers
    read_header(f"{web.url}/m/model.gguf")
    assert "Authorization" not in web.asked[-1].headers
    web.redirects.clear()
    assert "hf_secret" not in told("hf://o/r/model.gguf")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("hf://o/r/m.gguf", "https://huggingface.co/o/r/resolve/main/m.gguf"),
        ("hf://o/r/Q4/m x.gguf@refs/pr/3", "https://huggingface.co/o/r/resolve/refs%2Fpr%2F3/Q4/m%20x.gguf"),
        ("HTTPS://h:8443/a/m.gguf?x=1", "https://h:8443/a/m.gguf?x=1"),
    ],
)
def test_addresses(text: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert is_remote(text)
    assert Address.parse(text).url == url


@pytest.mark.parametrize("text", ["hf://o/m.gguf", "hf://o", "hf://o//m.gguf", "https://h", "https:///m.gguf"])
def test_addresses_that_name_no_file(text: str) -> None:
    assert "must be like" in told(text)


def test_messages_hold_no_secret() -> None:
    shown = str(Address.parse("https://me:password@h/a/m.gguf?token=secret"))
    assert shown == "https://h/a/m.gguf"


def status(code: int) -> Bad:
    return lambda handler, _data, _asked: handler.answer(code, {}, b"x")


def content_range(value: str) -> Bad:
    return lambda handler, data, asked: handler.part(data, asked, **{"Content-Range": value})


def cut(handler: Handler, data: bytes, asked: Asked) -> None:
    end = min(asked.end, len(data))
    headers = {"Content-Range": f"bytes 0-{end - 1}/{len(data)}"}
    handler.answer(206, headers, data[: end // 2], length=end)
    handler.close_connection = True


def short(handler: Handler, data: bytes, asked: Asked) -> None:
    handler.answer(206, {"Content-Range": f"bytes 0-{min(asked.end, len(data)) - 1}/{len(data)}"}, data[:100])


def instead(body: bytes, nbytes: int | None = None) -> Bad:
    def bad(handler: Handler, _data: bytes, asked: Asked) -> None:
        size = len(body) if nbytes is None else nbytes
        piece = body[asked.start : asked.end]
        handler.answer(206, {"Content-Range": f"bytes {asked.start}-{asked.end}/{size}"}, piece)

    return bad


def hang_up(handler: Handler, _data: bytes, _asked: Asked) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def no_http(handler: Handler, _data: bytes, _asked: Asked) -> None:
    handler.wfile.write(b"220 mail.example.org ESMTP\r\n\r\n")
    handler.close_connection = True


def hang(handler: Handler, _data: bytes, _asked: Asked) -> None:
    time.sleep(1.5)
    handler.close_connection = True


def trickle(handler: Handler, data: bytes, asked: Asked) -> None:
    end = min(asked.end, len(data))
    handler.answer(206, {"Content-Range": f"bytes 0-{end - 1}/{len(data)}"}, length=end)
    with suppress(OSError):
        for i in range(40):
            handler.wfile.write(data[i : i + 1])
            time.sleep(0.1)
    handler.close_connection = True


def gzipped(handler: Handler, data: bytes, asked: Asked) -> None:
    handler.part(data, asked, **{"Content-Encoding": "gzip"})


BROKEN: dict[str, tuple[Bad, str]] = {
    "ignores ranges": (status(200), "sends whole files only"),
    "unauthorized": (status(401), "set HF_TOKEN"),
    "forbidden": (status(403), "set HF_TOKEN"),
    "gone": (status(410), "the server answers 410 Gone"),
    "range refused": (status(416), "is empty"),
    "too many requests": (status(429), "too many requests"),
    "broken": (status(500), "the server answers 500 Internal Server Error; try again"),
    "overloaded": (status(503), "the server answers 503"),
    "not modified unasked": (status(304), "the server answers 304"),
    "no content": (status(204), "the server answers 204"),
    "another part": (content_range("bytes 7-99/9999"), "another part than it was asked for"),
    "no size": (content_range("bytes 0-99/*"), "another part"),
    "size is text": (content_range("bytes 0-99/many"), "another part"),
    "size is huge": (content_range("bytes 0-99/" + "9" * 40), "another part"),
    "size is negative": (content_range("bytes 0-99/-5"), "another part"),
    "size is zero": (content_range("bytes 0-99/0"), "another part"),
    "other unit": (content_range("lines 0-99/9999"), "another part"),
    "no range": (content_range(""), "another part"),
    "cut off": (cut, "broke off"),
    "short": (short, "sent 100 of"),
    "hangs up": (hang_up, "cannot be reached"),
    "no http": (no_http, "cannot be reached"),
    "hangs": (hang, "did not answer within"),
    "trickles": (trickle, "bytes in 1 s; try again"),
    "says gzip": (gzipped, "broke off"),
    "a web page": (instead(b"<html>log in</html>" * 9), "is a web page or XML"),
    "an LFS pointer": (instead(b"version https://git-lfs.github.com/spec/v1\n"), "is a Git LFS pointer"),
    "zeros": (instead(bytes(4096)), "starts with zeros"),
    "a truncated model": (instead(BIG[:-600]), "is cut off"),
    "hostile lengths": (instead(BIG[:8] + b"\xff" * 16 + BIG[24:]), "claims"),
    "a header without end": (instead(BIG[:16] + b"\0\0\0\0\0\1\0\0" + bytes(1 << 16), 1 << 50), ""),
    "old version": (instead(b"GGUF\1\0\0\0" + bytes(64)), "is GGUF version 1"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_servers(name: str, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask, "TIMEOUT_SECONDS", 0.5 if name in {"hangs", "trickles"} else 20)
    web.bad, expected = BROKEN[name]
    message = told(f"{web.url}/m/model.gguf")
    assert message.startswith(f"{web.url}/m/model.gguf: ")
    assert expected in message


def test_redirects_that_lead_nowhere(web: Web) -> None:
    address = f"{web.url}/m/model.gguf"
    web.redirects["/m/model.gguf"] = address
    assert "redirects more than 8 times" in told(address)
    web.redirects["/m/model.gguf"] = "file:///etc/passwd"
    assert "no web address" in told(address)
    web.redirects["/m/model.gguf"] = "/n/model.gguf"
    assert "is not there (404)" in told(address)


def test_encryption(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "is not trusted, or it does not encrypt" in told(f"{web.url.replace('http', 'https')}/m/model.gguf")
    with serving(encrypted=True) as safe:
        safe.files |= web.files
        address = f"{safe.url}/m/model.gguf"
        assert "certificate is not trusted" in told(address)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
        assert read_header(address).tensors
        safe.redirects["/n/model.gguf"] = f"{web.url}/m/model.gguf"
        assert "redirects to an address that is not encrypted" in told(f"{safe.url}/n/model.gguf")


def test_no_server(web: Web) -> None:
    port = int(web.url.rpartition(":")[2])
    assert "cannot be reached" in told(f"http://127.0.0.1:{port - 1 if port > 1025 else port + 1}/m/model.gguf")
    assert "no address that can be opened" in told("https://a b:xx/m.gguf")


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "pure/q4_0", "MODEL"),
        ("inspect", "MODEL"),
        ("recipes", "pure", "--model", "MODEL"),
        ("diff", "pure/q4_0", "pure/q8_0", "MODEL"),
        ("lint", "pure/q4_0", "MODEL"),
        ("header", "MODEL", "-o", "h.gguf"),
    ],
)
def test_commands_take_addresses(arguments: tuple[str, ...], web: Web, demo_model: Path, tmp_path: Path) -> None:
    web.files["/demo.gguf"] = demo_model.read_bytes()
    words = [f"{web.url}/demo.gguf" if a == "MODEL" else a for a in arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "qxmix", *words],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == (1 if arguments[0] == "diff" else 0), done.stderr
    assert done.stdout


def test_an_apply_says_to_download_it(web: Web, demo_model: Path, tmp_path: Path) -> None:
    web.files["/demo.gguf"] = demo_model.read_bytes()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "qxmix", "apply", "pure/q4_0", f"{web.url}/demo.gguf"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "demo.gguf: is on another machine" in done.stderr
    assert not list(tmp_path.glob("*.gguf*"))


def test_a_plan_is_the_same(web: Web, demo_model: Path) -> None:
    web.files["/demo-f16.gguf"] = demo_model.read_bytes()
    recipe = load_recipe("llama.cpp/q4_k_m")
    local, remote = (make_plan(recipe, read_header(m), None) for m in (demo_model, f"{web.url}/demo-f16.gguf"))
    assert [f.header for f in remote.files] == [f.header for f in local.files]
    assert remote.tensors == local.tensors
