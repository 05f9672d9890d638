"""A request through the real middlewares: what does the app behind them read?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from fuzz.case import Case
from prescreen import Screen
from prescreen.asgi import Event
from prescreen.asgi import ModerationMiddleware as AsgiMiddleware
from prescreen.wsgi import ModerationMiddleware as WsgiMiddleware


async def through_asgi(screen: Screen, case: Case) -> bytes | None:
    """The body that the app reads, sent to it in pieces; None where it is not called."""
    read: list[bytes] = []
    called = False

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal called
        called = True
        more = True
        while more:
            event = await receive()
            read.append(event.get("body", b""))
            more = event.get("more_body", False)

    events = _pieces(case)

    async def receive() -> Event:
        return next(events)

    async def send(_event: Event) -> None:
        """Whatever the answer is."""

    await AsgiMiddleware(app, screen)(case.scope(), receive, send)
    return b"".join(read) if called else None


def _pieces(case: Case) -> Iterator[Event]:
    size = 1 + case.turn // 16 % 61
    for start in range(0, len(case.body), size):
        yield {"type": "http.request", "body": case.body[start : start + size], "more_body": True}
    yield {"type": "http.request", "body": b"", "more_body": False}


def through_wsgi(screen: Screen, case: Case) -> bytes | None:
    """The body that the app reads; None where it is not called."""
    read: list[bytes] = []

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        read.append(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        return []

    def start_response(*_arguments: object) -> Any:
        """Whatever the answer is."""

    list(WsgiMiddleware(app, screen)(case.environ(), start_response))
    return read[0] if read else None
