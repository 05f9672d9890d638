"""More of what Python's clients send, made in process by their own encoders; the contents are random but seeded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import aiohttp
import httpx
import requests

from honest.replay import Recorded

Sent = tuple[Iterable[tuple[str, str]], bytes]
"""Headers and body, as an encoder makes them."""
ALPHABETS: Final = (
    "abc XYZ 0189 .,:;!?",
    "آابپتثجچ‌حخدذ؟،۰۱۲ ",
    "שלום עליכם ‏123",
    "日本語中文한국어、。",
    "🐈🐈‍⬛👍🏽🇮🇷❤️ 𝔸",
    "\"'\\/;=&%+#?@<>{}[]()|~`^$*!-_",
    "äöüßéèçñøåłžđİı",
    "\n\t ab\r\n",
)
KINDS: Final = ("json", "form", "multipart", "upload", "text")


@dataclass(frozen=True, slots=True)
class Contents:
    """What one request is to say."""

    kind: str
    message: str
    fields: list[tuple[str, str]]
    files: list[tuple[str, str, bytes, str]]


def contents(random: Random) -> Contents:
    kind = random.choice(KINDS)
    message = "m" + _text(random, random.choice((3, 40, 40, 400, 20_000 if random.random() < 0.1 else 40)))
    fields = [("message", message), *((f"field{n}", _text(random, 20)) for n in range(random.randrange(4)))]
    names = (f"{_text(random, 12).translate(_NO_CONTROLS)}.bin" for _ in range(random.randrange(1, 4)))
    files = [("file", name, random.randbytes(random.randrange(300)), "application/octet-stream") for name in names]
    return Contents(kind, message, fields, files)


_NO_CONTROLS: Final = dict.fromkeys(range(32))


def _text(random: Random, length: int) -> str:
    alphabet = "".join(random.sample(ALPHABETS, random.randrange(1, 4)))
    return "".join(random.choices(alphabet, k=random.randrange(length)))


def with_httpx(given: Contents, url: str) -> Sent:
    files = [(name, (filename, raw, kind)) for name, filename, raw, kind in given.files]
    plain: list[Any] = [(name, (None, value.encode())) for name, value in given.fields]
    options: Mapping[str, dict[str, Any]] = {
        "json": {"json": dict(given.fields)},
        "form": {"data": dict(given.fields)},
        "text": {"content": given.message, "headers": {"content-type": "text/plain; charset=utf-8"}},
        "multipart": {"files": plain},
        "upload": {"data": dict(given.fields), "files": files},
    }
    request = httpx.Request("POST", url, **options[given.kind])
    return request.headers.items(), request.read()


def with_requests(given: Contents, url: str) -> Sent:
    files = [(name, (filename, raw, kind)) for name, filename, raw, kind in given.files]
    options: Mapping[str, dict[str, Any]] = {
        "json": {"json": dict(given.fields)},
        "form": {"data": given.fields},
        "text": {"data": given.message.encode(), "headers": {"content-type": "text/plain"}},
        "multipart": {"files": [(name, (None, value)) for name, value in given.fields]},
        "upload": {"data": given.fields, "files": files},
    }
    prepared = requests.Request("POST", url, **options[given.kind]).prepare()
    body = prepared.body or b""
    return prepared.headers.items(), body.encode() if isinstance(body, str) else bytes(body)


def with_aiohttp(given: Contents, url: str) -> Sent:
    payload: aiohttp.payload.Payload
    if given.kind == "json":
        payload = aiohttp.JsonPayload(dict(given.fields))
    elif given.kind == "text":
        payload = aiohttp.payload.StringPayload(given.message)
    else:
        form = aiohttp.FormData(default_to_multipart=given.kind != "form")
        for name, value in given.fields:
            form.add_field(name, value)
        for name, filename, raw, kind in given.files if given.kind == "upload" else ():
            form.add_field(name, raw, filename=filename, content_type=kind)
        payload = form()
    body = asyncio.run(payload.as_bytes())
    return [("content-type", payload.headers["Content-Type"]), ("content-length", str(len(body)))], body


ENCODERS: Final[Mapping[str, Callable[[Contents, str], Sent]]] = {
    "httpx": with_httpx,
    "requests": with_requests,
    "aiohttp": with_aiohttp,
}


def variants(client: str, count: int) -> Iterator[Recorded]:
    """`count` requests as the client's encoder makes them; the same ones every time, but for boundaries."""
    random = Random(client)
    for n in range(count):
        given = contents(random)
        rule = given.kind if given.kind in ("json", "text") else "form"
        yield recorded_as(
            client, f"/{rule}/{n}", given.message, ENCODERS[client](given, f"http://app.example/{rule}/{n}")
        )


def untyped(client: str, message: str) -> Recorded:
    """A text as it is sent by who only passes it to `content=` or `data=`: without a Content-Type."""
    if client == "httpx":
        request = httpx.Request("POST", "http://app.example/", content=message)
        return recorded_as(client, "/text/0", message, (request.headers.items(), request.read()))
    prepared = requests.Request("POST", "http://app.example/", data=message.encode()).prepare()
    return recorded_as(client, "/text/0", message, (prepared.headers.items(), message.encode()))


def recorded_as(client: str, path: str, message: str, sent: Sent) -> Recorded:
    """A request as it would have been recorded."""
    others = [f"{name}: {value}" for name, value in sent[0] if name.lower() != "host"]
    lines = [f"POST {path} HTTP/1.1", "Host: app.example", *others, "", ""]
    return Recorded(client, path.split("/")[1], message, "\r\n".join(lines).encode("latin-1"), sent[1])
