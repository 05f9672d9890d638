"""What an app sees behind the middleware is what it sees without it, whatever the server sends and the app does.

The moderator finds nothing. Each property runs the same app twice on the same request, bare and behind
the middleware, and compares. What differs does so by design, and is named where it is compared:
- of a ruled route, the body arrives in one event (ASGI), or with its length and no transfer coding (WSGI);
- the scope and the environ have keys that begin with `prescreen.`.
"""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doubles import Recorder, scope
from prescreen import Rule, Screen
from prescreen.asgi import Event, Receive, Scope, Send
from prescreen.asgi import ModerationMiddleware as AsgiMiddleware
from prescreen.wsgi import ModerationMiddleware as WsgiMiddleware

pytestmark = pytest.mark.once

SCREEN: Final = Screen(rules=[Rule("* /chat", json=["$.message"], form=["message"], text=True)], moderator=Recorder())
PROPERTY: Final = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


# What a server sends

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
tokens = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=12)
bodies = st.one_of(
    st.builds(lambda text: (b"application/json", json.dumps({"message": text, "n": [1.0, None]}).encode()), texts),
    st.builds(lambda text: (b"application/json; charset=utf-8", json.dumps(text, ensure_ascii=False).encode()), texts),
    st.builds(lambda text: (b"application/x-www-form-urlencoded", urlencode({"message": text}).encode()), texts),
    st.builds(lambda text: (b"text/plain;charset=UTF-8", text.encode()), texts),
    st.just((None, b"")),
)
"""A Content-Type and a body that every rule above takes."""
RESERVED: Final = frozenset({"content-length", "content-type", "content-encoding", "transfer-encoding", "expect"})
odd_headers = st.lists(
    st.tuples(
        tokens.filter(lambda name: name.lower() not in RESERVED), st.text('\t !"()[]{};,=\xe9\xff0aZ', max_size=12)
    ),
    max_size=6,
).map(lambda pairs: [(name.encode(), value.encode("latin-1")) for name, value in [*pairs, *pairs[:2]]])
"""Legal headers: any token, any case, any latin-1, some of them twice."""


