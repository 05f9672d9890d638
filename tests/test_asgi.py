"""The ASGI adapter, by its protocol: what the app gets, what the client gets, and in which order."""

from __future__ import annotations

import contextvars
import copy
import gc
import json
import threading
import tracemalloc
import weakref
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from asgiref.wsgi import WsgiToAsgi
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doubles import BAD, JSON, Client, Recorder, byte_by_byte, scope, whole
from prescreen import Action, Cause, ConfigError, Decision, Head, Rejection, Rule, Screen, decision_of
from prescreen.asgi import App, Event, ModerationMiddleware, Receive, Scope, Send
from prescreen.model import DECISION_KEY
from prescreen.paths import Places

pytestmark = pytest.mark.anyio

CHAT = Rule("POST /chat", json=["$.message"])
OK: list[Event] = [
    {"type": "http.response.start", "status": 200, "headers": []},
    {"type": "http.response.body", "body": b"ok"},
]


class App200:
    """Reads the whole body, keeps what it saw, answers 200."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.bodies: list[bytes] = []
        self.events: list[Event] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        body, more = b"", True
        while more:
            event = await receive()
            self.events.append(event)
            body, more = body + event.get("body", b""), event.get("more_body", False)
        self.bodies.append(body)
        for event in OK:
            await send(event)


def build(app: App | None = None, moderator: Any = None, **options: Any) -> tuple[ModerationMiddleware, Any, Recorder]:
    app, moderator = app or App200(), moderator or Recorder()
    options = {"rules": [CHAT]} | options
    return ModerationMiddleware(app, moderator=moderator, **options), app, moderator


def message(text: object) -> bytes:
    return json.dumps({"message": text}).encode()


# What passes


@pytest.mark.parametrize("feed", [whole, byte_by_byte])
async def test_a_clean_request_reaches_the_app_unchanged(feed: Callable[[bytes], list[Event]]) -> None:
    middleware, app, moderator = build()
    body = b' {"message":  "caf\\u00e9", "n": 1.0e2 }\n'
    assert await Client(feed(body)).request(middleware) == 200
    assert moderator.seen == ["café"]
    assert app.bodies == [body]
    assert type(app.events[0]["body"]) is bytes
    assert app.events[0]["more_body"] is False


async def test_the_decision_is_in_the_scope_under_its_own_key() -> None:
    middleware, app, _ = build()
    await Client(whole(message("hi"))).request(middleware, state={})
    (seen,) = app.scopes
    decision = decision_of(seen)
    assert isinstance(decision, Decision)
    assert (decision.action, decision.rule) == (Action.ALLOW, "POST /chat")
    assert set(seen) - set(scope(state={})) == {DECISION_KEY, "prescreen.screened"}


async def test_the_app_gets_the_servers_own_scope_object() -> None:
    middleware, app, _ = build()
    given, client = scope(), Client(whole(message("hi")))
    await middleware(given, client.receive, client.send)
    assert app.scopes[0] is given


@pytest.mark.parametrize(
    "parts",
    [{"path": "/other"}, {"method": "GET"}, {"path": "/chat/deeper"}],
    ids=str,
)
async def test_a_request_without_a_rule_goes_on_with_the_same_objects(parts: dict[str, Any]) -> None:
    got: list[Any] = []

    async def app(*args: Any) -> None:
        got.extend(args)

    middleware, _, moderator = build(app)
    headers: list[Any] = [JSON]
    given, client = scope(headers=headers, **parts), Client([])
    await middleware(given, client.receive, client.send)
    assert got[0] is given
    assert got[0]["headers"] is headers
    assert got[1:] == [client.receive, client.send]
    assert DECISION_KEY not in given
    assert moderator.calls == []


@pytest.mark.parametrize(
    "given",
    [{"type": "lifespan"}, {"type": "websocket", "path": "/other"}, {"type": "something.new", "path": "/chat"}],
    ids=lambda given: given["type"],
)
async def test_other_scopes_go_on_untouched(given: dict[str, Any]) -> None:
    got: list[Any] = []

    async def app(*args: Any) -> None:
        got.extend(args)

    middleware, _, _ = build(app)
    client, before = Client([]), dict(given)
    await middleware(given, client.receive, client.send)
    assert got == [given, client.receive, client.send]
    assert given == before


async def test_headers_that_can_be_read_once_still_reach_the_app() -> None:
    middleware, app, moderator = build()
    await Client(whole(message("hi"))).request(middleware, headers=iter([JSON, (b"X-Case", b"Kept")]))
    assert app.scopes[0]["headers"] == [JSON, (b"X-Case", b"Kept")]
    assert moderator.seen == ["hi"]
    await Client([{"type": "http.request"}]).request(middleware, method="GET", headers=iter([(b"a", b"b")]))
    assert app.scopes[1]["headers"] == [(b"a", b"b")]


async def test_a_header_that_is_no_pair_is_an_error_before_anybody_is_asked() -> None:
    middleware, app, moderator = build()
    with pytest.raises(ValueError, match="unpack"):
        await Client(whole(b'{"message": "hello"}')).request(middleware, headers=[(b"x-a", b"b", b"c")])
    assert not app.scopes
    assert not moderator.seen


async def test_an_answer_goes_out_at_once_where_the_server_takes_it_at_once() -> None:
    class Prompt(Client):
        async def send(self, event: Event) -> None:
            self.sent.append(event)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        with anyio.CancelScope() as given_up:
            given_up.cancel()
            for event in OK:
                await send(event)  # an app may still say that it has given up

    client = Prompt(whole(b'{"message": "hello"}'))
    assert await client.request(build(app)[0]) == 200
    assert client.body == b"ok"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_bridge_to_blocking_code_knows_what_it_is_given_as_awaited() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["wsgi.input"].read()]

    client, bridge = Client(whole(b'{"message": "hello"}')), WsgiToAsgi(app)  # type: ignore[no-untyped-call]  # as it comes
    assert await client.request(build(bridge)[0]) == 200  # without a warning, which would be an error here
    assert client.body == b'{"message": "hello"}'


async def test_header_pairs_that_can_be_read_once_still_reach_the_app() -> None:
    middleware, app, moderator = build()
    await Client(whole(message("hi"))).request(middleware, headers=iter([iter(JSON)]))
    assert app.scopes[0]["headers"] == [JSON]
    assert moderator.seen == ["hi"]
    await Client([{"type": "http.request"}]).request(middleware, method="GET", headers=[iter([b"a", b"b"])])
    assert app.scopes[1]["headers"] == [(b"a", b"b")]


async def test_a_scope_with_the_least_in_it_is_screened() -> None:
    middleware, app, moderator = build(rules=[Rule("GET /chat", query=["q"])])
    given: dict[str, Any] = {"type": "http", "method": "GET", "path": "/chat", "query_string": "q=hi"}
    client = Client([{"type": "http.request"}])
    await middleware(given, client.receive, client.send)
    assert moderator.seen == ["hi"]
    assert len(app.scopes) == 1


async def test_headers_added_while_the_body_is_read_do_not_reach_the_app() -> None:
    live: list[Any] = [JSON]

    class Trailing(Client):
        async def receive(self) -> Event:
            live.append((b"content-type", b"text/plain"))
            return await super().receive()

    middleware, app, _ = build()
    assert await Trailing(whole(message("hi"))).request(middleware, headers=live) == 200
    assert app.scopes[0]["headers"] == [JSON]


async def test_the_app_runs_in_the_callers_task_and_context() -> None:
    outer = contextvars.ContextVar("outer", default="unset")
    inner = contextvars.ContextVar("inner", default="unset")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert outer.get() == "set before"
        inner.set("set inside")

    middleware, _, _ = build(app)
    outer.set("set before")
    await Client(whole(message("hi"))).request(middleware)
    assert inner.get() == "set inside"


async def test_an_error_of_the_app_is_the_callers_very_error() -> None:
    class Odd(Exception):
        pass

    error = Odd()

    async def app(*_: Any) -> None:
        raise error

    middleware, _, _ = build(app)
    with pytest.raises(Odd) as caught:
        await Client(whole(message("hi"))).request(middleware)
    assert caught.value is error


async def test_every_event_of_the_answer_goes_out_unchanged() -> None:
    answer: list[Event] = [
        {"type": "http.response.start", "status": 200, "headers": [], "trailers": True},
        {"type": "http.response.body", "body": b"1", "more_body": True},
        {"type": "http.response.something_new", "x": 1},
        {"type": "http.response.body", "body": b"2"},
        {"type": "http.response.trailers", "headers": []},
    ]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for event in answer:
            await send(event)

    middleware, _, _ = build(app)
    client = Client(whole(message("hi")))
    await client.request(middleware)
    assert all(sent is given for sent, given in zip(client.sent, answer, strict=True))


# After the body


async def test_after_the_body_the_app_waits_for_the_servers_own_disconnect() -> None:
    order: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        order.append((await receive())["type"])
        with anyio.move_on_after(0.02):
            await receive()
            order.append("an event that nobody sent")
        gone.set()
        order.append((await receive())["type"])
        order.append((await receive())["type"])

    gone = anyio.Event()

    class Leaving(Client):
        async def receive(self) -> Event:
            if self.received == len(self.events):
                await gone.wait()
                return {"type": "http.disconnect"}
            return await super().receive()

    middleware, _, _ = build(app)
    await Leaving(whole(message("hi"))).request(middleware)
    assert order == ["http.request", "http.disconnect", "http.disconnect"]


async def test_a_poll_from_a_cancelled_scope_does_not_eat_the_body() -> None:
    got: list[Event] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with anyio.CancelScope() as poll:
            poll.cancel()
            got.append(await receive())
        assert got == []
        got.append(await receive())

    middleware, _, _ = build(app)
    await Client(whole(message("hi"))).request(middleware)
    assert got[0]["body"] == message("hi")


async def test_once_the_answer_is_complete_the_servers_word_counts() -> None:
    got: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for event in OK:
            await send(event)
        got.append((await receive())["type"])

    middleware, _, _ = build(app)
    await Client([*whole(message("hi")), {"type": "http.disconnect"}]).request(middleware)
    assert got == ["http.disconnect"]


class Watchable(dict[str, Any]):
    """A scope to which there may be weak references."""


class Holding(Client):
    """A server's part of a request, which holds its scope, as most do."""

    scope: Scope


