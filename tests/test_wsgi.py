"""The WSGI adapter, by PEP 3333: framing on the way in, nothing changed on the way out."""

from __future__ import annotations

import gc
import io
import json
import weakref
from collections.abc import Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles import BAD, Recorder, call
from prescreen import Action, Cause, Rejections, Rule, decision_of
from prescreen.model import DECISION_KEY
from prescreen.wsgi import ModerationMiddleware

CHAT = Rule("POST /chat", json=["$.message"])


@pytest.fixture(autouse=True)
def nobody_has_a_guarded_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where somebody has one are responses wrapped; another test of this process may have made one."""
    monkeypatch.setattr("prescreen.current._Follows.responses", False)


class App200:
    """Reads its input to the end, keeps what it saw, answers 200."""

    def __init__(self) -> None:
        self.environs: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.answer: Any = [b"ok"]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.environs.append(environ)
        self.bodies.append(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return self.answer


class Stream:
    """A server's input: not seekable, and every read past the declared end is an error, as it would block."""

    def __init__(self, data: bytes, piece: int = 1 << 16, end: int | None = None) -> None:
        self.data, self.at, self.piece = data, 0, piece
        self.end = len(data) if end is None else end

    def read(self, size: int) -> bytes:
        assert self.at < self.end, "a read past the end blocks on some servers"
        chunk = self.data[self.at : self.at + min(size, self.piece)]
        self.at += len(chunk)
        return chunk


class Terminated(Stream):
    """An input that ends by itself (`wsgi.input_terminated`)."""

    def read(self, size: int) -> bytes:
        chunk = self.data[self.at : self.at + min(size, self.piece)]
        self.at += len(chunk)
        return chunk


def environ(body: Any = b"", **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/chat",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": Stream(body),
    }
    found |= more
    setup_testing_defaults(found)
    return {key: value for key, value in found.items() if value is not None}


def build(app: Any = None, moderator: Any = None, **options: Any) -> tuple[ModerationMiddleware, Any, Recorder]:
    app, moderator = app or App200(), moderator or Recorder()
    return ModerationMiddleware(app, moderator=moderator, **{"rules": [CHAT], **options}), app, moderator


def message(text: object) -> bytes:
    return json.dumps({"message": text}).encode()


# What passes


@pytest.mark.parametrize("piece", [1, 7, 1 << 16])
def test_a_clean_request_reaches_the_app_unchanged(piece: int) -> None:
    middleware, app, moderator = build()
    body = b' {"message":  "caf\\u00e9" }\n'
    assert call(middleware, environ(body, **{"wsgi.input": Stream(body, piece)}))[0] == 200
    assert moderator.seen == ["café"]
    assert app.bodies == [body]
    decision = decision_of(app.environs[0])
    assert decision is not None
    assert decision.action is Action.ALLOW


@pytest.mark.parametrize(
    "given", [environ(b"{}", PATH_INFO="/other"), environ(REQUEST_METHOD="GET", **{"wsgi.input": Terminated(b"")})]
)
def test_a_request_without_a_rule_gets_the_very_same_environ(given: dict[str, Any]) -> None:
    middleware, app, moderator = build()
    before = dict(given)
    assert call(middleware, given)[0] == 200
    assert app.environs[0] is given
    assert given == before
    assert moderator.calls == []


def test_the_apps_answer_comes_back_as_the_same_object() -> None:
    class Answer:
        closed = False

        def __iter__(self) -> Iterator[bytes]:
            yield b"ok"

        def close(self) -> None:
            self.closed = True

    middleware, app, _ = build()
    app.answer = answer = Answer()
    received: list[Any] = []

    def start_response(*arguments: Any) -> Any:
        received.append(arguments)
        return lambda data: None

    assert middleware(environ(message("hi")), start_response) is answer
    assert not answer.closed


