"""A run from the first server to the last: the weather, the load, what is killed and when, and the report of it all."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import monotonic
from typing import IO, Final

from chaos.load import Load, Measured
from chaos.plan import FAIR, Phase
from servers import Redis, serve

TESTS: Final = Path(__file__).parent.parent
WORKERS: Final = 2
# A thread for every client and both watchers, wherever they are connected; connections are kept while a client waits.
APPS: Final = {
    "fastapi": ("uvicorn", "--workers", str(WORKERS), "--timeout-keep-alive", "60", "--port", "{port}", "{app}"),
    "flask": (
        *("gunicorn", "--workers", str(WORKERS), "--threads", "32", "--keep-alive", "60"),
        *("--bind", "127.0.0.1:{port}", "{app}"),
    ),
}


@dataclass(frozen=True, slots=True)
class Weather:
    """What it was like, from when to when."""

    name: str
    start: float
    end: float
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Handled:
    """What a handler has put on record about one request that reached it."""

    number: int
    at: float
    action: str
    cause: str
    degraded: bool
    rung: str | None

    @classmethod
    def read(cls, line: str) -> Handled:
        number, at, action, cause, degraded, rung = line.split()
        return cls(int(number), float(at), action, cause, degraded == "1", None if rung == "-" else rung)


@dataclass(frozen=True, slots=True)
class Judged:
    """What the moderation service has put on record about one text."""

    text: int
    at: float
    flagged: bool

    @classmethod
    def read(cls, line: str) -> Judged:
        text, at, flagged = line.split()
        return cls(int(text), float(at), flagged == "1")


@dataclass(frozen=True, slots=True)
class Kill:
    """A worker of an app, killed."""

    app: str
    pid: int
    at: float


@dataclass(slots=True)
class Report:
    """Everything that is known of a run."""

    measured: Measured
    weathers: list[Weather] = field(default_factory=list)
    handled: list[Handled] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)


class Service:
    """The moderation service in its own process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._commands, self._answers = _pipe(process.stdin), _pipe(process.stdout)
        self.url: Final = f"http://127.0.0.1:{int(self._answers.readline())}/v1"

    def change(self, weather: str) -> None:
        """Change the weather; it holds when this returns."""
        self._commands.write(f"{weather}\n")
        self._commands.flush()
        assert self._answers.readline().strip() == weather, "the moderation service has failed"


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def run(folder: Path, phases: Iterable[Phase], chance: Random, tell: Callable[[Report], None] | None = None) -> Report:
    """Start everything, go through the phases, end everything. `tell` is told after each phase."""
    with ExitStack() as stack:
        service = stack.enter_context(_service(folder / "judged"))
        redis = stack.enter_context(Redis())
        ports = {app: stack.enter_context(_app(app, folder, service.url, redis.url)) for app in APPS}
        load = Load(ports, chance)
        report = Report(load.measured)
        asyncio.run(_Run(report, load, service, redis, tell).through(phases))
    report.handled = [Handled.read(line) for app in APPS for line in _lines(folder / f"handled-{app}")]
    report.judged = [Judged.read(line) for line in _lines(folder / "judged")]
    return report


class _Run:
    def __init__(
        self, report: Report, load: Load, service: Service, redis: Redis, tell: Callable[[Report], None] | None
    ) -> None:
        self._report, self._load, self._service, self._redis = report, load, service, redis
        self._tell = tell

    async def through(self, phases: Iterable[Phase]) -> None:
        await self._load.settle(WORKERS)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._load.run())
            try:
                for phase in phases:
                    await self._through(phase)
                await self._put(FAIR, 0)  # what is still under way ends in peace
            finally:
                self._load.is_over = True

    async def _through(self, phase: Phase) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._put(phase.weather, phase.seconds, phase.event))
            if phase.event is not None:
                await asyncio.sleep(phase.event_after)
                await self._happen(phase.event, phase.seconds)
        if self._tell is not None:
            self._tell(self._report)

    async def _put(self, weather: str, seconds: float, event: str | None = None) -> None:
        start = monotonic()
        await asyncio.to_thread(self._service.change, weather)
        await asyncio.sleep(max(start + seconds - monotonic(), 0))
        self._report.weathers.append(Weather(weather, start, monotonic(), event))

    async def _happen(self, event: str, seconds: float) -> None:
        match event:
            case "kill workers":
                for app in APPS:
                    self._report.kills.append(Kill(app, pid := self._load.worker(app), monotonic()))
                    os.kill(pid, signal.SIGKILL)
            case "restart store":
                await asyncio.to_thread(self._redis.stop)
                await asyncio.sleep(seconds / 2)
                await asyncio.to_thread(self._redis.start)
            case "freeze store":
                with self._redis.stalled():
                    await asyncio.sleep(seconds / 2)
            case _:
                raise AssertionError(event)


@contextmanager
def _service(record: Path) -> Iterator[Service]:
    command = [sys.executable, "-m", "chaos.service", str(record)]
    with subprocess.Popen(
        command, cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment()
    ) as process:
        try:
            yield Service(process)
        finally:
            process.kill()


@contextmanager
def _app(app: str, folder: Path, moderation: str, store: str) -> Iterator[int]:
    with serve(
        APPS[app],
        f"chaos.apps:{app}_app",
        TESTS,
        output=folder / f"{app}.log",
        **_environment(),
        HANDLED=str(folder / f"handled-{app}"),
        MODERATION_URL=moderation,
        STORE=store,
        PRESCREEN_SECRET="a secret of more than sixteen characters",
    ) as port:
        yield port


def _environment() -> dict[str, str]:
    paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []
