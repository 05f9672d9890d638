"""The two ends of a middleware: a moderator that remembers, and clients that speak raw ASGI and WSGI."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import anyio

from prescreen import Decision, Head, Image, Rule, Screen, Text, Verdict
from prescreen.asgi import App, Event
from prescreen.drive import drive_sync
from prescreen.model import Item
from prescreen.steps import Answer, Moderate, ReadBody, Step

BAD = "seven violet lanterns"
"""What `Recorder` flags."""

JSON = (b"content-type", b"application/json")

BARE: Final[dict[str, Any]] = {"cache": False, "breaker": False}
"""A screen's options for tests of how a moderator itself behaves: each question gets to it, however it failed before."""


class Check(Protocol):
    """Asks a screen about a text, whichever way; the fixture `check` is one."""

    async def __call__(self, screen: Screen, text: str | Sequence[Item]) -> Decision: ...


class Recorder:
    """Flags what contains BAD, as violence; remembers everything it was asked about."""

    name = "recorder"

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    @property
    def seen(self) -> list[str]:
        return [value for call in self.calls for value in call]

    async def moderate(self, items: Sequence[Text | Image]) -> list[Verdict]:
        return self.moderate_sync(items, 0)

    def moderate_sync(self, items: Sequence[Text | Image], timeout: float) -> list[Verdict]:
        values = [item.value if isinstance(item, Text) else item.url for item in items]
        self.calls.append(values)
        return [Verdict(BAD in value, {"violence": BAD in value}) for value in values]


def scope(path: str = "/chat", method: str = "POST", headers: Iterable[Any] = (JSON,), **more: Any) -> dict[str, Any]:
    """An HTTP scope as a server makes it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "extensions": {},
    } | more


def whole(body: bytes) -> list[Event]:
    return [{"type": "http.request", "body": body, "more_body": False}]


def byte_by_byte(body: bytes) -> list[Event]:
    """One event a byte, and then an empty last one, as some servers send it."""
    pieces: list[Event] = [{"type": "http.request", "body": bytes([byte]), "more_body": True} for byte in body]
    return [*pieces, {"type": "http.request"}]


@dataclass
class Client:
    """Feeds `events` to an app and keeps what it sends; after the last event it waits, as clients do."""

    events: list[Event]
    sent: list[Event] = field(default_factory=list)
    received: int = 0

    async def receive(self) -> Event:
        if self.received == len(self.events):
            await anyio.sleep_forever()
        self.received += 1
        return self.events[self.received - 1]

    async def send(self, event: Event) -> None:
        await anyio.lowlevel.checkpoint()
        self.sent.append(event)

    async def request(self, app: App, **parts: Any) -> int | None:
        """Call the app; the answer's status, None without an answer."""
        with anyio.fail_after(10):
            await app(scope(**parts), self.receive, self.send)
        return self.status

    @property
    def status(self) -> int | None:
        return next((event["status"] for event in self.sent if event["type"] == "http.response.start"), None)

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(next(event["headers"] for event in self.sent if event["type"] == "http.response.start"))

    @property
    def body(self) -> bytes:
        return b"".join(event.get("body", b"") for event in self.sent if event["type"] == "http.response.body")


def screened(
    rule: Rule, body: bytes = b"", *, query: bytes = b"", **headers: str
) -> tuple[Decision, list[Text | Image]]:
    """What a request meets under a rule, without a server, and what its moderator (a Recorder) was asked."""
    sent = {"content_length": str(len(body)), **headers} if body else headers
    raw = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in sent.items())
    screen = Screen(rules=[rule], moderator=Recorder())
    asked: list[Text | Image] = []

    def perform(step: Step) -> Answer:
        if isinstance(step, ReadBody):
            return body
        if isinstance(step, Moderate):
            asked.extend(step.items)
        return screen.perform_sync(step)

    method, path = rule.match.split()
    head = Head(method, path, query=query, headers=raw, has_body=bool(body))
    return drive_sync(screen.request_flow(screen.rules.find(head), head), perform), asked


def values(items: Iterable[Text | Image]) -> list[str]:
    return [item.value if isinstance(item, Text) else item.url for item in items]


def call(app: Any, given: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    """Call a WSGI app as a server does; status, headers and body of its answer."""
    started: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        started[:] = [int(status[:3]), {name.lower(): value for name, value in headers}]
        return lambda data: None

    answer = app(given, start_response)
    try:
        body = b"".join(answer)
    finally:
        if hasattr(answer, "close"):
            answer.close()
    return started[0], started[1], body