def test_start_response_is_the_servers_own() -> None:
    received: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        received.append(start_response)
        return []

    def start_response(*arguments: Any) -> Any:
        return None

    middleware, _, _ = build(app)
    middleware(environ(message("hi")), start_response)
    assert received == [start_response]


def test_everything_else_in_the_environ_stays() -> None:
    middleware, app, _ = build()
    given = environ(message("hi"), **{"my.key": object(), "wsgi.file_wrapper": object(), "HTTP_X_Y": "z"})
    before = {key: value for key, value in given.items() if key != "wsgi.input"}
    call(middleware, given)
    after = {key: value for key, value in app.environs[0].items() if key != "wsgi.input"}
    assert {key: after.pop(key) for key in set(after) - set(before)}.keys() == {DECISION_KEY, "prescreen.screened"}
    assert after == before


@pytest.mark.filterwarnings("default")
def test_both_sides_pass_the_standard_librarys_validator() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]

    middleware, _, _ = build(validator(app))
    for text, status in (("hi", 200), (BAD, 400)):
        given = environ(message(text), QUERY_STRING="", **{"wsgi.input": io.BytesIO(message(text))})
        assert call(validator(middleware), given)[0] == status
    assert call(
        validator(middleware),
        environ(
            QUERY_STRING="",
            REQUEST_METHOD="GET",
            CONTENT_TYPE=None,
            CONTENT_LENGTH=None,
            **{"wsgi.input": io.BytesIO()},
        ),
    )[0]


# How long a body is


@pytest.mark.parametrize("length", [None, "", "0"])
def test_without_a_length_the_body_is_empty_and_the_input_is_not_touched(length: str | None) -> None:
    middleware, app, moderator = build()
    assert call(middleware, environ(CONTENT_LENGTH=length, **{"wsgi.input": Stream(b"never read", end=0)}))[0] == 200
    assert moderator.calls == []
    assert app.environs[0]["wsgi.input"].read() == b""


def test_an_input_that_ends_by_itself_is_read_to_its_end() -> None:
    body = message("hi")
    given = environ(
        CONTENT_LENGTH=None,
        HTTP_TRANSFER_ENCODING="chunked",
        **{"wsgi.input": Terminated(body, 5), "wsgi.input_terminated": True},
    )
    middleware, app, moderator = build()
    assert call(middleware, given)[0] == 200
    assert moderator.seen == ["hi"]
    assert app.bodies == [body]
    assert app.environs[0]["CONTENT_LENGTH"] == str(len(body))
    assert "HTTP_TRANSFER_ENCODING" not in app.environs[0]


def test_a_body_that_came_without_a_length_is_read_where_its_protocol_needs_none() -> None:
    """HTTP/2: a server that has the whole body hands on an input that can be rewound."""
    body = message("hi")
    given = environ(CONTENT_LENGTH=None, SERVER_PROTOCOL="HTTP/2", **{"wsgi.input": io.BytesIO(body)})
    middleware, app, moderator = build()
    assert call(middleware, given)[0] == 200
    assert moderator.seen == ["hi"]
    assert app.bodies == [body]


@pytest.mark.parametrize("key", ["PATH_INFO", "QUERY_STRING", "HTTP_X_NAME", "CONTENT_TYPE"])
def test_an_environ_with_more_than_latin_1_is_screened_all_the_same(key: str) -> None:
    middleware, _, _ = build(rules=[Rule("POST *", json=["$.message"], query=["q"])])
    given = environ(message("hi"))
    assert call(middleware, {**given, key: f"{given.get(key, '')}\u2713"})[0] in (200, 400)