async def test_a_request_that_is_over_leaves_nothing_to_the_garbage_collector() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(OK[0])

    middleware, _, _ = build(app)
    server = Holding(whole(message("hi")))
    server.scope = Watchable(scope())
    alive = weakref.ref(server.scope)
    gc.disable()
    try:
        await middleware(server.scope, server.receive, server.send)
        del server
        assert alive() is None
    finally:
        gc.enable()


# What is rejected


@pytest.mark.parametrize("feed", [whole, byte_by_byte])
async def test_a_flagged_request_never_reaches_the_app(feed: Callable[[bytes], list[Event]]) -> None:
    middleware, app, _ = build()
    client = Client(feed(message(f"so {BAD} there")))
    assert await client.request(middleware) == 400
    assert app.scopes == []
    assert client.headers[b"content-type"] == b"application/problem+json"
    assert client.headers[b"content-length"] == str(len(client.body)).encode()
    problem = json.loads(client.body)
    assert problem["categories"] == [{"category": "violence", "words": "violence", "pointer": "/message"}]


async def test_the_moderator_has_answered_before_the_app_starts() -> None:
    order: list[str] = []

    async def slow(items: Any) -> Any:
        await anyio.sleep(0.01)
        order.append("verdict")
        return await Recorder().moderate(items)

    async def app(*_: Any) -> None:
        order.append("app")

    middleware, _, _ = build(app, slow)
    await Client(whole(message("hi"))).request(middleware)
    assert order == ["verdict", "app"]


