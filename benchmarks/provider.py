"""A moderation server in a process of its own: 50 ms for each call, one result of 1.2 kB for each input, all clean.

    python -m benchmarks.provider PORT [SECONDS]

It has the wire format of `POST /v1/moderations`, and for the benchmarks
    GET  /stats    calls and texts since the last reset, and the seconds that it really took for a call, on average
    POST /reset    from zero
    POST /hold     from now on keep every answer
    POST /release  give them all
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, Final

import httptools
import uvloop

from fake_openai import CATEGORIES

_RESULT: Final = json.dumps(
    {
        "flagged": False,
        "categories": dict.fromkeys(CATEGORIES, False),
        "category_scores": {name: 1.0370887e-05 + number / 1e7 for number, name in enumerate(CATEGORIES)},
        "category_applied_input_types": {name: ["text"] for name in CATEGORIES},
    }
).encode()
_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


class Provider:
    """What it was asked, and what it has not answered yet."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._held: list[Callable[[], None]] | None = None
        self._reset()

    def take(self, write: Callable[[bytes], None], path: bytes, body: bytes) -> None:
        if path == b"/v1/moderations":
            self._moderate(write, body)
        else:
            if path != b"/stats":
                {b"/reset": self._reset, b"/hold": self._hold, b"/release": self._release}[path]()
            _send(write, json.dumps(self._stats()).encode())

    def _moderate(self, write: Callable[[bytes], None], body: bytes) -> None:
        given = json.loads(body)["input"]
        count = 1 if isinstance(given, str) else len(given)
        self._calls += 1
        self._texts += count
        answer = partial(self._answer, write, count, perf_counter())
        if self._held is not None:
            self._held.append(answer)
        elif self._seconds:
            asyncio.get_running_loop().call_later(self._seconds, answer)
        else:
            answer()

    def _answer(self, write: Callable[[bytes], None], count: int, since: float) -> None:
        self._answered += 1
        self._took += perf_counter() - since
        results = b",".join([_RESULT] * count)
        _send(write, b'{"id":"modr-1","model":"omni-moderation-latest","results":[' + results + b"]}")

    def _stats(self) -> dict[str, float]:
        return {"calls": self._calls, "texts": self._texts, "took": self._took / (self._answered or 1)}

    def _reset(self) -> None:
        self._calls = self._texts = self._answered = 0
        self._took = 0.0

    def _hold(self) -> None:
        self._held = []

    def _release(self) -> None:
        held, self._held = self._held or [], None
        for answer in held:
            answer()


def _send(write: Callable[[bytes], None], body: bytes) -> None:
    write(_HEAD % len(body) + body)


class _Connection(asyncio.Protocol):
    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._path, self._body = b"", b""

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._provider.take(self._write, self._path, self._body)

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)


async def main(port: int, seconds: float = 0.05) -> None:
    provider = Provider(seconds)
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(provider), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), *map(float, sys.argv[2:])))
