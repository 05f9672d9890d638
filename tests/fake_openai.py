"""A moderation service on a loopback socket that speaks like OpenAI's and misbehaves on request.

It flags a text with "flag <category>" in it, and scores one with "score <category> <number>". An image
with "missing" in its URL it cannot find, at one with "broken" it fails, for one with "slow" it waits
and waits.

    with FakeOpenAI() as service:
        service.script("drop", status(429, retry_after="7"), "answer")
        ...  # use service.url; look at service.requests

Each step is for one request; when the script is at its end, every request is answered properly.
`python tests/fake_openai.py [step ...]` serves on its own, prints the base URL and runs until killed.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

CATEGORIES: Final = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/intent",
    "self-harm/instructions",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
FLAGGED_SCORE: Final = 0.9
QUIET_SCORE: Final = 0.01
PACE: Final = 0.05  # seconds from one dripped byte to the next
HUGE: Final = 20_000_000  # bytes

# The longest name first: "hate" must not take what was meant for "hate/threatening".
_NAME: Final = "|".join(re.escape(name) for name in sorted(CATEGORIES, key=len, reverse=True))
_FLAG: Final = re.compile(rf"flag[ -]({_NAME})")
_SCORE: Final = re.compile(rf"score ({_NAME}) (\d+(?:\.\d+)?)")

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it arrived. `connection` tells connections apart; header names are lower-case."""

    path: str
    headers: Mapping[str, str]
    json: Any
    connection: int