async def test_a_head_request_is_rejected_without_a_body() -> None:
    middleware, _, _ = build(rules=[Rule("GET /search", query=["q"])])
    client = Client([{"type": "http.request"}])
    status = await client.request(
        middleware, method="HEAD", path="/search", headers=[], query_string=b"q=" + BAD.encode()
    )
    assert (status, client.body) == (400, b"")
    assert int(client.headers[b"content-length"]) > 0


async def test_the_accept_header_chooses_the_form_of_the_rejection() -> None:
    from prescreen import Rejections

    middleware, _, _ = build(rejection=Rejections(format="negotiate"))
    client = Client(whole(message(BAD)))
    await client.request(middleware, headers=[JSON, (b"accept", b"text/html")])
    assert client.headers[b"content-type"].startswith(b"text/html")


async def test_a_callable_makes_the_whole_rejection() -> None:
    def teapot(decision: Decision) -> Rejection:
        return Rejection(418, {"content-type": "text/plain"}, ",".join(decision.categories).encode())

    middleware, _, _ = build(rejection=teapot)
    client = Client(whole(message(BAD)))
    assert await client.request(middleware) == 418
    assert client.body == b"violence"


@pytest.mark.parametrize(
    "broken",
    [
        lambda _: 1 / 0,
        lambda _: "no Rejection",
        lambda _: Rejection(400, {}, "no bytes"),  # type: ignore[arg-type]
        lambda _: Rejection(42, {}, b""),
        lambda _: Rejection(400, {"x-words": "one\r\ntwo: three"}, b""),
        lambda _: Rejection(400, {"x-words": "\u2603"}, b""),
        lambda _: Rejection(400, {"\u2603": "x"}, b""),
        lambda _: Rejection(400, {"x": 1}, b""),  # type: ignore[dict-item]
        lambda _: Rejection(400, [("x", "y")], b""),  # type: ignore[arg-type]
    ],
    ids=["raises", "odd", "no bytes", "no status", "line end", "not latin-1", "odd name", "number", "list"],
)
async def test_a_broken_rejection_callable_still_rejects(broken: Any, caplog: pytest.LogCaptureFixture) -> None:
    middleware, app, _ = build(rejection=broken)
    assert await Client(whole(message(BAD))).request(middleware) == 400
    assert app.scopes == []
    assert "the configured rejection failed" in caplog.text
    assert "one" not in caplog.text.replace("default one", "")


