"""A moderation endpoint with a weather: `python -m chaos.service FILE`, in a process of its own.

It prints its port, reads the name of a weather from each line of its input, and prints the name when that holds.
Every verdict that it gives is a line in FILE before the first byte of it is sent: the text's number, when, and whether
it is flagged, which is what it is if the sentinel is in it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import cycle
from random import Random
from time import monotonic
from typing import Any, Final

from chaos.plan import DEADLINE, FAIR, FAULTS, SENTINEL
from fake_openai import CATEGORIES

_PROMPT: Final = 0.01  # seconds that a fair answer takes
_PACE: Final = 0.05  # seconds from one dripped byte to the next
# Outside the ports that Linux gives to outgoing connections: one of these to a dead port could be its own answer.
_PORTS: Final = range(10_000, 30_000)
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_NUMBER: Final = re.compile(r"text (\d+)")
_AT_ONCE: Final = struct.pack("ii", 1, 0)  # SO_LINGER: closing resets


class Connection(asyncio.Protocol):
    """One connection: requests in, whatever the weather makes of them out."""

    transport: asyncio.Transport

    def __init__(self, service: Service) -> None:
        self._service = service
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._service.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._service.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, rest = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n")
        if blank and length and len(rest) >= int(length[1]):
            self._received = b""
            self._service.sky(self, json.loads(rest)["input"])

    def judge(self, texts: Sequence[str]) -> None:
        """The proper answer, put on record first."""
        if not self.transport.is_closing():
            self._service.record(texts)
            self.send(_body(map(_result, texts)))

    def send(self, body: bytes, status: str = "200 OK", *headers: str) -> None:
        self.transport.write(_head(body, status, *headers) + body)

    def drip(self, data: bytes) -> None:
        """Byte by byte, for as long as anyone listens."""
        if data and not self.transport.is_closing():
            self.transport.write(data[:1])
            self.later(_PACE, self.drip, data[1:])

    def later(self, seconds: float, call: Callable[..., None], *arguments: object) -> None:
        asyncio.get_running_loop().call_later(seconds, call, *arguments)

    def reset(self) -> None:
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.transport.abort()


Sky = Callable[[Connection, Sequence[str]], None]
"""What becomes of a call about these texts."""


def _body(results: Iterator[Any]) -> bytes:
    return json.dumps({"id": "modr-1", "model": "weather", "results": list(results)}).encode()


def _head(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = (f"HTTP/1.1 {status}", "content-type: application/json", f"content-length: {len(body)}", *headers, "", "")
    return "\r\n".join(lines).encode()


def _verdict(*, flagged: bool) -> Mapping[str, object]:
    categories = {name: flagged and name == "violence" for name in CATEGORIES}
    return {
        "flagged": flagged,
        "categories": categories,
        "category_scores": {name: 0.9 if hit else 0.01 for name, hit in categories.items()},
    }


_CLEAN, _FLAGGED = _verdict(flagged=False), _verdict(flagged=True)


def _result(text: str) -> Mapping[str, object]:
    return _FLAGGED if SENTINEL in text else _CLEAN


def _fair(to: Connection, texts: Sequence[str]) -> None:
    to.later(_PROMPT, to.judge, texts)


def _slow(to: Connection, texts: Sequence[str]) -> None:
    to.later(1.5 * DEADLINE, to.judge, texts)


def _fails(status: str, *headers: str) -> Sky:
    return lambda to, _: to.send(b'{"error": {"message": "not now", "code": null}}', status, *headers)


def _stall(to: Connection, texts: Sequence[str]) -> None:
    """Nothing, ever."""


def _drip_head(to: Connection, texts: Sequence[str]) -> None:
    body = _body(map(_result, texts))
    to.drip(_head(body) + body)


def _drip_body(to: Connection, texts: Sequence[str]) -> None:
    body = _body(map(_result, texts))
    to.transport.write(_head(body))
    to.drip(body)


def _drip_error(to: Connection, texts: Sequence[str]) -> None:
    body = b'{"error": {"message": "not now, and not for a long time", "code": null}}'
    to.transport.write(_head(body, "500 Internal Server Error"))
    to.drip(body)


def _reset_at_once(to: Connection, texts: Sequence[str]) -> None:
    to.reset()


def _reset_halfway(to: Connection, texts: Sequence[str]) -> None:
    body = _body(map(_result, texts))
    to.transport.write(_head(body) + body[: len(body) // 2])
    to.later(_PROMPT, to.reset)


def _replies(body: bytes) -> Sky:
    return lambda to, _: to.send(body)


def _counted(change: Callable[[list[Any]], list[Any]]) -> Sky:
    """200, with other results in the place of the proper ones; all of them say that nothing is flagged."""
    return lambda to, texts: to.send(_body(iter(change([_CLEAN] * len(texts)))))


_FAILS: Final = _fails("500 Internal Server Error")
SKIES: Final[Mapping[str, Sequence[Sky]]] = {
    FAIR: [_fair],
    "429": [_fails("429 Too Many Requests", "retry-after: 1"), _fails("429 Too Many Requests")],
    "500": [_FAILS, _fails("503 Service Unavailable", "retry-after: 1")],
    "half 500": [_FAILS, _fair],
    "stall": [_stall],
    "slow": [_slow],
    "drip": [_drip_head, _drip_body, _drip_error],
    "reset": [_reset_at_once, _reset_halfway],
    "counts": [_counted(lambda results: results[1:]), _counted(lambda results: results * 2 + [_CLEAN])],
    "garbage": [_replies(b"<html>Welcome</html>"), _replies(b'{"results": [{'), _replies(b""), _replies(b"null")],
    "dead": [_reset_at_once],
    "deaf": [_reset_at_once],
}
"""What each weather makes of calls, in turn. Behind a dead or deaf door nobody hears one."""
assert SKIES.keys() == {FAIR, *FAULTS}


class Service:
    """The endpoint: its door, its connections, its weather."""

    def __init__(self, record: int) -> None:
        self.connections: set[Connection] = set()
        self._record = record
        self._skies: Iterator[Sky] = cycle(SKIES[FAIR])
        self._weather = ""
        self._door = _bound(0)
        self.port = int(self._door.getsockname()[1])
        self._server: asyncio.Server | None = None
        self._waiting: list[socket.socket] = []

    def sky(self, to: Connection, texts: Sequence[str]) -> None:
        next(self._skies)(to, texts)

    def record(self, texts: Sequence[str]) -> None:
        for text in texts:
            number = _NUMBER.search(text)
            assert number is not None
            os.write(self._record, f"{number[1]} {monotonic():.6f} {int(SENTINEL in text)}\n".encode())

    async def change(self, weather: str) -> None:
        """Change the weather; what was under way goes on as it began."""
        self._skies = cycle(SKIES[weather])
        was_open, self._weather = self._weather not in ("", "dead", "deaf"), weather
        if weather in ("dead", "deaf"):
            self._shut()
            if weather == "deaf":
                self._fill()
        elif not was_open:
            self._shut()
            self._server = await asyncio.get_running_loop().create_server(lambda: Connection(self), sock=self._door)

    def _shut(self) -> None:
        """Nobody listens; the port stays ours, and every connection to it is reset."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for each in [*self._waiting, self._door]:
            each.close()
        self._waiting.clear()
        for connection in list(self.connections):
            connection.reset()
        self._door = _bound(self.port)

    def _fill(self) -> None:
        """The door takes as many as it must, which is one or two; whoever comes then waits for ever."""
        self._door.listen(0)
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", self.port))
            self._waiting.append(client)


def _bound(port: int) -> socket.socket:
    """A socket at this port, or at a free one; it does not listen yet."""
    chance = Random()
    while True:
        door = socket.socket()
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            door.bind(("127.0.0.1", port or chance.choice(_PORTS)))
            return door
        door.close()
        assert not port, "the service's own port is taken"


async def main(file: str) -> None:
    service = Service(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT))
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    await service.change(FAIR)
    sys.stdout.write(f"{service.port}\n")
    sys.stdout.flush()
    while command := await commands.readline():  # until whoever started it is gone
        await service.change(command.decode().strip())
        sys.stdout.write(command.decode())
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