@pytest.fixture(autouse=True)
def nobody_has_a_guarded_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where somebody has one are responses wrapped; another test of this process may have made one."""
    monkeypatch.setattr("prescreen.current._Follows.responses", False)


@dataclass
class Sent:
    """One request: its route, head and body, and the pieces that the server makes of the body."""

    path: str
    method: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    events: list[Event]

    @property
    def is_ruled(self) -> bool:
        return self.path == "/chat"


@st.composite
def pieces(draw: st.DrawFn, body: bytes) -> list[Event]:
    """Cut anywhere, empty pieces among them; keys that have their default value may be left out."""
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=5)))
    chunks = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    found: list[Event] = []
    for index, chunk in enumerate(chunks):
        event: Event = {"type": "http.request", "body": chunk, "more_body": index < len(chunks) - 1}
        if not chunk and draw(st.booleans()):
            del event["body"]
        if not event["more_body"] and draw(st.booleans()):
            del event["more_body"]
        found.append(event)
    return found


@st.composite
def asgi_requests(draw: st.DrawFn) -> Sent:
    path = draw(st.sampled_from(["/chat", "/free"]))
    kind, body = draw(
        bodies if path == "/chat" else st.tuples(st.none() | st.binary(max_size=9), st.binary(max_size=99))
    )
    headers = draw(odd_headers)
    if kind is not None:
        headers.append((draw(st.sampled_from([b"content-type", b"Content-Type"])), kind))
    if draw(st.booleans()):
        headers.append((b"content-length", str(len(body)).encode()))
    method = draw(st.sampled_from(["POST", "PUT", "PATCH", "DELETE", "GET", "HEAD", "PROPFIND"]))
    return Sent(path, method, headers, body, draw(pieces(body)))


# What an app does


class AppError(Exception):
    """Raised by an app of these tests."""


@dataclass
class Server:
    """Feeds the events; once the answer is complete, or the client has gone, it says so, again and again."""

    events: list[Event]
    is_gone: bool
    sent: list[Event] = field(default_factory=list)
    complete: anyio.Event = field(default_factory=anyio.Event)

    async def receive(self) -> Event:
        await anyio.lowlevel.checkpoint()
        if self.events and not self.complete.is_set():
            return self.events.pop(0)
        if not self.is_gone:
            await self.complete.wait()
        return {"type": "http.disconnect"}

    async def send(self, event: Event) -> None:
        await anyio.lowlevel.checkpoint()
        if self.complete.is_set():
            raise AppError("an event after the end of the answer")
        self.sent.append(event)
        if event["type"] == "http.response.body" and not event.get("more_body"):
            self.complete.set()


Seen = list[Event]
Habit = Callable[[Receive, Send, Seen], Awaitable[None]]

START: Final[Event] = {
    "type": "http.response.start",
    "status": 203,
    "headers": [(b"X-Case", b"kept")],
    "trailers": False,
}
MORE: Final[Event] = {"type": "http.response.body", "body": b"some", "more_body": True}
OTHER: Final[Event] = {"type": "http.response.something_new", "x": object()}
END: Final[Event] = {"type": "http.response.body", "body": b"the end"}


async def answer(send: Send) -> None:
    for event in (START, MORE, OTHER, END):
        await send(event)


async def read(receive: Receive, seen: Seen) -> None:
    while not seen or (seen[-1]["type"] == "http.request" and seen[-1].get("more_body")):
        seen.append(await receive())


async def reads_all(receive: Receive, send: Send, seen: Seen) -> None:
    await read(receive, seen)
    await answer(send)


async def reads_a_part(receive: Receive, send: Send, seen: Seen) -> None:
    seen.append(await receive())
    await answer(send)


async def reads_nothing(receive: Receive, send: Send, seen: Seen) -> None:
    await answer(send)


async def answers_nothing(receive: Receive, send: Send, seen: Seen) -> None:
    await read(receive, seen)


async def answers_before_it_reads(receive: Receive, send: Send, seen: Seen) -> None:
    await send(START)
    await send(MORE)
    await read(receive, seen)
    await send(END)


async def reads_after_the_answer(receive: Receive, send: Send, seen: Seen) -> None:
    await answer(send)
    seen += [await receive(), await receive()]


async def reads_a_part_and_more_after_the_answer(receive: Receive, send: Send, seen: Seen) -> None:
    await read(receive, seen)
    await answer(send)
    seen += [await receive(), await receive()]


async def polls_for_a_disconnect(receive: Receive, send: Send, seen: Seen) -> None:
    with anyio.CancelScope() as poll:
        poll.cancel()
        await receive()  # what it gives is dropped, as Starlette's `is_disconnected` drops it
    await read(receive, seen)
    await answer(send)


async def listens_for_a_disconnect(receive: Receive, send: Send, seen: Seen) -> None:
    async def listen() -> None:
        seen.append(await receive())

    await read(receive, seen)
    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        await anyio.wait_all_tasks_blocked()
        seen.append({"type": "the answer starts"})  # before that, only a client that has gone is heard of
        await answer(send)


async def streams_what_it_reads(receive: Receive, send: Send, seen: Seen) -> None:
    await send(START)
    while True:
        seen.append(event := await receive())
        await send({"type": "http.response.body", "body": event.get("body", b""), "more_body": True})
        if not event.get("more_body"):
            return await send(END)


async def raises_at_once(receive: Receive, send: Send, seen: Seen) -> None:
    raise AppError("at once")


async def raises_when_it_has_read(receive: Receive, send: Send, seen: Seen) -> None:
    await read(receive, seen)
    raise AppError("after the body")


async def raises_in_its_answer(receive: Receive, send: Send, seen: Seen) -> None:
    await send(START)
    raise AppError("in the answer")


async def sends_too_much(receive: Receive, send: Send, seen: Seen) -> None:
    await answer(send)
    await send(END)


HABITS: Final[list[Habit]] = [
    reads_all,
    reads_a_part,
    reads_nothing,
    answers_nothing,
    answers_before_it_reads,
    reads_after_the_answer,
    reads_a_part_and_more_after_the_answer,
    polls_for_a_disconnect,
    listens_for_a_disconnect,
    streams_what_it_reads,
    raises_at_once,
    raises_when_it_has_read,
    raises_in_its_answer,
    sends_too_much,
]


@dataclass
class View:
    """Everything there is to see of one call, from the app's side and from the server's."""

    scopes: list[Scope] = field(default_factory=list)
    seen: Seen = field(default_factory=list)
    sent: list[Event] = field(default_factory=list)
    raised: BaseException | None = None


async def view(request: Sent, habit: Habit, *, is_gone: bool, is_screened: bool) -> View:
    found, server = View(), Server(copy.deepcopy(request.events), is_gone)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.scopes.append(dict(scope))
        await habit(receive, send, found.seen)

    wrapped = AsgiMiddleware(app, SCREEN) if is_screened else app
    headers = [*request.headers]
    with anyio.fail_after(5):
        try:
            await wrapped(scope(request.path, request.method, headers), server.receive, server.send)
        except AppError as error:
            found.raised = error
    found.sent = server.sent
    return found


def joined(events: list[Event], kind: str) -> tuple[bytes, list[Event]]:
    """The events of one type as the bytes they carry, and what else there is."""
    body = b"".join(event.get("body", b"") for event in events if event["type"] == kind)
    return body, [event for event in events if event["type"] != kind]


@pytest.mark.parametrize("habit", HABITS, ids=lambda habit: habit.__name__)
@PROPERTY
@given(request=asgi_requests(), is_gone=st.booleans())
def test_an_asgi_app_cannot_tell(habit: Habit, request: Sent, is_gone: bool, anyio_backend: str) -> None:
    async def main() -> tuple[View, View]:
        bare = await view(request, habit, is_gone=is_gone, is_screened=False)
        return bare, await view(request, habit, is_gone=is_gone, is_screened=True)

    bare, behind = anyio.run(main, backend=anyio_backend)
    for each in behind.scopes:
        ours = {key for key in each if key.startswith("prescreen.")}
        assert bool(ours) == request.is_ruled
        assert {key: value for key, value in each.items() if key not in ours} == bare.scopes[0]
    assert len(behind.scopes) == len(bare.scopes)
    assert (type(behind.raised), str(behind.raised)) == (type(bare.raised), str(bare.raised))
    if not request.is_ruled:
        assert (behind.seen, behind.sent) == (bare.seen, bare.sent)
        return
    # By design: the body is one event, and an app that takes only the first one has all of it.
    read_bare, then_bare = joined(bare.seen, "http.request")
    read_behind, then_behind = joined(behind.seen, "http.request")
    is_part = habit is reads_a_part
    assert read_behind == (request.body if is_part else read_bare)
    assert then_behind == then_bare
    assert len(behind.seen) - len(then_behind) <= 1
    assert joined(behind.sent, "http.response.body") == joined(bare.sent, "http.response.body")
    if habit is not streams_what_it_reads:
        assert behind.sent == bare.sent


# WSGI


class Pipe(io.RawIOBase):
    """A server's input that cannot be rewound and comes in small pieces."""

    def __init__(self, body: bytes, piece: int) -> None:
        self.rest, self.piece = body, piece

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self.piece, len(self.rest))
        buffer[:count], self.rest = self.rest[:count], self.rest[count:]
        return count