# What cannot be screened


async def test_a_client_that_leaves_while_sending_reaches_neither_moderator_nor_app() -> None:
    middleware, app, moderator = build()
    events: list[Event] = [
        {"type": "http.request", "body": b'{"message":', "more_body": True},
        {"type": "http.disconnect"},
    ]
    client = Client(events)
    assert await client.request(middleware) is None
    assert (client.sent, app.scopes, moderator.calls) == ([], [], [])


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"message": "hi"', [JSON], 400),
        (b'{"message": "a", "message": "b"}', [JSON], 400),
        (b'{"message": "hi"}', [(b"content-type", b"text/xml")], 415),
        (b'{"message": "hi"}', [], 415),
        (b'{"message": "hi"}', [JSON, (b"content-encoding", b"gzip")], 415),
        (b'{"message": "hi"}', [JSON, (b"content-length", b"4")], 400),
        (b'{"message": "hi"}', [JSON, (b"content-length", b"200")], 400),
        (b'{"message": "hi"}', [JSON, (b"content-length", b"1_7")], 400),
        (b'{"message": "hi"}', [JSON, (b"content-length", b"17"), (b"content-length", b"17")], 400),
        (b'{"message": "' + b"x" * 300 + b'"}', [JSON], 413),
    ],
)
async def test_what_cannot_be_screened_is_refused_by_default(body: bytes, headers: list[Any], status: int) -> None:
    middleware, app, moderator = build(limits={"body": 256})
    client = Client(whole(body))
    assert await client.request(middleware, headers=headers) == status
    assert (app.scopes, moderator.calls) == ([], [])
    assert json.loads(client.body)["status"] == status


