"""Those who send requests, and those who watch the clock meanwhile: all in one event loop, on plain sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from random import Random
from time import monotonic
from typing import Final, Literal

from chaos.plan import HARMLESS, LENIENT, SENTINEL, STRICT

_PATIENCE: Final = 10.0  # seconds; an answer that takes longer is none
_RESENT: Final = 5  # times, after a lost connection
_KEPT: Final = 0.8  # of the connections, after each request; the others are made anew
_TICK: Final = 0.02  # seconds between two looks at the clock

Kind = Literal["new", "flagged", "repeated", "repeated flagged"]
KINDS: Final[Mapping[Kind, float]] = {"new": 0.6, "flagged": 0.2, "repeated": 0.15, "repeated flagged": 0.05}
_REPEATED: Final = 8  # texts of each kind

Fate = Literal["answered", "lost", "never answered"]


@dataclass(slots=True)
class Sent:
    """One request, from its last byte sent to the last byte of its answer. `status` is None without one."""

    number: int
    app: str
    path: str
    kind: Kind
    text: int
    sent: float
    ended: float = 0.0
    fate: Fate = "never answered"
    status: int | None = None
    retry_after: str | None = None
    resent: int | None = None

    @property
    def is_flagged(self) -> bool:
        return self.kind.endswith("flagged")

    @property
    def took(self) -> float:
        return self.ended - self.sent


@dataclass(frozen=True, slots=True)
class Sample:
    """How long something took that takes no time."""

    at: float
    took: float

    @property
    def end(self) -> float:
        return self.at + self.took


@dataclass(slots=True)
class Measured:
    """All that the load has seen: requests, `pings` by app, and how late its own event loop was."""

    sent: list[Sent] = field(default_factory=list)
    pings: dict[str, list[Sample]] = field(default_factory=dict)
    lags: list[Sample] = field(default_factory=list)
    workers: dict[str, dict[int, float]] = field(default_factory=dict)
    """By app, when each worker (its process id) first answered."""


class _Lost(Exception):
    """The connection has ended before the answer has."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes
    sent: float
    ended: float


class _Connection:
    """One client's connection, made anew when it must be."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._pipes: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> _Answer:
        """The answer. Raises _Lost, TimeoutError."""
        lines = [f"{method} {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        sent = monotonic()
        try:
            reader, writer = await self._open()
            sent = monotonic()
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            async with asyncio.timeout(_PATIENCE):
                return await self._answer(reader, sent)
        except (OSError, EOFError) as error:
            self.close()
            if isinstance(error, TimeoutError):
                raise
            raise _Lost(sent) from error

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._pipes is None or self._pipes[0].at_eof():
            self.close()
            self._pipes = await asyncio.open_connection("127.0.0.1", self._port)
        return self._pipes

    async def _answer(self, reader: asyncio.StreamReader, sent: float) -> _Answer:
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.split(": ", 1) for line in lines if line)
        headers = {name.lower(): value for name, value in pairs}
        body = await reader.readexactly(int(headers["content-length"]))
        ended = monotonic()
        if headers.get("connection") == "close":
            self.close()
        return _Answer(int(status.split()[1]), headers, body, sent, ended)

    def close(self) -> None:
        if self._pipes is not None:
            self._pipes[1].close()
            self._pipes = None


class Load:
    """Clients for the apps at these ports. `rate` is of requests in a second to each app, while answers come at once."""

    def __init__(self, ports: Mapping[str, int], chance: Random, *, clients: int = 16, rate: float = 30) -> None:
        self.measured: Final = Measured(pings={app: [] for app in ports}, workers={app: {} for app in ports})
        self.is_over = False
        self._ports, self._chance = ports, chance
        self._clients, self._pause = clients, clients / rate
        self._numbers, self._texts = count(1), count(1)
        self._pool = {
            kind: [next(self._texts) for _ in range(_REPEATED)] for kind in KINDS if kind.startswith("repeated")
        }
        self._newest: dict[str, int] = {}

    async def settle(self, workers: int) -> None:
        """Wait until every worker of every app has answered."""
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for app in self._ports:
                group.create_task(self._watch(app, partial(self._has, app, workers)))
        for pings in self.measured.pings.values():
            pings.clear()  # they waited for the workers to start

    def _has(self, app: str, workers: int) -> bool:
        return len(self.measured.workers[app]) >= workers

    async def run(self) -> None:
        """Send until `is_over`, and then until everything is answered."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_at_the_clock())
            for app in self._ports:
                group.create_task(self._watch(app, lambda: self.is_over))
                for number in range(self._clients):
                    group.create_task(self._client(app, f"{app}-{number}"))

    def worker(self, app: str) -> int:
        """The process id of the worker that answered last."""
        return self._newest[app]

    async def _client(self, app: str, user: str) -> None:
        connection = _Connection(self._ports[app])
        while not self.is_over:
            await asyncio.sleep(self._chance.uniform(0, 2 * self._pause))
            resent = None
            for _ in range(_RESENT):
                sent = self._next(app, resent)
                await self._send(connection, sent, user)
                if sent.fate != "lost":
                    break
                resent = sent
            if self._chance.random() > _KEPT:
                connection.close()
        connection.close()

    def _next(self, app: str, lost: Sent | None) -> Sent:
        number = next(self._numbers)
        if lost is not None:
            lost.resent = number
            sent = Sent(number, app, lost.path, lost.kind, lost.text, 0.0)
        else:
            kind = self._chance.choices(list(KINDS), list(KINDS.values()))[0]
            text = self._chance.choice(self._pool[kind]) if kind in self._pool else next(self._texts)
            sent = Sent(number, app, self._chance.choice((STRICT, LENIENT)), kind, text, 0.0)
        self.measured.sent.append(sent)
        return sent

    @staticmethod
    async def _send(connection: _Connection, sent: Sent, user: str) -> None:
        text = f"text {sent.text}, {SENTINEL if sent.is_flagged else HARMLESS}"
        body = json.dumps({"number": sent.number, "text": text}).encode()
        sent.sent = monotonic()
        try:
            answer = await connection.ask("POST", sent.path, body, content_type="application/json", x_user=user)
        except _Lost as error:
            sent.sent, sent.ended, sent.fate = error.args[0], monotonic(), "lost"
        except TimeoutError:
            sent.ended = monotonic()
        else:
            sent.sent, sent.ended, sent.status, sent.fate = answer.sent, answer.ended, answer.status, "answered"
            sent.retry_after = answer.headers.get("retry-after")

    async def _watch(self, app: str, is_over: Callable[[], bool]) -> None:
        """Ask for what is not screened, over and over: each time on a new connection, so that each worker has its turn."""
        connection = _Connection(self._ports[app])
        while not is_over():
            with suppress(_Lost, TimeoutError):
                answer = await connection.ask("GET", "/ping", connection="close")
                self._newest[app] = int(answer.body)
                self.measured.pings[app].append(Sample(answer.sent, answer.ended - answer.sent))
                self.measured.workers[app].setdefault(self._newest[app], answer.ended)
            connection.close()
            await asyncio.sleep(2 * _TICK)

    async def _look_at_the_clock(self) -> None:
        while not self.is_over:
            before = monotonic()
            await asyncio.sleep(_TICK)
            self.measured.lags.append(Sample(before + _TICK, max(monotonic() - before - _TICK, 0.0)))