class Exchange(BaseHTTPRequestHandler):
    """One request and the means to answer it, or to leave it unanswered."""

    protocol_version = "HTTP/1.1"
    server: _Server
    request_json: Any = None

    def setup(self) -> None:
        super().setup()
        self.server.fake.opened(self.connection)

    def finish(self) -> None:
        self.server.fake.closed(self.connection)
        super().finish()

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True  # a client at its deadline leaves in the middle of what it sends
            return
        self.request_json = json.loads(body)
        headers = {name.lower(): value for name, value in self.headers.items()}
        step = self.server.fake.received(
            Request(self.path, headers, self.request_json, connection=self.client_address[1])
        )
        if self.path.endswith("/v1/moderations"):
            step(self)
        else:
            status(404)(self)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name in the library
        """Keep still: what matters is in `requests`."""

    def results(self) -> list[Result]:
        """The proper results: one for each string, one for a list of parts."""
        given: Any = self.request_json["input"]
        texts: list[Any] = [given] if isinstance(given, str) else given
        if all(isinstance(text, str) for text in texts):
            return [_result([text], "text") for text in texts]
        kind = "image" if all(part["type"] == "image_url" for part in texts) else "text"
        return [_result([_part(part) for part in texts], kind)]

    def answer(self, results: Sequence[Any]) -> bytes:
        """The body of an answer with these results."""
        model = self.request_json.get("model", "omni-moderation-latest")
        return json.dumps({"id": "modr-1", "model": model, "results": results}).encode()

    def send(self, body: bytes, code: int = 200, kind: str = "application/json", **headers: str) -> None:
        """Answer at once: head and body in one go."""
        self.write(self.head(body, code, kind, **headers) + body)

    def head(self, body: bytes, code: int = 200, kind: str = "application/json", **headers: str) -> bytes:
        """The head of an answer, to be written by itself."""
        fields = {"content-type": kind, "content-length": str(len(body)), **headers}
        lines = [f"HTTP/1.1 {code} {self.responses[code][0]}", *(f"{name}: {fields[name]}" for name in fields)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def write(self, data: bytes) -> None:
        """Send some bytes, whatever they are."""
        try:
            self.wfile.write(data)
        except OSError:  # the client has gone, which is what some tests are about
            self.close_connection = True

    def drip(self, data: bytes) -> None:
        """Send byte by byte, far slower than anyone should wait."""
        for byte in data:
            if self.close_connection or self.pause(PACE):
                return
            self.write(bytes([byte]))

    def pause(self, seconds: float | None = None) -> bool:
        """Wait; None waits for the end of the service. Whether that end has come."""
        return self.server.fake.stopping.wait(seconds)

    def drop(self) -> None:
        """Close the connection after this request."""
        self.close_connection = True


Step = Callable[[Exchange], None]


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for them: no thread outlives its test
    fake: FakeOpenAI

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            self.fake.faults.append(error)


class FakeOpenAI:
    """The service; running between `__enter__` and `__exit__`."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.faults: list[BaseException | None] = []
        self.arrived: Final = threading.Event()  # the first request has
        self.stopping: Final = threading.Event()
        self._steps: deque[Step] = deque()
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._server = _Server(("127.0.0.1", 0), Exchange)
        self._server.fake = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        """The base URL, as a client of OpenAI wants it."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def script(self, *steps: str | Step) -> None:
        """What to do with the next requests, one step for each."""
        self._steps.extend(STEPS[step] if isinstance(step, str) else step for step in steps)

    def inputs(self) -> list[Any]:
        """The `input` of each request so far."""
        return [request.json["input"] for request in self.requests]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is None:
            assert not self.faults, self.faults

    def stop(self) -> None:
        """Close every connection and the door."""
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        with self._lock:
            for connection in self._connections:
                _hang_up(connection)
        self._server.server_close()

    def received(self, request: Request) -> Step:
        """Note a request; the step that it gets."""
        with self._lock:
            self.requests.append(request)
            self.arrived.set()
            return self._steps.popleft() if self._steps else STEPS["answer"]

    def opened(self, connection: socket.socket) -> None:
        """Note a connection, so that `stop` can end it."""
        with self._lock:
            self._connections.add(connection)
            if self.stopping.is_set():
                _hang_up(connection)

    def closed(self, connection: socket.socket) -> None:
        """Forget a connection."""
        with self._lock:
            self._connections.discard(connection)


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _part(part: Mapping[str, Any]) -> str:
    return str(part["text"] if part["type"] == "text" else part["image_url"]["url"])


def _result(texts: Sequence[str], kind: str) -> Result:
    flags = {name for text in texts for name in _FLAG.findall(text)}
    given = {name: float(score) for text in texts for name, score in _SCORE.findall(text)}
    scores = {name: FLAGGED_SCORE if name in flags else given.get(name, QUIET_SCORE) for name in CATEGORIES}
    return {
        "flagged": bool(flags),
        "categories": {name: name in flags for name in CATEGORIES},
        "category_scores": scores,
        "category_applied_input_types": {name: [kind] for name in CATEGORIES},
    }


# The steps. Those that take a value are functions that give a step; the others are in STEPS.


def delay(seconds: float) -> Step:
    """Answer, but late."""

    def step(exchange: Exchange) -> None:
        exchange.pause(seconds)
        _answer(exchange)

    return step


def status(code: int, *, error: Any = None, retry_after: str | None = None) -> Step:
    """Refuse with an HTTP status. `error` is the envelope's code; the message quotes the request, as some do."""

    def step(exchange: Exchange) -> None:
        quoted = f"{exchange.request_json['input']!r} with {exchange.headers.get('authorization')}"
        envelope = {"message": f"cannot take {quoted}", "type": "invalid_request_error", "param": None, "code": error}
        headers = {} if retry_after is None else {"retry-after": retry_after}
        exchange.send(json.dumps({"error": envelope}).encode(), code, **headers)

    return step


def reply(body: Any, kind: str = "application/json") -> Step:
    """200 with this body, whatever it is; what is neither bytes nor a text goes as JSON."""
    if not isinstance(body, bytes | str):
        body = json.dumps(body)
    data = body.encode() if isinstance(body, str) else body
    return lambda exchange: exchange.send(data, kind=kind)


def altered(change: Callable[[Result], object]) -> Step:
    """The proper answer, with each result changed in place."""

    def step(exchange: Exchange) -> None:
        results = exchange.results()
        for result in results:
            change(result)
        exchange.send(exchange.answer(results))

    return step


def counted(change: Callable[[list[Result]], Sequence[Any]]) -> Step:
    """The proper answer, with other results in the place of the proper ones."""
    return lambda exchange: exchange.send(exchange.answer(change(exchange.results())))


def _answer(exchange: Exchange) -> None:
    given = exchange.request_json["input"]
    images = [part for part in given if isinstance(part, dict) and part["type"] == "image_url"]
    if len(images) > 1:
        status(400, error="too_many_images")(exchange)
    elif any("missing" in _part(image) for image in images):
        status(400, error="invalid_image_url")(exchange)
    elif any("broken" in _part(image) for image in images):
        status(500)(exchange)
    elif any("slow" in _part(image) for image in images):
        _stall(exchange)
    else:
        exchange.send(exchange.answer(exchange.results()))


def _stall(exchange: Exchange) -> None:
    exchange.pause()
    exchange.drop()


def _half(exchange: Exchange) -> None:
    body = exchange.answer(exchange.results())
    exchange.write(exchange.head(body) + body[: len(body) // 2])


def _stall_body(exchange: Exchange) -> None:
    _half(exchange)
    _stall(exchange)


def _drop_body(exchange: Exchange) -> None:
    _half(exchange)
    exchange.drop()


def _drip(exchange: Exchange) -> None:
    body = exchange.answer(exchange.results())
    exchange.write(exchange.head(body))
    exchange.drip(body)


def _drip_head(exchange: Exchange) -> None:
    body = exchange.answer(exchange.results())
    exchange.drip(exchange.head(body))
    exchange.write(body)


def _drip_error(exchange: Exchange) -> None:
    body = json.dumps({"error": {"message": "x" * 50, "code": None}}).encode()
    exchange.write(exchange.head(body, 500))
    exchange.drip(body)


def _close(exchange: Exchange) -> None:
    _answer(exchange)
    exchange.drop()


def _huge(exchange: Exchange) -> None:
    exchange.send(_padded(exchange.answer(exchange.results())))


@cache
def _padded(body: bytes) -> bytes:
    return body.replace(b'"id": "modr-1"', b'"id": "' + b"x" * HUGE + b'"')


def _null(result: Result) -> None:
    result.update(flagged=None, categories=dict.fromkeys(CATEGORIES), category_scores=dict.fromkeys(CATEGORIES))


def _extend(result: Result) -> None:
    result.update(flagged=True)
    result["categories"]["spoilers"] = True
    result["category_scores"]["spoilers"] = FLAGGED_SCORE


def _score(result: Result, score: float) -> None:
    result["category_scores"]["violence"] = score


STEPS: Final[Mapping[str, Step]] = {
    "answer": _answer,
    # Connections.
    "drop": Exchange.drop,  # no answer at all
    "drop body": _drop_body,  # half an answer
    "close": _close,  # an answer, and the connection closed although it was to be kept
    # Time.
    "stall": _stall,
    "stall body": _stall_body,
    "drip": _drip,
    "drip head": _drip_head,
    "drip error": _drip_error,
    # 200, and yet no verdict.
    "html": reply("<html>Welcome to the hotel's network</html>", "text/html"),
    "invalid json": reply('{"results": [{'),
    "empty": reply(""),
    "error body": reply({"error": "x"}),
    "null body": reply("null"),
    "list body": counted(lambda results: [results]),
    "too few": counted(lambda results: results[:-1]),
    "too many": counted(lambda results: [*results, *results]),
    "no results": counted(lambda _: []),
    "null results": counted(lambda results: [None] * len(results)),
    "nulls": altered(_null),
    "null flag and category": altered(lambda result: (result.pop("flagged"), result["categories"].update(hate=None))),
    "no categories": altered(lambda result: result.pop("categories")),
    "empty categories": altered(lambda result: result.update(categories={})),
    "flagged as text": altered(lambda result: result.update(flagged="false")),
    "flagged as number": altered(lambda result: result.update(flagged=0)),
    "categories as numbers": altered(lambda result: result.update(categories=dict.fromkeys(CATEGORIES, 0))),
    "score too high": altered(partial(_score, score=1.7)),
    "score too low": altered(partial(_score, score=-0.2)),
    "score not a number": altered(partial(_score, score=float("nan"))),
    "huge": _huge,
    # Unusual, and yet verdicts.
    "no flagged": altered(lambda result: result.pop("flagged")),
    "null category": altered(lambda result: result["categories"].update({"illicit": None})),
    "extra category": altered(_extend),
}


def main() -> None:
    with FakeOpenAI() as service:
        service.script(*sys.argv[1:])
        sys.stdout.write(f"{service.url}\n")
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            service.stopping.wait()


if __name__ == "__main__":
    main()