FRAMINGS: Final[Mapping[str, Callable[[bytes], dict[str, Any]]]] = {
    "a length": lambda body: {"CONTENT_LENGTH": str(len(body))},
    "a length, and an input that ends": lambda body: {"CONTENT_LENGTH": str(len(body)), "wsgi.input_terminated": True},
    "an input that ends": lambda body: {"wsgi.input_terminated": True},
    "an empty length, and an input that ends": lambda body: {"CONTENT_LENGTH": "", "wsgi.input_terminated": True},
    "chunks, and an input that ends": lambda body: {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True},
}
BY_DESIGN: Final = frozenset({"CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "wsgi.input"})
"""What the app may find changed in the environ of a ruled route."""

reads = st.lists(
    st.one_of(
        st.just(("read", ())),
        st.tuples(st.sampled_from(["read", "readline", "readlines"]), st.tuples(st.integers(-1, 40))),
        st.just(("readline", ())),
        st.just(("readlines", ())),
        st.just(("__iter__", ())),
    ),
    max_size=6,
)
"""Calls of a stream's methods, as PEP 3333 allows them."""


@dataclass(frozen=True)
class WsgiRequest:
    path: str
    body: bytes
    environ: dict[str, Any]
    piece: int
    """0 for an input that can be rewound."""

    def made(self) -> dict[str, Any]:
        stream: Any = io.BufferedReader(Pipe(self.body, self.piece)) if self.piece else io.BytesIO(self.body)
        return {**self.environ, "PATH_INFO": self.path, "wsgi.input": stream}


@st.composite
def wsgi_requests(draw: st.DrawFn) -> WsgiRequest:
    path = draw(st.sampled_from(["/chat", "/free"]))
    kind, body = draw(
        bodies if path == "/chat" else st.tuples(st.none() | st.binary(max_size=9), st.binary(max_size=99))
    )
    environ: dict[str, Any] = {
        "REQUEST_METHOD": draw(st.sampled_from(["POST", "PUT", "PATCH", "DELETE", "GET", "HEAD", "PROPFIND"])),
        "SCRIPT_NAME": "",
        "QUERY_STRING": "q=1&q=%32",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.file_wrapper": object(),
        **FRAMINGS[draw(st.sampled_from(list(FRAMINGS)))](body),
    }
    for name, value in draw(odd_headers):
        environ["HTTP_" + name.decode().upper().replace("-", "_")] = value.decode("latin-1")
    if kind is not None:
        environ["CONTENT_TYPE"] = kind.decode("latin-1")
    return WsgiRequest(path, body, environ, draw(st.sampled_from([0, 1, 7, 1 << 16])))


@dataclass(frozen=True)
class WsgiHabit:
    """What an app calls on its input, whether it starts its answer before that, and what comes of it."""

    calls: list[tuple[str, tuple[int, ...]]]
    answers_first: bool
    ending: Any

    def read(self, stream: Any) -> list[Any]:
        found = [(name, getattr(stream, name)(*arguments)) for name, arguments in self.calls]
        return [*([*each] if name == "__iter__" else each for name, each in found), stream.read()]


@dataclass
class WsgiView:
    """Everything there is to see of one call, from the app's side and from the server's."""

    environ: dict[str, Any] = field(default_factory=dict)
    read: list[Any] = field(default_factory=list)
    written: object = None
    started: list[Any] = field(default_factory=list)
    came_back: Any = None


def wsgi_view(request: WsgiRequest, habit: WsgiHabit, *, is_screened: bool) -> WsgiView:
    found = WsgiView()

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        found.environ = {**environ}
        if not habit.answers_first:
            found.read = habit.read(environ["wsgi.input"])
        found.written = start_response("203 Odd", [("X-Case", "kept"), ("X-Case", "twice")])
        if habit.answers_first:
            found.read = habit.read(environ["wsgi.input"])
        if isinstance(habit.ending, Exception):
            raise habit.ending
        return habit.ending

    def start_response(*arguments: Any) -> Any:
        found.started.append(arguments)
        return WRITE

    wrapped: Any = WsgiMiddleware(app, SCREEN) if is_screened else app
    try:
        found.came_back = wrapped(request.made(), start_response)
    except AppError as error:
        found.came_back = error
    return found


WRITE: Final = object()
"""The server's `write`."""
ENDINGS: Final = (AppError("raised by the app"), iter([b"an", b"answer"]), [b"a list"])


@settings(PROPERTY, max_examples=300)
@given(
    request=wsgi_requests(), habit=st.builds(WsgiHabit, calls=reads, answers_first=..., ending=st.sampled_from(ENDINGS))
)
def test_a_wsgi_app_cannot_tell(request: WsgiRequest, habit: WsgiHabit) -> None:
    bare = wsgi_view(request, habit, is_screened=False)
    behind = wsgi_view(request, habit, is_screened=True)
    assert behind.came_back is bare.came_back is habit.ending
    assert behind.started == bare.started
    assert behind.written is bare.written is WRITE
    assert behind.read == bare.read
    ours = {key for key in behind.environ if key.startswith("prescreen.")}
    keys = (behind.environ.keys() | bare.environ.keys()) - ours
    changed = {key for key in keys if behind.environ.get(key) != bare.environ.get(key)}
    if request.path == "/free":
        assert not ours
        assert changed <= {"wsgi.input"}  # each call has an input of its own
        return
    assert ours
    assert changed <= BY_DESIGN
    assert "HTTP_TRANSFER_ENCODING" not in behind.environ
    length = str(len(request.body)) if request.body else bare.environ.get("CONTENT_LENGTH")
    assert behind.environ.get("CONTENT_LENGTH") == length
