"""What servers and apps do beyond a question and an answer goes on behind the middleware."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, BinaryIO, Final

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import InformationalResponseReceived, StreamEnded, TrailersReceived
from websockets.sync.client import connect

from doubles import BAD
from servers import ASGI, WSGI, serve

pytestmark = pytest.mark.once

HERE: Final = Path(__file__).parent
CLEAN: Final = json.dumps({"message": "hello"}).encode()
JSON: Final = {"content-type": "application/json"}
ON_WSGI: Final = ["gunicorn-gthread", "waitress"]


@dataclass(frozen=True)
class Wire:
    """A connection, for several responses in a row: HTTPResponse takes it for a socket, and cannot close it."""

    send: Callable[[bytes], object]
    stream: BinaryIO

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def makefile(self, _mode: str) -> Wire:
        return self

    def close(self) -> None:
        """Not before the connection."""

    def begin(self, method: str = "POST") -> HTTPResponse:
        found = HTTPResponse(self, method=method)  # type: ignore[arg-type]
        found.begin()
        return found

    def response(self, method: str = "POST") -> tuple[int, bytes]:
        found = self.begin(method)
        return found.status, found.read()


@dataclass(frozen=True)
class Site:
    """The apps of `live_apps`, on one server."""

    server: str
    port: int

    def call(
        self, path: str, body: Any = CLEAN, headers: dict[str, str] | None = None, method: str = "POST"
    ) -> tuple[int, dict[str, str], bytes]:
        """One request on a connection of its own."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, JSON if headers is None else headers)
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            connection.close()

    @contextmanager
    def open(self) -> Iterator[Wire]:
        """A connection to send bytes on."""
        address = ("127.0.0.1", self.port)
        with socket.create_connection(address, timeout=20) as connection, connection.makefile("rb") as stream:
            yield Wire(connection.sendall, stream)

    def state(self) -> dict[str, Any]:
        found = json.loads(self.call("/free/state", b"", {})[2])
        assert isinstance(found, dict)
        return found


@pytest.fixture(scope="module")
def running() -> Iterator[Callable[[str], Site]]:
    """Each server once, started when it is first asked for."""
    with ExitStack() as stack:

        @cache
        def start(name: str) -> Site:
            kind = "asgi" if name in ASGI else "wsgi"
            return Site(name, stack.enter_context(serve({**ASGI, **WSGI}[name], f"live_apps:{kind}", HERE)))

        yield start


@pytest.fixture(params=[*ASGI, *ON_WSGI])
def site(request: pytest.FixtureRequest, running: Callable[[str], Site]) -> Site:
    return running(request.param)


@pytest.fixture(params=[*ASGI])
def asgi_site(request: pytest.FixtureRequest, running: Callable[[str], Site]) -> Site:
    return running(request.param)


@pytest.fixture(params=ON_WSGI)
def wsgi_site(request: pytest.FixtureRequest, running: Callable[[str], Site]) -> Site:
    return running(request.param)


@pytest.fixture(params=["/ruled", "/free"])
def root(request: pytest.FixtureRequest) -> str:
    """Where a rule is about the route, and where none is."""
    return str(request.param)


def raw(path: str, body: bytes = CLEAN, *more: str, method: str = "POST", kind: str = "application/json") -> bytes:
    """A request as bytes, to be sent with others or piece by piece."""
    lines = [f"{method} {path} HTTP/1.1", "host: app.example", f"content-type: {kind}", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, *more, "", ""]).encode() + body


