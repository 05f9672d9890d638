"""What real servers serve in the tests: apps of many habits behind the middleware, ruled and unruled.

Every route is there twice: below /ruled a rule is about it, below /free none is.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import anyio

from doubles import Recorder
from prescreen import Rule, Screen
from prescreen.asgi import ModerationMiddleware as AsgiMiddleware
from prescreen.asgi import Receive, Scope, Send
from prescreen.wsgi import ModerationMiddleware as WsgiMiddleware

SCREEN: Final = Screen(
    rules=[Rule("* /ruled/{rest:path}", json=["$.message"], form=["message"], max_body="16MiB")],
    moderator=Recorder(),
)
STATE: Final[dict[str, Any]] = {}
"""What has happened so far; /free/state tells it."""
LEAVE: Final[list[anyio.Event]] = []
"""Given by /free/go to the newest piece of a stream, to go on to the next."""
SOURCE: Final = Path(__file__).resolve()
CONTENT: Final = SOURCE.read_bytes()
OUTER: Final = ContextVar("OUTER", default="unset")
INNER: Final = ContextVar("INNER", default="unset")


class AppError(Exception):
    """Raised by the app on purpose."""


# ASGI


async def body_of(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event.get("body", b""), event.get("more_body", False)
    return body


async def respond(send: Send, body: bytes, kind: bytes = b"application/json") -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = await body_of(receive)
    await respond(send, json.dumps({"length": len(body), "sha256": sha256(body).hexdigest()}).encode())


async def state(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send, json.dumps(STATE).encode())


async def forget(scope: Scope, receive: Receive, send: Send) -> None:
    STATE.clear()
    await respond(send, b"{}")


async def stream(scope: Scope, receive: Receive, send: Send) -> None:
    """The client reads each piece before the next is made: it says so by asking for `go`."""
    await body_of(receive)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(1, 4):
        LEAVE.append(anyio.Event())
        await send({"type": "http.response.body", "body": b"piece %d\n" % number, "more_body": True})
        with anyio.fail_after(10):
            await LEAVE[-1].wait()
    await send({"type": "http.response.body", "body": b""})


async def go(scope: Scope, receive: Receive, send: Send) -> None:
    LEAVE[-1].set()
    await respond(send, b"{}")


async def events(scope: Scope, receive: Receive, send: Send) -> None:
    """Server-sent events until the client leaves, noticed by listening and not by sending."""
    await body_of(receive)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": b"data: hello\n\n", "more_body": True})
    STATE["left"] = (await receive())["type"]


async def background(scope: Scope, receive: Receive, send: Send) -> None:
    await body_of(receive)
    await respond(send, b"{}")
    STATE["background"] = "begun"
    await anyio.sleep(0.05)
    STATE["background"] = "finished"


async def listen(scope: Scope, receive: Receive, send: Send) -> None:
    """Whether anything comes after the body while the client is there and waits."""
    await body_of(receive)
    came: list[str] = []

    async def wait() -> None:
        came.append((await receive())["type"])

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(0.1)
        await respond(send, json.dumps(came).encode())


async def context(scope: Scope, receive: Receive, send: Send) -> None:
    await body_of(receive)
    INNER.set("set by the app")
    await respond(send, json.dumps(OUTER.get()).encode())


async def fail(scope: Scope, receive: Receive, send: Send) -> None:
    """The answer is the server's."""
    await body_of(receive)
    raise AppError("on purpose")


async def extended(scope: Scope, receive: Receive, send: Send) -> None:
    """Uses the extensions that the tests use, where the server announces them."""
    await body_of(receive)
    announced = scope.get("extensions") or {}
    if "http.response.early_hint" in announced:
        await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]})
    has_trailers = "http.response.trailers" in announced
    headers = [(b"x-announced", ",".join(sorted(announced)).encode()), (b"trailer", b"x-sum")]
    await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": has_trailers})
    if "http.response.pathsend" in announced:
        await send({"type": "http.response.pathsend", "path": str(SOURCE)})
    else:
        await send({"type": "http.response.body", "body": CONTENT})
    if has_trailers:
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"of it all")], "more_trailers": False})


ROUTES: Final[Mapping[str, Callable[[Scope, Receive, Send], Awaitable[None]]]] = {
    each.__name__: each
    for each in (echo, state, forget, stream, go, events, background, listen, context, fail, extended)
}


async def _routes(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        while True:
            event = await receive()
            await send({"type": f"{event['type']}.complete"})
            if event["type"] == "lifespan.shutdown":
                return None
    if scope["type"] == "websocket":
        return await _echo_messages(receive, send)
    return await ROUTES[scope["path"].rpartition("/")[2]](scope, receive, send)


async def _echo_messages(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})


async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
    """Outside of the middleware: sets a context variable before, looks at another one and at errors after."""
    OUTER.set("set outside")
    try:
        await _screened(scope, receive, send)
    except AppError as error:
        STATE.setdefault("raised", []).append(type(error).__name__)
        raise
    if scope.get("path", "").endswith("/context"):
        STATE["inner"] = INNER.get()


_screened: Final = AsgiMiddleware(_routes, SCREEN)


# WSGI


def _read(environ: dict[str, Any]) -> bytes:
    if environ.get("wsgi.input_terminated"):
        return bytes(environ["wsgi.input"].read())
    return bytes(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))


def _answer(environ: dict[str, Any]) -> object:
    body = _read(environ)
    route = environ["PATH_INFO"].rpartition("/")[2]
    if route == "fail":
        raise AppError("on purpose")
    if route == "context":
        INNER.set("set by the app")
        return OUTER.get()
    if route == "forget":
        STATE.clear()
    return STATE if route in ("state", "forget") else {"length": len(body), "sha256": sha256(body).hexdigest()}


class Endless:
    """An answer without end, closed by the server when the client has gone."""

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield b"data: hello\n\n" * 1000

    def close(self) -> None:
        STATE["left"] = "closed"


def _wsgi_routes(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    if environ["PATH_INFO"].endswith("/events"):
        _read(environ)
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return Endless()
    if environ["PATH_INFO"].endswith("/write"):
        _read(environ)
        write = start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "11")])
        write(b"written ")
        return [b"and"]
    answer = json.dumps(_answer(environ)).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else answer]


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """The same on WSGI."""
    OUTER.set("set outside")
    try:
        answer = _screened_wsgi(environ, start_response)
    except AppError as error:
        STATE.setdefault("raised", []).append(type(error).__name__)
        raise
    if environ["PATH_INFO"].endswith("/context"):
        STATE["inner"] = INNER.get()
    return answer


_screened_wsgi: Final = WsgiMiddleware(_wsgi_routes, SCREEN)