async def test_on_unreadable_allow_hands_the_same_bytes_on_and_says_so() -> None:
    middleware, app, moderator = build(rules=[Rule("POST /chat", json=["$.message"], on_unreadable="allow")])
    assert await Client(byte_by_byte(b'{"message": ')).request(middleware) == 200
    decision = decision_of(app.scopes[0])
    assert app.bodies == [b'{"message": ']
    assert moderator.calls == []
    assert decision is not None
    assert (decision.degraded, decision.cause) == (True, Cause.UNREADABLE)


async def test_what_the_head_alone_decides_is_handed_on_unread() -> None:
    got: list[Any] = []

    async def app(*args: Any) -> None:
        got.extend(args)

    middleware, _, _ = build(app, rules=[Rule("POST /chat", json=["$.message"], on_unreadable=Action.ALLOW)])
    client = Client([])
    await client.request(middleware, headers=[(b"content-type", b"image/png"), (b"content-length", b"99")])
    assert got[1:] == [client.receive, client.send]


async def test_on_oversize_allow_streams_the_rest_to_the_app() -> None:
    middleware, app, _ = build(rules=[Rule("POST /chat", json=["$.message"], on_oversize="allow", max_body=10)])
    body = message("a text that is longer than ten bytes")
    assert await Client(byte_by_byte(body)).request(middleware) == 200
    assert app.bodies == [body]
    assert [event.get("more_body", False) for event in app.events][-2:] == [True, False]


async def test_a_declared_size_over_the_limit_is_refused_before_the_upload() -> None:
    middleware, _, _ = build(limits={"body": 10})
    client = Client([])
    headers = [JSON, (b"content-length", b"1000"), (b"expect", b"100-continue")]
    assert await client.request(middleware, headers=headers) == 413
    assert client.received == 0
    assert client.headers[b"connection"] == b"close"


async def test_a_refused_upload_is_taken_in_so_that_the_client_reads_the_answer() -> None:
    middleware, _, _ = build(limits={"body": 10})
    client = Client(byte_by_byte(b"x" * 100))
    assert await client.request(middleware, headers=[JSON, (b"content-length", b"100")]) == 413
    assert client.received == 101
    assert b"connection" not in client.headers


async def test_a_refused_upload_without_end_is_cut_off() -> None:
    class Endless(Client):
        async def receive(self) -> Event:
            self.received += 1
            return {"type": "http.request", "body": b"x" * 65536, "more_body": True}

    middleware, _, _ = build(limits={"body": 10})
    client = Endless([])
    assert await client.request(middleware) == 413
    assert client.headers[b"connection"] == b"close"
    assert client.received < 100


async def test_a_client_that_leaves_while_refused_gets_no_answer() -> None:
    middleware, _, _ = build(limits={"body": 10})
    client = Client([{"type": "http.request", "body": b"x" * 20, "more_body": True}, {"type": "http.disconnect"}])
    assert await client.request(middleware) is None


@pytest.mark.parametrize("events", [[], [{"type": "http.request", "body": b"{", "more_body": True}]])
async def test_a_body_that_does_not_arrive_in_time_is_refused(events: list[Event]) -> None:
    middleware, app, _ = build(receive_timeout="50ms")
    assert await Client(events).request(middleware, headers=[JSON, (b"expect", b"100-continue")]) == 408
    assert app.scopes == []


async def test_a_body_that_drips_is_refused_when_the_time_is_up() -> None:
    middleware, app, _ = build(receive_timeout="50ms")

    async def receive() -> Event:
        await anyio.sleep(0.005)
        return {"type": "http.request", "body": b" ", "more_body": True}

    client = Client([])
    with anyio.fail_after(10):
        await middleware(scope(headers=[JSON, (b"expect", b"100-continue")]), receive, client.send)
    assert client.status == 408
    assert app.scopes == []


async def test_a_body_that_waits_inside_a_scope_of_the_servers_own_arrives_all_the_same() -> None:
    middleware, app, _ = build()
    events = byte_by_byte(message("hi"))

    async def receive() -> Event:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, 0)
            return events.pop(0)

    client = Client([])
    await middleware(scope(), receive, client.send)
    assert client.status == 200
    assert app.bodies == [message("hi")]


async def test_an_error_of_the_servers_receive_is_no_slow_client() -> None:
    middleware, _, _ = build()
    error = TimeoutError("the server's own")

    async def receive() -> Event:
        await anyio.lowlevel.checkpoint()
        raise error

    with pytest.raises(TimeoutError) as caught:
        await middleware(scope(), receive, Client([]).send)
    assert caught.value is error


# Modes


async def test_monitor_mode_decides_and_never_rejects() -> None:
    middleware, app, _ = build(mode="monitor")
    assert await Client(whole(message(BAD))).request(middleware) == 200
    decision = decision_of(app.scopes[0])
    assert decision is not None
    assert (decision.action, decision.is_rejected) == (Action.REJECT, False)
    assert app.bodies == [message(BAD)]


async def test_in_monitor_mode_the_app_learns_for_itself_that_the_client_has_left() -> None:
    got: list[Event] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.extend([await receive(), await receive(), await receive()])

    middleware, _, moderator = build(app, mode="monitor")
    events: list[Event] = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    await Client(events).request(middleware)
    assert got == [events[0], {"type": "http.disconnect"}, {"type": "http.disconnect"}]
    assert moderator.calls == []


async def test_off_mode_reads_nothing() -> None:
    middleware, _, moderator = build(mode="off")
    assert await Client(whole(message(BAD))).request(middleware) == 200
    assert moderator.calls == []


# Twice


async def test_the_same_middleware_twice_screens_once() -> None:
    moderator, app = Recorder(), App200()
    inner = ModerationMiddleware(app, rules=[CHAT], moderator=moderator)
    outer = ModerationMiddleware(inner, rules=[CHAT], moderator=moderator)
    assert await Client(whole(message("hi"))).request(outer) == 200
    assert moderator.calls == [["hi"]]
    assert app.bodies == [message("hi")]


async def test_a_second_middleware_with_other_rules_screens_by_them() -> None:
    moderator, app = Recorder(), App200()
    inner = ModerationMiddleware(app, rules=[Rule("POST /chat", json=["$.title"])], moderator=moderator)
    outer = ModerationMiddleware(inner, rules=[CHAT], moderator=moderator)
    body = json.dumps({"message": "hi", "title": BAD}).encode()
    assert await Client(whole(body)).request(outer) == 400
    assert moderator.calls == [["hi"], [BAD]]


async def test_a_body_changed_between_two_middlewares_is_screened_again() -> None:
    moderator, app = Recorder(), App200()
    inner = ModerationMiddleware(app, rules=[CHAT], moderator=moderator)

    async def swapping(scope: Scope, receive: Receive, send: Send) -> None:
        async def other() -> Event:
            return whole(message(BAD))[0]

        await inner(scope, other, send)

    outer = ModerationMiddleware(swapping, rules=[CHAT], moderator=moderator)
    assert await Client(whole(message("hi"))).request(outer) == 400


async def test_a_query_changed_between_two_middlewares_is_screened_again() -> None:
    moderator, app = Recorder(), App200()
    search = [Rule("POST /chat", query=["q"])]
    inner = ModerationMiddleware(app, rules=search, moderator=moderator)

    async def rewriting(scope: Scope, receive: Receive, send: Send) -> None:
        scope["query_string"] = b"q=" + BAD.replace(" ", "+").encode()
        await inner(scope, receive, send)

    outer = ModerationMiddleware(rewriting, rules=search, moderator=moderator)
    assert await Client([{"type": "http.request"}]).request(outer, query_string=b"q=hi", headers=[]) == 400


