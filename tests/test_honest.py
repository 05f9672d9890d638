"""Honest clients are never refused: what curl, browsers and the libraries send passes, read and unchanged."""

from __future__ import annotations

import io
import json
import re
import socket
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from doubles import Client, call
from honest import honest_site
from honest.replay import CORPUS, Recorded, clients, recorded
from honest.variants import ENCODERS, untyped, variants
from servers import ASGI, WSGI, serve

pytestmark = pytest.mark.once

VARIANTS = 150
SAMPLED = 7  # every seventh request goes over a real socket, too

ESCAPED_NAME = re.compile(rb'form-data; name="[^"]*\\')
"""aiohttp puts a backslash before a blank in a field's name. Some readers undo that and some do not: two readings."""


@cache
def every(group: str) -> list[Recorded]:
    """A group of requests: one file of the corpus, or one client's variants."""
    client, _, kind = group.partition(" ")
    return list(variants(client, VARIANTS)) if kind else recorded(client)


"""The file of what honest clients send and is refused all the same: each line is a wish."""
GROUPS = [*clients(), *(f"{client} variants" for client in ENCODERS)]


@pytest.fixture(params=GROUPS)
def requests(request: pytest.FixtureRequest) -> list[Recorded]:
    """One group after the other, made outside of any event loop."""
    return every(str(request.param))


def fault(request: Recorded, status: int | None, answer: bytes) -> str | None:
    """What is wrong with an answer to an honest request; None if it is as it should be."""
    if ESCAPED_NAME.search(request.body):
        return None if status == 400 else f"a name with two readings got {status}"
    if status != 200:
        return f"refused: {status} {answer!r}"
    told = json.loads(answer)
    if told["sha256"] != sha256(request.content).hexdigest():
        return "the app read other bytes"
    return None if request.is_among(told["texts"]) else f"the message was not moderated, but {told['texts']}"


def report(faults: list[tuple[Recorded, str | None]]) -> str:
    """The requests at fault, to be read in a test's failure."""
    wrong = [(request, found) for request, found in faults if found is not None]
    return "\n\n".join(f"{found}\n{request.head!r}\n{request.body[:2000]!r}" for request, found in wrong)


async def over_asgi(request: Recorded) -> str | None:
    *first, last = request.pieces
    client = Client(
        [
            *({"type": "http.request", "body": piece, "more_body": True} for piece in first),
            {"type": "http.request", "body": last},
        ]
    )
    await honest_site.asgi(request.scope(), client.receive, client.send)
    return fault(request, client.status, client.body)


def over_wsgi(request: Recorded) -> str | None:
    given: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": request.path,
        "SCRIPT_NAME": "",
        "wsgi.input": io.BytesIO(request.content),
        "wsgi.input_terminated": True,
    }
    for name, value in request.headers:
        key = name.decode().replace("-", "_").upper()
        given[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value.decode("latin-1")
    setup_testing_defaults(given)
    status, _, answer = call(honest_site.wsgi, given)
    return fault(request, status, answer)


def over_a_socket(request: Recorded, port: int) -> str | None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(request.head + request.body)
        response = HTTPResponse(connection)
        response.begin()
        return fault(request, response.status, response.read())


def test_there_are_more_than_a_thousand_of_them_by_every_client() -> None:
    names = {request.client for group in GROUPS for request in every(group)}
    assert {"curl", "httpx", "requests", "aiohttp", "node fetch", "node axios", "chromium form"} <= names
    assert sum(len(every(group)) for group in GROUPS) > 1000


def test_the_recordings_say_nothing_of_the_machine_they_were_made_on() -> None:
    text = b"".join(path.read_bytes() for path in CORPUS.glob("*.jsonl"))
    assert text.count(b"Host: app.example") + text.count(b"host: app.example") == text.count(b"\n")
    assert not re.search(rb"127\.0\.0\.1|localhost|/home/|/root/", text)


@pytest.mark.anyio
async def test_none_is_refused_and_each_is_read(requests: list[Recorded]) -> None:
    assert not report([(request, await over_asgi(request)) for request in requests])


def test_none_is_refused_on_wsgi_either(requests: list[Recorded]) -> None:
    assert not report([(request, over_wsgi(request)) for request in requests])


@pytest.mark.anyio
@pytest.mark.parametrize("client", ["httpx", "requests"])
async def test_a_client_that_names_no_type_is_asked_for_one(client: str) -> None:
    request = untyped(client, "a text without a type")
    assert b"content-type" not in dict(request.headers)
    assert "refused: 415" in (await over_asgi(request) or "")


@pytest.fixture(scope="module", params=["uvicorn-h11", "uvicorn-httptools", "granian", "gunicorn-gthread", "waitress"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    name = request.param
    command, kind = (ASGI[name], "asgi") if name in ASGI else (WSGI[name], "wsgi")
    with serve(command, f"honest_site:{kind}", Path(honest_site.__file__).parent) as port:
        yield port


def test_none_is_refused_over_a_real_socket(port: int) -> None:
    sample = [request for group in GROUPS for request in every(group)][::SAMPLED]
    assert len(sample) > 100
    assert not report([(request, over_a_socket(request, port)) for request in sample])
