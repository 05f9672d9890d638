"""The examples on real servers, with the real openai SDK against a moderation service on loopback."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

import pytest

from fake_openai import FakeOpenAI
from servers import ASGI, EXAMPLES, WSGI, serve

pytestmark = pytest.mark.once

JSON = {"content-type": "application/json"}


@dataclass
class Site:
    """An example on a server, and the moderation service behind it."""

    port: int
    path: str
    service: FakeOpenAI

    def body(self, text: str) -> bytes:
        wanted = {"messages": [{"role": "user", "content": text}]} if self.path == "/chat" else {"body": text}
        return json.dumps(wanted).encode()

    def post(self, text: str, **headers: str) -> tuple[int, dict[str, str], Any]:
        return self.send(self.body(text), {**JSON, **headers})

    def send(self, body: Any, headers: dict[str, str], method: str = "POST") -> tuple[int, dict[str, str], Any]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, self.path, body, headers)
            return read(connection)
        finally:
            connection.close()

    def handled(self) -> int:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", "/stats")
            return int(json.loads(connection.getresponse().read())["handled"])
        finally:
            connection.close()


def read(connection: HTTPConnection) -> tuple[int, dict[str, str], Any]:
    response = connection.getresponse()
    raw = response.read()
    kind = response.headers.get_content_type()
    headers = {name.lower(): value for name, value in response.headers.items()}
    return response.status, headers, json.loads(raw) if kind.endswith("json") else raw


@pytest.fixture(scope="module", params=[*ASGI, *WSGI])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    name = str(request.param)
    command, example, path = (
        (ASGI[name], "fastapi_app", "/chat") if name in ASGI else (WSGI[name], "flask_app", "/comments")
    )
    with FakeOpenAI() as service:
        environment = {"OPENAI_API_KEY": "test-key", "OPENAI_BASE_URL": service.url}
        with serve(command, "app:app", EXAMPLES / example, output=None, **environment) as port:
            yield Site(port, path, service)


def test_a_harmless_text_reaches_the_handler(site: Site) -> None:
    before, asked = site.handled(), len(site.service.requests)
    status, _, answer = site.post("a good name for a cat")
    assert status == 200
    assert "answer" in answer
    assert site.service.inputs()[asked:] == [["a good name for a cat"]]
    assert site.handled() == before + 1


def test_a_flagged_text_is_answered_with_its_category_and_never_handled(site: Site) -> None:
    before = site.handled()
    status, headers, answer = site.post("flag hate/threatening")
    assert status in (400, 422)
    assert headers["content-type"] == "application/problem+json"
    assert [each["category"] for each in answer["categories"]] == ["hate/threatening"]
    assert site.handled() == before


def test_a_connection_goes_on_after_a_rejection(site: Site) -> None:
    connection = HTTPConnection("127.0.0.1", site.port, timeout=60)
    try:
        statuses = []
        for text in ("flag violence", "hello", "flag violence", "hello again"):
            connection.request("POST", site.path, site.body(text), JSON)
            statuses.append(read(connection)[0] // 100)
        assert statuses == [4, 2, 4, 2]
    finally:
        connection.close()


@pytest.mark.parametrize("size", [1, 1000])
def test_a_chunked_body_is_screened(site: Site, size: int) -> None:
    def chunks(text: str) -> Iterator[bytes]:
        body = site.body(text)
        yield from (body[start : start + size] for start in range(0, len(body), size))

    for text, status in (("hello in chunks", 2), ("flag violence", 4)):
        assert site.send(chunks(text), JSON)[0] // 100 == status


def test_a_client_that_leaves_in_the_middle_is_neither_moderated_nor_handled(site: Site) -> None:
    before, asked = site.handled(), len(site.service.requests)
    body = site.body("a text that never ends")
    head = (
        f"POST {site.path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", site.port), timeout=60) as client:
        client.sendall(head.encode() + body[:-5])
        client.shutdown(socket.SHUT_WR)
        client.settimeout(5)
        try:
            answer = client.recv(4096)
        except OSError:
            answer = b""
    # granian answers by itself where no app does; what matters is that ours was not called.
    assert not answer or answer.split()[1] in (b"400", b"408", b"500")
    assert site.post("and the next one passes")[0] == 200
    assert site.service.inputs()[asked:] == [["and the next one passes"]]
    assert site.handled() == before + 1


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"messages": [', JSON, 400),
        (b'{"body": "a", "body": "b", "messages": []}', JSON, 400),
        (b"<xml/>", {"content-type": "text/xml"}, 415),
        (b"x" * (2 << 20), JSON, 413),
    ],
    ids=["cut short", "repeated key", "another kind", "too large"],
)
def test_what_cannot_be_read_is_refused(site: Site, body: bytes, headers: dict[str, str], status: int) -> None:
    asked = len(site.service.requests)
    assert site.send(body, headers)[0] == status
    assert len(site.service.requests) == asked


def test_a_stalled_moderator_is_given_up_at_the_deadline(site: Site) -> None:
    site.service.script("stall")
    status, headers, _ = site.post("hello after a while")
    assert status == 503
    assert int(headers["retry-after"]) > 0
    assert site.post("hello after a while")[0] == 200


def test_a_route_without_a_rule_is_left_alone(site: Site) -> None:
    asked = len(site.service.requests)
    connection = HTTPConnection("127.0.0.1", site.port, timeout=60)
    try:
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
    finally:
        connection.close()
    assert len(site.service.requests) == asked


def test_an_unreachable_moderator_is_a_503_that_says_when_to_come_back(site: Site) -> None:
    from fake_openai import status as refuse

    before = site.handled()  # the last of these tests: for 7 seconds nobody asks the service again
    site.service.script(refuse(429, retry_after="7"))
    status, headers, answer = site.post("hello in vain")
    assert (status, headers["retry-after"]) == (503, "7")
    assert "not possible right now" in answer["detail"]
    assert site.handled() == before