def test_a_chunked_body_of_unknown_length_is_refused() -> None:
    middleware, app, _ = build()
    given = environ(CONTENT_LENGTH=None, HTTP_TRANSFER_ENCODING="chunked", **{"wsgi.input": Stream(b"x", end=0)})
    assert call(middleware, given)[0] == 411
    assert app.environs == []


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"CONTENT_LENGTH": "abc"}, 400),
        ({"CONTENT_LENGTH": "-1"}, 400),
        ({"CONTENT_LENGTH": "+17"}, 400),
        ({"CONTENT_LENGTH": "1_7"}, 400),
        ({"CONTENT_LENGTH": "\u0661\u0667".encode().decode("latin-1")}, 400),
        ({"CONTENT_LENGTH": "99"}, 400),
        ({"CONTENT_LENGTH": "17", "HTTP_TRANSFER_ENCODING": "chunked"}, 400),
        ({"CONTENT_LENGTH": "5", "wsgi.input_terminated": True}, 400),
        ({"CONTENT_TYPE": "application/json, text/plain"}, 400),
        ({"CONTENT_TYPE": ""}, 415),
    ],
)
def test_a_body_whose_end_or_kind_is_in_doubt_is_refused(more: dict[str, Any], status: int) -> None:
    body = b'{"message": "hi"}'
    middleware, app, moderator = build()
    assert call(middleware, environ(body, **{"wsgi.input": Terminated(body)} | more))[0] == status
    assert (app.environs, moderator.calls) == ([], [])


def test_an_environ_with_the_least_in_it_is_passed_on() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return []

    middleware, _, _ = build(app, rules=[Rule("* *", json=["$"])])
    assert call(middleware, {})[0] == 200


def test_a_length_given_as_a_number_counts() -> None:
    middleware, _, moderator = build()
    assert call(middleware, environ(message("hi"), CONTENT_LENGTH=len(message("hi"))))[0] == 200
    assert moderator.seen == ["hi"]


def test_a_connection_that_breaks_off_never_reaches_the_app() -> None:
    class Broken(Stream):
        def read(self, size: int) -> bytes:
            raise OSError("reset")

    middleware, app, moderator = build()
    given = environ(message("hi"), **{"wsgi.input": Broken(b"", end=99)})
    assert call(middleware, given)[0] == 400
    # Not even where nothing else would tell how much is missing.
    terminated = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": None}
    assert call(middleware, environ(**{"wsgi.input": Broken(b"", end=99)} | terminated))[0] == 400
    assert (app.environs, moderator.calls) == ([], [])


def test_an_environ_without_an_input_is_an_empty_body() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return []

    given = environ(CONTENT_LENGTH="0")
    del given["wsgi.input"]
    middleware, _, moderator = build(app)
    assert call(middleware, given)[0] == 200
    assert moderator.calls == []


def test_an_input_that_can_be_rewound_is_rewound_and_kept() -> None:
    body = message("hi")
    own = io.BytesIO(b"before" + body)
    own.seek(6)
    middleware, app, _ = build()
    call(middleware, environ(body, **{"wsgi.input": own}))
    assert app.environs[0]["wsgi.input"] is own
    assert app.bodies == [body]


class Watchable(dict[str, Any]):
    """An environ to which there may be weak references."""


def test_a_request_that_is_over_leaves_nothing_to_the_garbage_collector() -> None:
    middleware, _, _ = build(lambda environ, start_response: [])
    given = Watchable(environ(message("hi")))
    alive = weakref.ref(given)
    gc.disable()
    try:
        middleware(given, lambda *_: lambda _: None)
        del given
        assert alive() is None
    finally:
        gc.enable()


def test_the_app_cannot_read_past_what_was_screened() -> None:
    body = message("hi")
    middleware, app, _ = build()
    call(middleware, environ(body, **{"wsgi.input": io.BytesIO(body + b" and more")}))
    assert app.environs[0]["wsgi.input"].read() == b""


# What is rejected


def test_a_flagged_request_never_reaches_the_app() -> None:
    middleware, app, _ = build()
    status, headers, body = call(middleware, environ(message(BAD)))
    assert (status, app.environs) == (400, [])
    assert headers["content-type"] == "application/problem+json"
    assert headers["content-length"] == str(len(body))
    assert json.loads(body)["categories"][0]["pointer"] == "/message"


