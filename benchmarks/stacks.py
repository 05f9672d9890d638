"""The servers that are measured, how they are started, and how wrk is set on them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.request import Request, urlopen

from servers import serve

ROOT: Final = Path(__file__).parent.parent
PATH: Final = os.pathsep.join(str(ROOT / folder) for folder in ("", "src", "tests"))
"""The PYTHONPATH of what is started."""
_MARKS: Final = (f"run {os.getpid()}-{number}" for number in count())


@dataclass(frozen=True, slots=True)
class Stack:
    """A framework on a server.

    `kinds` are its columns, `connections` what is open at once under load, and `least` the requests a second, each with
    a message of its own, that prescreen has to do then.
    """

    name: str
    app: str
    command: tuple[str, ...]
    kinds: tuple[str, ...]
    connections: int
    least: int


def _uvicorn(*options: str) -> tuple[str, ...]:
    return ("uvicorn", "--no-access-log", *options, "--port", "{port}", "{app}")


STACKS: Final = (
    Stack(
        "Starlette on uvicorn",  # as `pip install uvicorn` has it
        "benchmarks.starlette_app:app",
        _uvicorn("--loop", "asyncio", "--http", "h11"),
        ("bare", "by hand", "careful", "prescreen"),
        64,
        1100,
    ),
    Stack(
        "Starlette on uvicorn[standard]",  # in C, as far as that goes
        "benchmarks.starlette_app:app",
        _uvicorn("--loop", "uvloop", "--http", "httptools"),
        ("bare", "careful", "prescreen"),
        64,
        1100,
    ),
    Stack(
        "Flask on gunicorn",
        "benchmarks.flask_app:app",
        ("gunicorn", "--worker-class", "gthread", "--threads", "32", "--bind", "127.0.0.1:{port}", "{app}"),
        ("bare", "by hand", "prescreen"),
        32,  # more would wait for a thread
        550,
    ),
)


@dataclass(frozen=True, slots=True)
class Site:
    """A server that runs, and the moderation server behind it."""

    port: int
    provider: int

    def load(self, kind: str, connections: int, seconds: int) -> dict[str, float]:
        """What wrk found and the two servers say of it.

        `rate` of 2xx a second, `refused` for the other answers, `p50` and `p99` in ms, `cpu` of the server in ms a request;
        of the provider `calls` per 1,000 texts, `texts` in all, and `took`, its ms for a call. Raises AssertionError
        for a request without an answer.
        """
        tell(self.provider, "reset")
        before = self.usage()["cpu"]
        found = self._wrk(kind, connections, seconds)
        time.sleep(0.2)  # what wrk left in the middle ends
        seen = tell(self.provider, "stats")
        # Each connection had one request open at the end, which the servers saw as well, or were about to.
        begun = found["requests"] + connections
        return {
            **found,
            "rate": (found["requests"] - found["refused"]) / found["seconds"],
            "cpu": (self.usage()["cpu"] - before) / begun * 1000,
            "calls": seen["calls"] / (min(seen["texts"], begun) or 1) * 1000,
            "texts": seen["texts"],
            "took": seen["took"] * 1000,
        }

    def _wrk(self, kind: str, connections: int, seconds: int) -> dict[str, float]:
        script = str(ROOT / "benchmarks/wrk.lua")
        options = [f"-c{connections}", "-t1", f"-d{seconds}s", "--timeout", "30s", "-s", script]
        command = ["wrk", *options, f"http://127.0.0.1:{self.port}", "--", kind, next(_MARKS)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found: dict[str, float] = json.loads(printed.splitlines()[-1])
        assert not found["broken"], printed
        return found

    def usage(self) -> dict[str, float]:
        """See `ruled.usage`."""
        found: dict[str, float] = ask(self.port, "/usage")
        return found

    def post(self, path: str, document: object) -> None:
        ask(self.port, path, json.dumps(document).encode())


@contextmanager
def provider(seconds: float = 0.05) -> Iterator[int]:
    """The moderation server; its port."""
    command = ("benchmarks.provider", "{port}", str(seconds))
    with serve(command, "", ROOT, PYTHONPATH=PATH) as port:
        yield port


@contextmanager
def site(stack: Stack, kind: str, provider: int, **environment: str) -> Iterator[Site]:
    """One server, ready to answer."""
    environment |= {"BENCHMARK_KIND": kind, "BENCHMARK_PROVIDER": f"http://127.0.0.1:{provider}/v1", "PYTHONPATH": PATH}
    with serve(stack.command, stack.app, ROOT, output=None, **environment) as port:
        found = Site(port, provider)
        found.post("/chat", {"message": "hello"})
        yield found


@contextmanager
def sites(stack: Stack, provider: int) -> Iterator[Mapping[str, Site]]:
    """One of each kind."""
    with ExitStack() as running:
        yield {kind: running.enter_context(site(stack, kind, provider)) for kind in stack.kinds}


def tell(port: int, what: str) -> dict[str, float]:
    """Give the provider an order, or ask it for its figures."""
    stats: dict[str, float] = ask(port, f"/{what}", None if what == "stats" else b"")
    return stats


def ask(port: int, path: str, body: bytes | None = None) -> Any:
    """The JSON that a server answers; with a body by POST."""
    request = Request(f"http://127.0.0.1:{port}{path}", body, {"content-type": "application/json"})
    with urlopen(request, timeout=60) as response:
        return json.load(response)