def until(condition: Callable[[], bool]) -> None:
    """Wait for what has to happen, ten seconds at most."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it did not happen within ten seconds"
        time.sleep(0.02)


def digest(body: bytes) -> dict[str, object]:
    return {"length": len(body), "sha256": sha256(body).hexdigest()}


# Bodies


def test_many_megabytes_arrive_to_the_byte_where_no_rule_is(site: Site) -> None:
    body = bytes(range(256)) * (32 << 10)
    status, _, answer = site.call("/free/echo", body, {"content-type": "application/octet-stream"})
    assert (status, json.loads(answer)) == (200, digest(body))


def test_many_megabytes_arrive_to_the_byte_where_a_rule_is(site: Site) -> None:
    file = bytes(range(256)) * (16 << 10)
    fields = b'--BND\r\nContent-Disposition: form-data; name="message"\r\n\r\nhello\r\n--BND\r\n'
    named = b'Content-Disposition: form-data; name="file"; filename="a file"\r\nContent-Type: image/png\r\n\r\n'
    body = fields + named + file + b"\r\n--BND--\r\n"
    status, _, answer = site.call("/ruled/echo", body, {"content-type": "multipart/form-data; boundary=BND"})
    assert (status, json.loads(answer)) == (200, digest(body))


def test_a_client_that_waits_for_leave_to_send_gets_it(site: Site, root: str) -> None:
    head = raw(f"{root}/echo", CLEAN, "expect: 100-continue").removesuffix(CLEAN)
    with site.open() as wire:
        wire.send(head)
        assert wire.readline().startswith(b"HTTP/1.1 100")
        assert b"\r\n" in iter(wire.readline, b"")
        wire.send(CLEAN)
        assert wire.response() == (200, json.dumps(digest(CLEAN)).encode())


@pytest.mark.parametrize("site", [*ASGI, "gunicorn-gthread"], indirect=True)  # waitress waits for a body before any app
def test_a_client_that_waits_for_leave_to_send_may_be_refused_instead(site: Site) -> None:
    with site.open() as wire:
        wire.send(raw("/ruled/echo", CLEAN, "expect: 100-continue", kind="image/png").removesuffix(CLEAN))
        assert wire.response()[0] == 415


def test_the_answer_to_head_has_no_body(site: Site, root: str) -> None:
    with site.open() as wire:
        wire.send(raw(f"{root}/echo", b"", method="HEAD") + raw(f"{root}/echo"))
        assert wire.response("HEAD") == (200, b"")
        assert wire.response() == (200, json.dumps(digest(CLEAN)).encode())


@pytest.mark.parametrize("method", ["POST", "HEAD"])
def test_the_requests_behind_a_rejected_one_are_answered(site: Site, method: str) -> None:
    bad = json.dumps({"message": BAD}).encode()
    with site.open() as wire:
        wire.send(raw("/ruled/echo", bad, method=method) + raw("/ruled/echo") + raw("/free/echo"))
        status, answer = wire.response(method)
        assert status == 400
        assert bool(answer) == (method == "POST")
        assert [wire.response()[0], wire.response()[0]] == [200, 200]


# Answers


def test_each_piece_of_an_answer_goes_out_when_it_is_made(asgi_site: Site, root: str) -> None:
    with asgi_site.open() as wire:
        wire.send(raw(f"{root}/stream"))
        response = wire.begin()
        for number in range(1, 4):
            assert response.readline() == b"piece %d\n" % number
            asgi_site.call("/free/go", b"", {})
        assert response.read() == b""


def test_an_app_that_listens_hears_of_a_client_that_leaves(site: Site, root: str) -> None:
    site.call("/free/forget", b"", {})
    with site.open() as wire:
        wire.send(raw(f"{root}/events"))
        assert wire.readline().startswith(b"HTTP/1.1 200")
        assert "left" not in site.state()
    until(lambda: "left" in site.state())
    assert site.state()["left"] == ("http.disconnect" if site.server in ASGI else "closed")


def test_an_app_that_listens_hears_nothing_while_the_client_is_there(asgi_site: Site, root: str) -> None:
    assert asgi_site.call(f"{root}/listen")[::2] == (200, b"[]")


def test_background_tasks_run_and_finish(asgi_site: Site, root: str) -> None:
    asgi_site.call("/free/forget", b"", {})
    assert asgi_site.call(f"{root}/background")[0] == 200
    until(lambda: asgi_site.state().get("background") == "finished")


def test_the_extensions_that_a_server_announces_work(asgi_site: Site) -> None:
    def answer(root: str) -> bytes:
        with asgi_site.open() as wire:
            wire.send(raw(f"{root}/extended", CLEAN, "te: trailers", "connection: close"))
            return b"".join(iter(lambda: wire.read1(1 << 16), b""))

    bare, screened = (without_date(answer(root)) for root in ("/free", "/ruled"))
    assert bare == screened
    assert b"x-announced: " in bare.lower()
    assert (b"x-announced: http.response.pathsend" in bare.lower()) == (asgi_site.server == "granian")
    assert b"the extensions that the tests use" in bare


@pytest.mark.parametrize("asgi_site", ["hypercorn-asyncio", "hypercorn-trio"], indirect=True)
def test_early_hints_and_trailers_arrive_where_the_server_has_them(asgi_site: Site, root: str) -> None:
    told = over_http2(asgi_site, f"{root}/extended", CLEAN)
    assert [(b":status", b"103"), (b"link", b"</style.css>; rel=preload")] in told
    assert [(b"x-sum", b"of it all")] in told


def over_http2(site: Site, path: str, body: bytes) -> list[list[tuple[bytes, bytes]]]:
    """What comes before and after the head of the answer to one request."""
    told: list[list[tuple[bytes, bytes]]] = []
    http2 = H2Connection(H2Configuration(header_encoding=None))
    http2.initiate_connection()
    head = [(":method", "POST"), (":path", path), (":scheme", "http"), (":authority", "app.example"), *JSON.items()]
    http2.send_headers(1, [*head, ("te", "trailers")])
    http2.send_data(1, body, end_stream=True)
    with site.open() as wire:
        while True:
            wire.send(http2.data_to_send())
            for event in http2.receive_data(wire.read1(1 << 16)):
                if isinstance(event, InformationalResponseReceived | TrailersReceived):
                    told.append([pair for pair in event.headers if pair[0] not in (b"date", b"server")])
                elif isinstance(event, StreamEnded):
                    return told


def without_date(answer: bytes) -> bytes:
    return re.sub(rb"(?im)^date: .*\r\n", b"", answer)


def test_context_variables_are_seen_both_ways(site: Site, root: str) -> None:
    site.call("/free/forget", b"", {})
    assert site.call(f"{root}/context")[::2] == (200, b'"set outside"')
    until(lambda: site.state().get("inner") == "set by the app")


def test_what_an_app_raises_comes_out_as_without_us(site: Site) -> None:
    (bare, headers_bare, body_bare), (screened, headers, body) = (
        site.call(f"{each}/fail") for each in ("/free", "/ruled")
    )
    assert bare == screened == 500
    assert body == body_bare
    assert headers.keys() == headers_bare.keys()
    assert site.state()["raised"] == ["AppError", "AppError"]


def test_a_websocket_where_no_rule_is_carries_text_and_bytes(asgi_site: Site) -> None:
    with connect(f"ws://127.0.0.1:{asgi_site.port}/free/socket") as client:
        for message in ("a text", b"some bytes", BAD, "x" * 100_000):
            client.send(message)
            assert client.recv(timeout=10) == message


def test_the_servers_own_write_works(wsgi_site: Site, root: str) -> None:
    assert wsgi_site.call(f"{root}/write")[::2] == (200, b"written and")