def test_a_screen_and_its_configuration_exclude_each_other() -> None:
    screen = Screen(rules=[CHAT], moderator=Recorder())
    assert ModerationMiddleware(App200(), screen).screen is screen
    with pytest.raises(ConfigError, match="not both"):
        ModerationMiddleware(App200(), screen, rules=[CHAT])


# Cancellation


async def test_a_cancelled_request_cancels_its_moderation() -> None:
    ended: list[str] = []

    async def endless(_: Any) -> Any:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("cancelled")

    middleware, app, _ = build(None, endless)
    with anyio.move_on_after(0.05):
        await Client(whole(message("hi"))).request(middleware)
    assert (ended, app.scopes) == (["cancelled"], [])


# Property: any chunking, any bytes


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@given(body=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=6), tail=st.booleans())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_any_bytes_in_any_pieces_arrive_as_sent(body: bytes, cuts: list[int], tail: bool, anyio_backend: str) -> None:
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    events: list[Event] = [
        {"type": "http.request", "body": body[start:end], "more_body": True} for start, end in pairwise(edges)
    ]
    if tail:
        events.append({"type": "http.request", "body": b"", "more_body": False})
    else:
        events[-1]["more_body"] = False
    middleware, app, _ = build(rules=[Rule("* *", json=["$"], form=["*"], text=True, on_unreadable="allow")])
    anyio.run(lambda: Client(events).request(middleware), backend=anyio_backend)
    assert app.bodies == [body]


def test_a_rejection_has_to_be_a_plain_callable() -> None:
    async def later(decision: Decision) -> Rejection:
        return Rejection(400, {}, b"")

    with pytest.raises(ConfigError, match="plain callable"):
        build(rejection=later)


async def test_a_rejection_is_as_long_as_it_says() -> None:
    middleware, _, _ = build(rejection=lambda _: Rejection(400, {"Content-Length": "99"}, b"four"))
    client = Client(whole(message(BAD)))
    await client.request(middleware)
    assert client.headers == {b"content-length": b"4"}


# WebSockets


def handshake(path: str = "/chat", **more: Any) -> dict[str, Any]:
    given = scope(path, headers=[(b"upgrade", b"websocket")], **more) | {"type": "websocket"}
    del given["method"]
    return given


@pytest.mark.parametrize("match", ["POST /chat", "/chat", "GET /chat", "POST *", "* /{room}"])
async def test_a_websocket_on_a_ruled_path_is_refused_before_it_is_open(match: str) -> None:
    middleware, app, moderator = build(rules=[Rule(match, json=["$.message"])])
    client = Client([{"type": "websocket.connect"}])
    await middleware(handshake(), client.receive, client.send)
    assert client.sent == [{"type": "websocket.close", "code": 1008}]
    assert (app.scopes, moderator.calls) == ([], [])


async def test_a_server_that_can_answer_a_handshake_sends_the_rejection() -> None:
    middleware, app, _ = build()
    client = Client([{"type": "websocket.connect"}])
    await middleware(handshake(extensions={"websocket.http.response": {}}), client.receive, client.send)
    start, body = client.sent
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 415)
    assert (body["type"], b"WebSocket" in body["body"]) == ("websocket.http.response.body", True)
    assert app.scopes == []


@pytest.mark.parametrize(
    ("options", "action"),
    [
        ({"rules": [Rule("/chat", json="$.message", on_unreadable="allow")]}, Action.ALLOW),
        ({"rules": [Rule("/chat", json="$.message", on_unreadable="flag")]}, Action.FLAG),
        ({"mode": "monitor"}, Action.REJECT),
        ({"rules": [Rule("GET /chat", exempt=True), CHAT]}, None),
        ({"rules": [Rule("/other", json="$.message")]}, None),
        ({"mode": "off"}, None),
    ],
    ids=str,
)
async def test_a_websocket_passes_untouched_where_a_rule_says_so(options: Any, action: Action | None) -> None:
    got: list[Any] = []

    async def app(*args: Any) -> None:
        got.extend(args)

    middleware, _, _ = build(app, **options)
    given, client = handshake(), Client([])
    await middleware(given, client.receive, client.send)
    assert got == [given, client.receive, client.send]
    decision = given.get(DECISION_KEY)
    assert (decision and decision.action) == action


