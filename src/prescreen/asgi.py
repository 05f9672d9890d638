"""ASGI: the middleware for FastAPI, Starlette, Django, Quart, Litestar and any other ASGI app.

What it may not do: let a byte of an answer out before the decision, change one of the body, invent or swallow a
disconnect, touch a request that no rule is about, cancel a pending `receive` and go on.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final, Unpack

from anyio import move_on_after

from prescreen.current import SCREENED_KEY, Passage, is_left_over, mark, passing, told, unscreened
from prescreen.deadline import Late, within
from prescreen.drive import Perform, drive
from prescreen.errors import ClientGone, ConfigError, Incomplete, Oversize, Slow
from prescreen.headers import name_of
from prescreen.loops import turn
from prescreen.mark import Screened, is_screened
from prescreen.match import announces_body, choose
from prescreen.model import Decision, Head, Mode
from prescreen.overlap import Overlap
from prescreen.routes import announce
from prescreen.rule import Rule
from prescreen.screen import Screen, ScreenOptions, screen_from
from prescreen.steps import Answer, ReadBody, Step

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

logger: Final = logging.getLogger("prescreen")

_REQUESTS: Final = ("http", "websocket")
_SEQUENCES: Final = (list, tuple)
_PAIR: Final = frozenset({tuple})
_BYTES: Final = frozenset({bytes})
_TWO: Final = frozenset({2})
_DRAIN_BYTES: Final = 4 << 20
_DRAIN_SECONDS: Final = 5.0


class ModerationMiddleware:
    """Screens each request that a rule is about before `app` is called.

    Takes a Screen, or what a Screen is made of: `config` (a TOML file) and the keyword arguments of
    `Screen`. Raises ConfigError; a Screen made beforehand raises it where you make it, while
    `app.add_middleware` makes its middleware only when the server starts. Put it inside CORS, and
    inside authentication where that decides who the user is.
    """

    def __init__(
        self,
        app: App,
        screen: Screen | None = None,
        *,
        config: str | Path | None = None,
        **options: Unpack[ScreenOptions],
    ) -> None:
        self.app: Final = app
        try:
            self.screen: Final = screen_from(screen, config, options)
        except ConfigError as error:
            # Frameworks build their middleware late, where servers may swallow what it raises.
            logger.critical("prescreen cannot work as configured: %s", error)
            raise
        self._is_off: Final = self.screen.settings.mode is Mode.OFF
        self._is_announced = False
        self._on_path: Final = self.screen.rules.on_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in _REQUESTS:
            if scope["type"] == "lifespan" and not self._is_announced:
                self._is_announced = True
                announce(self.screen.rules, scope.get("app", self.app))
            return await self.app(scope, receive, send)
        if is_left_over(scope):
            with passing(None):
                return await self(scope, receive, send)
        rules = self._on_path(scope["path"], scope.get("root_path", ""))
        if not rules:
            if not self._is_off:
                return await self.app(scope, receive, send)
            with passing(unscreened()):
                return await self.app(scope, receive, send)
        return await self._screen(rules, scope, receive, send)

    async def _screen(self, on_path: tuple[Rule, ...], scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        head = _head(scope, headers)
        rules = choose(on_path, head)
        if not rules or is_screened(scope.get(SCREENED_KEY), self.screen, rules, head, receive):
            return await self.app(scope, receive, send)
        if head.is_websocket:
            return await self._handshake(rules, head, scope, receive, send)
        # What is decided on is what goes downstream; a server may add trailers to its own list.
        scope["headers"] = headers
        incoming = _Incoming(receive, head, self.screen.perform)
        try:
            if self.screen.overlaps(rules):
                return await self._screen_meanwhile(rules, incoming, scope, send)
            decision = await drive(self.screen.request_flow(rules, head), incoming.perform)
            if decision.is_rejected:
                return await self._reject(scope, incoming, send, decision)
        except ClientGone:
            if not incoming.is_gone:
                raise  # the app's own, which ran meanwhile
            # Nobody is left to answer, and half a request is not the app's business.
            if self.screen.plan.mode is Mode.MONITOR:
                await self.app(scope, *incoming.handed_on(send))
            return None
        return await self._hand_on(rules, Passage(decision.subject, decision), incoming, scope, send)

    async def _screen_meanwhile(self, rules: tuple[Rule, ...], incoming: _Incoming, scope: Scope, send: Send) -> None:
        """Screen the body while the handler runs."""
        flow, passage = self.screen.request_flow(rules, incoming.head), Passage(self.screen.subject_of(incoming.head))
        app = partial(self._hand_on, rules, passage, incoming, scope)
        reject = partial(self._reject, scope, incoming, send)
        return await Overlap(passage, send).run(flow, incoming.perform, app, reject)

    async def _hand_on(
        self, rules: tuple[Rule, ...], passage: Passage, incoming: _Incoming, scope: Scope, send: Send
    ) -> None:
        """Call the app with the very body that was screened."""
        replay, watched = incoming.handed_on(send)
        mark(scope, passage)
        scope[SCREENED_KEY] = Screened(self.screen, rules, told(incoming.head), replay)
        try:
            with passing(passage):
                return await self.app(scope, replay, watched)
        finally:
            scope[SCREENED_KEY] = None  # it holds what the app received from, and that holds the scope

    async def _handshake(self, rules: tuple[Rule, ...], head: Head, scope: Scope, receive: Receive, send: Send) -> None:
        """A WebSocket: its messages cannot be screened, so `on_unreadable` decides whether it may be opened."""
        decision = await drive(self.screen.request_flow(rules, head), self.screen.perform)
        passage = Passage(decision.subject, decision)
        mark(scope, passage)
        scope[SCREENED_KEY] = Screened(self.screen, rules, told(head), receive)
        if not decision.is_rejected:
            with passing(passage):
                return await self.app(scope, receive, send)
        await receive()  # websocket.connect; only then may it be answered
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            return await send({"type": "websocket.close", "code": 1008})
        return await self._answer(decision, head, send, "websocket.http.response", [])

    async def _reject(self, scope: Scope, incoming: _Incoming, send: Send, decision: Decision) -> None:
        head = incoming.head
        # A client that waits for "100 Continue" has sent nothing yet: refuse it without an upload.
        is_clean = incoming.is_complete or (not head.all(b"expect") and await incoming.drain())
        is_last = not is_clean and scope.get("http_version", "1.1").startswith("1")
        await self._answer(decision, head, send, "http.response", [(b"connection", b"close")] if is_last else [])

    async def _answer(
        self, decision: Decision, head: Head, send: Send, event: str, extra: Sequence[tuple[bytes, bytes]]
    ) -> None:
        rejection = self.screen.rejection(decision, b",".join(head.all(b"accept")).decode("latin-1"))
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in rejection.headers.items()]
        body = b"" if head.method == "HEAD" else rejection.body
        await send({"type": f"{event}.start", "status": rejection.status, "headers": [*headers, *extra]})
        await send({"type": f"{event}.body", "body": body, "more_body": False})


class _Incoming:
    """A request's body: read by us once, handed on to the app once, then left to the server."""

    __slots__ = ("_body", "_declared", "_pending", "_perform", "_receive", "head", "is_complete", "is_gone")

    def __init__(self, receive: Receive, head: Head, perform: Perform) -> None:
        self.head: Final = head
        self.is_complete = False
        self._receive, self._perform = receive, perform
        self._declared = head.declared_length
        self._body = io.BytesIO()  # gives its bytes away without another copy
        self._pending: Event | None = None
        self.is_gone = False

    def perform(self, step: Step) -> Answer | Awaitable[Answer]:
        """Perform any step of the flow that screens this request."""
        return self.read(step) if isinstance(step, ReadBody) else self._perform(step)

    async def read(self, step: ReadBody) -> bytes:
        """The whole body. Raises Oversize, Slow, Incomplete, ClientGone."""
        try:
            await within(step.timeout, self._take(step.limit))
        except Late:
            raise Slow(f"the body did not arrive within {step.timeout:g} seconds") from None
        if self._declared not in (None, self._body.tell()):
            raise Incomplete(f"the body is {self._body.tell()} bytes long, not {self._declared} as declared")
        return self._body.getvalue()

    async def _take(self, limit: int) -> None:
        while not self.is_complete:
            self._body.write(await self._next())
            if self._body.tell() > limit:
                raise Oversize(f"the body is over the limit of {limit} bytes")

    async def drain(self) -> bool:
        """Take in the rest, within bounds, so that the client gets to read our answer; whether all came."""
        drained = 0
        with move_on_after(_DRAIN_SECONDS):
            while not self.is_complete and drained < _DRAIN_BYTES:
                drained += len(await self._next())
        return self.is_complete

    def handed_on(self, send: Send) -> tuple[Receive, Send]:
        """The app's `receive` and `send`; the server's own where nothing has been read."""
        if not (self._body.tell() or self.is_complete or self.is_gone):
            return self._receive, send
        body, self._body = self._body.getvalue(), io.BytesIO()
        self._pending = {"type": "http.request", "body": body, "more_body": not self.is_complete}

        async def receive() -> Event:
            if self._pending is not None:
                await turn()  # callers poll from inside a cancelled scope; give them nothing that they would drop
            event, self._pending = self._pending, None
            if event is not None:
                return event
            return {"type": "http.disconnect"} if self.is_gone else await self._receive()

        async def watch(event: Event) -> None:
            if event["type"] == "http.response.body" and not event.get("more_body"):
                self._pending = None  # a response is complete: from now on the server's word counts
            await send(event)

        return receive, watch

    async def _next(self) -> bytes:
        event = await self._receive()
        if event["type"] == "http.disconnect":
            self.is_gone = True  # some servers say so only once
            raise ClientGone
        self.is_complete = not event.get("more_body", False)
        return event.get("body") or b""