def test_a_head_request_is_rejected_without_a_body() -> None:
    middleware, _, _ = build(rules=[Rule("GET /chat", query=["q"])])
    given = environ(REQUEST_METHOD="HEAD", CONTENT_TYPE=None, CONTENT_LENGTH=None, QUERY_STRING=f"q={BAD}")
    status, _, body = call(middleware, given)
    assert (status, body) == (400, b"")


def test_the_accept_header_chooses_the_form_of_the_rejection() -> None:
    middleware, _, _ = build(rejection=Rejections(format="negotiate"))
    _, headers, _ = call(middleware, environ(message(BAD), HTTP_ACCEPT="text/html"))
    assert headers["content-type"].startswith("text/html")


def test_a_refused_upload_is_taken_in_so_that_the_client_reads_the_answer() -> None:
    middleware, _, _ = build(limits={"body": 10})
    for stream, more in (
        (Stream(b"x" * 1000, 100), {}),
        (Terminated(b"x" * 1000, 100), {"CONTENT_LENGTH": None, "wsgi.input_terminated": True}),
    ):
        assert call(middleware, environ(b"x" * 1000, **{"wsgi.input": stream} | more))[0] == 413
        assert stream.at == 1000


def test_a_client_that_waits_to_send_is_refused_without_a_read() -> None:
    middleware, _, _ = build(limits={"body": 10})
    stream = Stream(b"x" * 1000, end=0)
    assert call(middleware, environ(b"x" * 1000, HTTP_EXPECT="100-continue", **{"wsgi.input": stream}))[0] == 413


@pytest.mark.parametrize("status", [418, 452, 499])
def test_a_status_without_a_name_is_sent_all_the_same(status: int) -> None:
    middleware, _, _ = build(rejection=Rejections(status=status))
    assert call(middleware, environ(message(BAD)))[0] == status


def test_an_exempt_route_is_not_one_whose_bytes_are_in_doubt() -> None:
    rules = [Rule("POST /room/stream", exempt=True), Rule("POST /room/{room}", json=["$.message"])]
    middleware, _, _ = build(rules=rules)
    assert call(middleware, environ(message(BAD), PATH_INFO="/room/stream"))[0] == 200
    assert call(middleware, environ(message(BAD), PATH_INFO="/room/stre\xffam"))[0] == 400


def test_a_refused_upload_that_breaks_off_is_answered() -> None:
    class Broken(Stream):
        def read(self, size: int) -> bytes:
            raise OSError("reset")

    middleware, _, _ = build(limits={"body": 10})
    assert call(middleware, environ(b"x" * 1000, **{"wsgi.input": Broken(b"", end=9)}))[0] == 413


def test_on_unreadable_allow_hands_the_same_bytes_on_and_says_so() -> None:
    middleware, app, _ = build(rules=[Rule("POST /chat", json=["$.message"], on_unreadable="allow")])
    assert call(middleware, environ(b'{"message": '))[0] == 200
    decision = decision_of(app.environs[0])
    assert app.bodies == [b'{"message": ']
    assert decision is not None
    assert (decision.degraded, decision.cause) == (True, Cause.UNREADABLE)


def test_what_the_head_alone_decides_is_handed_on_unread() -> None:
    middleware, app, _ = build(rules=[Rule("POST /chat", json=["$.message"], on_unreadable="allow")])
    given = environ(b"\x89PNG", CONTENT_TYPE="image/png")
    own = given["wsgi.input"]
    assert call(middleware, given)[0] == 200
    assert app.environs[0]["wsgi.input"] is own


def test_on_oversize_allow_streams_the_rest_to_the_app() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return [b"".join(iter(lambda: environ["wsgi.input"].read(7), b""))]

    body = message("a text that is longer than ten bytes")
    middleware, _, _ = build(app, rules=[Rule("POST /chat", json=["$.message"], on_oversize="allow", max_body=10)])
    given = environ(CONTENT_LENGTH=None, **{"wsgi.input": Terminated(body, 5), "wsgi.input_terminated": True})
    assert call(middleware, given)[2] == body