# Large bodies


@pytest.mark.parametrize(("size", "is_elsewhere"), [(1_000, False), (100_000, True)])
async def test_a_large_body_is_read_outside_the_event_loop(size: int, is_elsewhere: bool, monkeypatch: Any) -> None:
    places: list[bool] = []
    harvest = Places.harvest

    def remember(self: Places, *args: Any) -> Any:
        places.append(threading.current_thread() is not threading.main_thread())
        return harvest(self, *args)

    monkeypatch.setattr(Places, "harvest", remember)
    middleware, app, moderator = build()
    body = json.dumps({"message": "hi", "x": "y" * size}).encode()
    assert await Client(whole(body)).request(middleware) == 200
    assert (places, app.bodies, moderator.seen) == ([is_elsewhere], [body], ["hi"])


async def test_a_plain_upload_takes_little_more_memory_than_its_body() -> None:
    piece = bytes(range(256)) * 1024
    head = b'--BND\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
    pieces = [head, *[piece] * 64, b'\r\n--BND\r\nContent-Disposition: form-data; name="note"\r\n\r\nhi\r\n--BND--\r\n']

    class Upload(Client):
        async def receive(self) -> Event:
            self.received += 1
            last = self.received == len(pieces)
            return {"type": "http.request", "body": bytes(bytearray(pieces[self.received - 1])), "more_body": not last}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        sizes.append(len((await receive())["body"]))
        for event in OK:
            await send(event)

    sizes: list[int] = []
    rule = Rule("POST /chat", form="note", json="$.note", max_body="20MiB")
    middleware, _, moderator = build(app, rules=[rule])
    client = Upload([])
    tracemalloc.start()
    try:
        assert (
            await client.request(middleware, headers=[(b"content-type", b"multipart/form-data; boundary=BND")]) == 200
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (sizes, moderator.seen) == ([sum(map(len, pieces))], ["hi"])
    assert peak < 1.2 * sizes[0] + (1 << 20)


class Reported:
    """Does with its scope what error reports do: shows it, and copies it."""

    def __init__(self) -> None:
        self.shown = ""
        self.copied: dict[str, Any] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        self.shown = repr({key: value for key, value in scope.items() if key.startswith("prescreen")})
        self.copied = copy.deepcopy(scope)
        await App200()(scope, receive, send)
        return "what an app gives back"


async def test_what_we_leave_in_the_scope_shows_nothing_of_the_request_and_can_be_copied() -> None:
    middleware, app, _ = build(Reported())
    headers = [JSON, (b"authorization", b"Bearer sentinel-7")]
    assert (
        await Client(whole(message("hi"))).request(middleware, headers=headers, query_string=b"key=sentinel-7") == 200
    )
    assert "prescreen.decision" in app.shown
    assert "sentinel" not in app.shown
    assert app.copied["headers"] == headers
    assert app.copied["prescreen.screened"] is not None
    assert "sentinel" not in repr(Head("POST", "/", query=b"sentinel", headers=((b"cookie", b"sentinel"),)))


async def test_what_the_app_gives_back_goes_back() -> None:
    middleware, _, _ = build(Reported())
    client = Client(whole(message("hi")))
    assert await middleware(scope(), client.receive, client.send) == "what an app gives back"  # type: ignore[func-returns-value]


async def test_a_client_address_that_can_be_read_once_still_reaches_the_app() -> None:
    middleware, app, _ = build(rules=[CHAT], subject="client", secret="a secret of the tests")
    assert await Client(whole(message("hi"))).request(middleware, client=iter(["127.0.0.1", 7])) == 200
    assert list(app.scopes[0]["client"]) == ["127.0.0.1", 7]
    assert app.scopes[0]["prescreen.decision"].subject is not None
