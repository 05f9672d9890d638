"""The apps under the weather, on FastAPI and on Flask. Each has two screened routes, one for each way to fail.

The environment says where everything is: MODERATION_URL, STORE, HANDLED; PRESCREEN_SECRET is prescreen's own.
"""

from __future__ import annotations

import os
from time import monotonic
from typing import Final

from fastapi import FastAPI, Request
from flask import Flask, request
from pydantic import BaseModel

from chaos.plan import DEADLINE, LENIENT, PROBE, RUNGS, STRICT
from prescreen import Decision, Rule, Screen, Strikes, decision_of
from prescreen.asgi import ModerationMiddleware as AsgiMiddleware
from prescreen.wsgi import ModerationMiddleware as WsgiMiddleware

# Breakers that open within a fault of a second, and verdicts that are stale in the next.
_BREAKER: Final = {"rate": 0.5, "calls": 5, "window": "1s", "probe": PROBE}
_CACHE: Final = {"ttl": "2s", "stale": "1h"}


def screen(path: str) -> Screen:
    return Screen(
        rules=[Rule(f"POST {path}", json=["$.text"])],
        moderators={"openai": {"api_key": "k", "base_url": os.environ["MODERATION_URL"]}},
        deadline=DEADLINE,
        on_error="reject" if path == STRICT else RUNGS,
        subject="header:x-user",
        strikes=Strikes(limit=10**9),  # so that every request asks the store, and none is suspended
        store=os.environ["STORE"],
        breaker=_BREAKER,
        cache=_CACHE,
    )


class Message(BaseModel):
    """A request: its own number, and a text that holds the text's."""

    number: int
    text: str


def note(number: int, decision: Decision | None) -> None:
    """One line in one write: nothing that is on record is lost with its process."""
    assert decision is not None
    words = (
        number,
        f"{monotonic():.6f}",
        decision.action,
        decision.cause,
        int(decision.degraded),
        decision.rung or "-",
    )
    os.write(_HANDLED, (" ".join(map(str, words)) + "\n").encode())


def make_fastapi() -> FastAPI:
    made = FastAPI()
    for path in (STRICT, LENIENT):
        made.add_middleware(AsgiMiddleware, screen=screen(path))

    @made.post(STRICT)
    @made.post(LENIENT)
    async def handle(message: Message, request: Request) -> dict[str, int]:
        note(message.number, decision_of(request))
        return {"number": message.number}

    @made.get("/ping")
    async def ping() -> int:
        return os.getpid()

    return made


def make_flask() -> Flask:
    made = Flask(__name__)
    for path in (STRICT, LENIENT):
        made.wsgi_app = WsgiMiddleware(made.wsgi_app, screen=screen(path))  # type: ignore[method-assign]  # Flask's own way

    @made.post(STRICT)
    @made.post(LENIENT)
    def handle() -> dict[str, int]:
        number = int(request.get_json()["number"])
        note(number, decision_of(request))
        return {"number": number}

    @made.get("/ping")
    def ping() -> str:
        return str(os.getpid())

    return made


if "HANDLED" in os.environ:
    _HANDLED = os.open(os.environ["HANDLED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    fastapi_app, flask_app = make_fastapi(), make_flask()