def _headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """A copy of the request's headers; the specification asks only for iterables, which may be empty when they are read again."""
    given = scope.get("headers", ())
    if (
        type(given) is list
        and _PAIR.issuperset(map(type, given))
        and _TWO.issuperset(map(len, given))
        and _BYTES.issuperset(map(type, chain(*given)))
    ):
        return given.copy()
    if not isinstance(given, _SEQUENCES) or not all(issubclass(kind, _SEQUENCES) for kind in set(map(type, given))):
        given = scope["headers"] = [tuple(pair) for pair in given]
    return [(bytes(name), bytes(value)) for name, value in given]


def _client(scope: Scope) -> str | None:
    """The address of whoever holds the connection; the specification asks only for an iterable."""
    client = scope.get("client")
    if client is not None and not isinstance(client, _SEQUENCES):
        client = scope["client"] = tuple(client)  # else it would be empty for the app
    return client[0] if client else None


def _head(scope: Scope, given: Sequence[tuple[bytes, bytes]]) -> Head:
    headers = tuple(given)
    if not all(map(bytes.islower, map(name_of, headers))):  # they should be, but not every server sees to it
        headers = tuple([(name.lower(), value) for name, value in headers])
    query = scope.get("query_string", b"")
    return Head(
        method=scope.get("method", "GET"),
        path=scope["path"],
        root_path=scope.get("root_path", ""),
        query=query.encode("latin-1", "replace") if isinstance(query, str) else query,
        headers=headers,
        # HTTP/2 and later need no header to announce a body.
        has_body=announces_body(headers)
        or (scope["type"] == "http" and not scope.get("http_version", "1.1").startswith("1")),
        has_coded_slash=b"%2f" in (scope.get("raw_path") or b"").lower(),
        is_websocket=scope["type"] == "websocket",
        client=_client(scope),
        state=scope,
    )
