"""Requests through both middlewares in one process, without a server or a network, for counting what they cost.

    python -m benchmarks.request bytecode     prints, by kind, the bytecode instructions that one takes
    python -m benchmarks.request calls        for callgrind: calls getloadavg (nothing else here does) on both sides of each kind

Each kind is warmed up first. The moderator answers at once, so that an uncached request is all of prescreen and nothing else.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from types import FrameType
from typing import Any, Final, Protocol

from prescreen import Rule, Verdict
from prescreen.asgi import ModerationMiddleware as AsgiMiddleware
from prescreen.model import Item
from prescreen.screen import ScreenOptions
from prescreen.wsgi import ModerationMiddleware as WsgiMiddleware

WARM, COUNTED = 20, 50
KINDS: Final = ("unmatched", "cached", "uncached")
NAMES: Final = [f"{side} {kind}" for side in ("asgi", "wsgi") for kind in KINDS]
"""What is counted, in this order."""


class Meter(Protocol):
    def start(self) -> None: ...
    def stop(self) -> None: ...


class Calls:
    """`callgrind --dump-before=getloadavg` counts from one to the next; of those, what lies between two of a pair."""

    def start(self) -> None:
        os.getloadavg()

    stop = start


class Bytecode:
    """Counts the instructions of the interpreter, in all threads that begin after it does."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self._count = 0
        threading.settrace(self._trace)
        sys.settrace(self._trace)

    def start(self) -> None:
        self._count = 0

    def stop(self) -> None:
        self.counts.append(self._count)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            self._count += 1
        return self._trace


class Judge:
    """Finds nothing in any text, at once. Its identity says that its verdicts may be remembered."""

    name = identity = "judge"

    async def moderate(self, items: Sequence[Item]) -> list[Verdict]:
        return self.moderate_sync(items, 0)

    def moderate_sync(self, items: Sequence[Item], timeout: float) -> list[Verdict]:
        return [Verdict(flagged=False, categories={"violence": False}, scores={"violence": 0.01}) for _ in items]


def requests(meter: Meter) -> Iterator[tuple[str, bytes]]:
    """Path and body of one request after the other, of each kind; the meter runs while they are performed."""
    for kind in KINDS:
        made = [_request(kind, number) for number in range(WARM + COUNTED)]
        yield from made[:WARM]
        gc.collect()
        gc.freeze()  # what start-up left behind is nobody's cost
        meter.start()
        yield from made[WARM:]
        meter.stop()


def _request(kind: str, number: int) -> tuple[str, bytes]:
    text = f"number {number if kind == 'uncached' else 0:6}: " + "a name for a cat, " * 15
    return "/other" if kind == "unmatched" else "/chat", json.dumps({"message": text}).encode()


def options() -> ScreenOptions:
    return {"rules": [Rule("POST /chat", json=["$.message"])], "moderator": Judge()}


async def asgi(meter: Meter) -> None:
    async def bare(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    async def sent(event: Any) -> None:
        raise AssertionError(event)

    app = AsgiMiddleware(bare, **options())
    for path, body in requests(meter):
        await app(_scope(path, body), partial(_received, body), sent)


def _scope(path: str, body: bytes) -> dict[str, Any]:
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    return {
        "type": "http", "http_version": "1.1", "method": "POST", "path": path, "raw_path": path.encode(), "root_path": "",
        "query_string": b"", "headers": headers, "client": ("127.0.0.1", 1), "extensions": {},
    }  # fmt: skip


async def _received(body: bytes) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": False}


def wsgi(meter: Meter) -> None:
    def bare(environ: Any, start_response: Any) -> list[bytes]:
        environ["wsgi.input"].read()
        return [b""]

    app = WsgiMiddleware(bare, **options())
    for path, body in requests(meter):
        b"".join(app(_environ(path, body), None))  # type: ignore[arg-type]  # nothing is answered


def _environ(path: str, body: bytes) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "POST", "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": "", "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "127.0.0.1", "CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body)),
        "REMOTE_ADDR": "127.0.0.1", "wsgi.input": io.BytesIO(body), "wsgi.multithread": True,
    }  # fmt: skip


def main() -> None:
    meter = Bytecode() if sys.argv[1] == "bytecode" else Calls()
    asyncio.run(asgi(meter))
    wsgi(meter)
    if isinstance(meter, Bytecode):
        print(json.dumps([round(count / COUNTED) for count in meter.counts]))


if __name__ == "__main__":
    main()
