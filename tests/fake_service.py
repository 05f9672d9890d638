"""A service on a loopback socket that misbehaves on request; the wire formats of the real ones build on it.

    with FakeOpenAI() as service:
        service.script("drop", status(429, retry_after="7"), "answer")
        ...  # use service.url; look at service.requests

Each step is for one request; when the script is at its end, every request is answered properly.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

PACE: Final = 0.05  # seconds from one dripped byte to the next
HUGE: Final = 20_000_000  # bytes


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
        (step if self.server.fake.has(self.path) else status(404))(self)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name in the library
        """Keep still: what matters is in `requests`."""

    def proper(self) -> bytes:
        """The body of a proper answer."""
        return self.server.fake.body(self)

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
    fake: FakeService

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            self.fake.faults.append(error)


class FakeService:
    """A service; running between `__enter__` and `__exit__`. Its wire format is for the kinds of it to say."""

    prefix = "/v1"
    paths: tuple[str, ...]

    def __init__(self, steps: Mapping[str, Step]) -> None:
        self.steps: Final = {**STEPS, **steps}
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
        """The base URL."""
        return f"http://127.0.0.1:{self._server.server_port}{self.prefix}"

    def has(self, path: str) -> bool:
        """Whether there is anything at this path, whatever its query."""
        return path.partition("?")[0] in self.paths

    def body(self, exchange: Exchange) -> bytes:
        """The body of a proper answer."""
        raise NotImplementedError

    def script(self, *steps: str | Step) -> None:
        """What to do with the next requests, one step for each."""
        self._steps.extend(self.steps[step] if isinstance(step, str) else step for step in steps)

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
            return self._steps.popleft() if self._steps else self.steps["answer"]

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


# The steps that know no wire format. Those that take a value are functions that give a step; the others are in STEPS.


def answer(exchange: Exchange) -> None:
    """Answer properly."""
    exchange.send(exchange.proper())


def delay(seconds: float) -> Step:
    """Answer, but late."""

    def step(exchange: Exchange) -> None:
        exchange.pause(seconds)
        exchange.server.fake.steps["answer"](exchange)

    return step


def status(code: int, *, error: Any = None, **headers: str | None) -> Step:
    """Refuse with an HTTP status. `error` is the envelope's code; the message quotes the request, as some do."""

    def step(exchange: Exchange) -> None:
        quoted = f"{exchange.request_json!r} with {exchange.headers.values()}"
        envelope = {"message": f"cannot take {quoted}", "type": "invalid_request_error", "param": None, "code": error}
        given = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
        exchange.send(json.dumps({"error": envelope}).encode(), code, **given)

    return step


def reply(body: Any, kind: str = "application/json") -> Step:
    """200 with this body, whatever it is; what is neither bytes nor a text goes as JSON."""
    if not isinstance(body, bytes | str):
        body = json.dumps(body)
    data = body.encode() if isinstance(body, str) else body
    return lambda exchange: exchange.send(data, kind=kind)


def stall(exchange: Exchange) -> None:
    """Wait until the service ends."""
    exchange.pause()
    exchange.drop()


def _half(exchange: Exchange) -> None:
    body = exchange.proper()
    exchange.write(exchange.head(body) + body[: len(body) // 2])


def _stall_body(exchange: Exchange) -> None:
    _half(exchange)
    stall(exchange)


def _drop_body(exchange: Exchange) -> None:
    _half(exchange)
    exchange.drop()


def _drip(exchange: Exchange) -> None:
    body = exchange.proper()
    exchange.write(exchange.head(body))
    exchange.drip(body)


def _drip_head(exchange: Exchange) -> None:
    body = exchange.proper()
    exchange.drip(exchange.head(body))
    exchange.write(body)


def _drip_error(exchange: Exchange) -> None:
    body = json.dumps({"error": {"message": "x" * 50, "code": None}}).encode()
    exchange.write(exchange.head(body, 500))
    exchange.drip(body)


def _close(exchange: Exchange) -> None:
    exchange.server.fake.steps["answer"](exchange)
    exchange.drop()


def _huge(exchange: Exchange) -> None:
    exchange.send(_padded(exchange.proper()))


@cache
def _padded(body: bytes) -> bytes:
    return b'{"padding": "' + b"x" * HUGE + b'", ' + body[1:]


STEPS: Final[Mapping[str, Step]] = {
    "answer": answer,
    # Connections.
    "drop": Exchange.drop,  # no answer at all
    "drop body": _drop_body,  # half an answer
    "close": _close,  # an answer, and the connection closed although it was to be kept
    # Time.
    "stall": stall,
    "stall body": _stall_body,
    "drip": _drip,
    "drip head": _drip_head,
    "drip error": _drip_error,
    # 200, and yet no verdict.
    "html": reply("<html>Welcome to the hotel's network</html>", "text/html"),
    "invalid json": reply('{"results": [{'),
    "empty": reply(""),
    "empty object": reply({}),
    "error body": reply({"error": "x"}),
    "null body": reply("null"),
    "huge": _huge,
}