def test_monitor_mode_decides_and_never_rejects() -> None:
    middleware, app, _ = build(mode="monitor")
    assert call(middleware, environ(message(BAD)))[0] == 200
    decision = decision_of(app.environs[0])
    assert decision is not None
    assert decision.action is Action.REJECT


def test_the_same_middleware_twice_screens_once() -> None:
    moderator, app = Recorder(), App200()
    inner = ModerationMiddleware(app, rules=[CHAT], moderator=moderator)
    outer = ModerationMiddleware(inner, rules=[CHAT], moderator=moderator)
    assert call(outer, environ(message("hi")))[0] == 200
    assert moderator.calls == [["hi"]]
    assert app.bodies == [message("hi")]


def test_a_body_changed_between_two_middlewares_is_screened_again() -> None:
    moderator = Recorder()
    inner = ModerationMiddleware(App200(), rules=[CHAT], moderator=moderator)

    def swapping(environ: dict[str, Any], start_response: Any) -> Any:
        environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(message(BAD)), str(len(message(BAD)))
        return inner(environ, start_response)

    outer = ModerationMiddleware(swapping, rules=[CHAT], moderator=moderator)
    assert call(outer, environ(message("hi")))[0] == 400


def test_a_path_in_utf8_matches_as_it_is_written() -> None:
    middleware, _, _ = build(rules=[Rule("POST /café", json=["$.message"])])
    assert call(middleware, environ(message(BAD), PATH_INFO="/café".encode().decode("latin-1")))[0] == 400


@pytest.mark.parametrize("rule", ["POST /api/chat", "POST /chat"])
def test_a_mounted_app_is_matched_with_and_without_its_mount(rule: str) -> None:
    middleware, _, _ = build(rules=[Rule(rule, json=["$.message"])])
    assert call(middleware, environ(message(BAD), SCRIPT_NAME="/api"))[0] == 400


@given(body=st.binary(max_size=300), piece=st.integers(1, 50), ends=st.booleans())
@settings(deadline=None, max_examples=200)
def test_any_bytes_in_any_pieces_arrive_as_sent(body: bytes, piece: int, ends: bool) -> None:
    middleware, app, _ = build(rules=[Rule("* *", json=["$"], form=["*"], text=True, on_unreadable="allow")])
    stream = Terminated(body, piece) if ends else Stream(body, piece)
    assert call(middleware, environ(body, **{"wsgi.input": stream, "wsgi.input_terminated": ends}))[0] == 200
    assert app.bodies == [body]


# WebSockets


@pytest.mark.parametrize(("match", "status"), [("POST /chat", 415), ("GET /chat", 415), ("GET /other", 200)])
def test_a_websocket_on_a_ruled_path_is_refused(match: str, status: int) -> None:
    def app(given: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return [b"open"]

    moderator = Recorder()
    middleware = ModerationMiddleware(app, rules=[Rule(match, json="$.message")], moderator=moderator)
    given = environ(b"", REQUEST_METHOD="GET", HTTP_UPGRADE="WebSocket", HTTP_CONNECTION="Upgrade")
    assert call(middleware, given)[0] == status
    assert moderator.calls == []


def test_a_websockets_header_opens_no_exemption_to_a_body() -> None:
    app, moderator = App200(), Recorder()
    rules = [Rule("GET /chat", exempt=True), Rule("/chat", json="all")]
    middleware = ModerationMiddleware(app, rules=rules, moderator=moderator)
    body = json.dumps({"message": BAD}).encode()
    for more in ({}, {"HTTP_UPGRADE": "websocket"}):
        assert call(middleware, environ(body, REQUEST_METHOD="GET", **more))[0] in (400, 415)
    assert app.environs == []
