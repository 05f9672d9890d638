"""What parts of prescreen cost, measured in one process: `python -m benchmarks.parts`. Times are medians of rounds."""

from __future__ import annotations

import asyncio
import logging
import random
import string
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from statistics import median
from time import perf_counter
from typing import Any

from prescreen import Rule, Screen, Text, Verdict
from prescreen.asgi import ModerationMiddleware as AsgiMiddleware
from prescreen.match import RuleSet
from prescreen.moderators.keywords import KeywordModerator
from prescreen.wsgi import ModerationMiddleware as WsgiMiddleware

ROUNDS, CALLS = 15, 20_000
RULES = [Rule("POST /chat", json=["$.messages[*].content"]), Rule("POST /posts/{id}/comments", json=["$.body"])]


def main() -> None:
    logging.getLogger("prescreen").setLevel(logging.ERROR)
    print(f"import prescreen: {import_time():.0f} ms (an empty Python: {import_time('sys'):.0f} ms)")
    for title, bare, wrapped in (
        ("ASGI", asgi(None), asgi(AsgiMiddleware)),
        ("WSGI", wsgi(None), wsgi(WsgiMiddleware)),
    ):
        without, with_it = interleaved(bare, wrapped)
        print(f"{title}, unmatched request: {with_it - without:.2f} µs more ({without:.2f} -> {with_it:.2f})")
    print(f"matching one path against 1,000 rules: {matching():.2f} µs")
    print(f"keywords, 200 characters, 2,000 phrases: {keywords():.1f} µs")
    print(f"screening a 300-character chat message, moderator excluded: {screening():.0f} µs")


def interleaved(*tasks: Callable[[int], None]) -> list[float]:
    """Microseconds a call of each, by turns, so that a busy moment hits them all."""
    times: list[list[float]] = [[] for _ in tasks]
    for _ in range(ROUNDS):
        for index, task in enumerate(tasks):
            start = perf_counter()
            task(CALLS)
            times[index].append((perf_counter() - start) / CALLS * 1e6)
    return [median(each) for each in times]


def asgi(middleware: Any) -> Callable[[int], None]:
    async def bare(scope: Any, receive: Any, send: Any) -> None:
        return None

    app = middleware(bare, rules=RULES, moderator=clean) if middleware else bare
    scope = {"type": "http", "method": "GET", "path": "/items/42/details", "root_path": "", "headers": []}

    nothing: Any = None

    async def run(calls: int) -> None:
        for _ in range(calls):
            await app(scope, nothing, nothing)

    return lambda calls: asyncio.run(run(calls))


def wsgi(middleware: Any) -> Callable[[int], None]:
    def bare(environ: Any, start_response: Any) -> list[bytes]:
        return []

    app = middleware(bare, rules=RULES, moderator=clean) if middleware else bare
    start_response: Any = None
    environ = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/items/42/details"}

    def run(calls: int) -> None:
        for _ in range(calls):
            app(environ, start_response)

    return run


async def clean(items: Any) -> list[Verdict]:
    return [Verdict(flagged=False) for _ in items]


def matching() -> float:
    """No path comes twice, so nothing is remembered."""
    rules = RuleSet([Rule(f"POST /section{n}/{{id}}/comments", json=["$.body"]) for n in range(1000)])
    paths = (f"/section999/{number}/comments" for number in count())

    def run(calls: int) -> None:
        for _ in range(calls):
            rules.on_path(next(paths))

    return interleaved(run)[0]


def keywords() -> float:
    chance = random.Random(1)
    words = ["".join(chance.choices(string.ascii_lowercase, k=6)) for _ in range(6000)]
    phrases = [" ".join(words[start : start + 3]) for start in range(0, 6000, 3)]
    screen = KeywordModerator(phrases={"hate": phrases})
    texts = [Text("", " ".join(chance.choices(words, k=29))[:200])]

    def run(calls: int) -> None:
        for _ in range(calls // 10):
            screen.moderate_sync(texts)

    return interleaved(run)[0] * 10


def screening() -> float:
    screen = Screen(rules=RULES, moderator=clean)
    body = b'{"messages":[{"role":"user","content":"' + b"a name for a cat, " * 17 + b'"}]}'
    app = AsgiMiddleware(_answer, screen)
    scope = {
        "type": "http", "method": "POST", "path": "/chat", "root_path": "", "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())],
    }  # fmt: skip

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def run(calls: int) -> None:
        for _ in range(calls // 20):
            await app(dict(scope), receive, _ignore)

    return interleaved(lambda calls: asyncio.run(run(calls)))[0] * 20


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    await receive()


async def _ignore(event: Any) -> None:
    return None


def import_time(module: str = "prescreen") -> float:
    """Milliseconds of a new process that imports the module and ends; the median of nine."""
    times = []
    for _ in range(9):
        start = perf_counter()
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
        times.append((perf_counter() - start) * 1000)
    return median(times)


if __name__ == "__main__":
    main()
