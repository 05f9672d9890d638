"""A chat on FastAPI and one on Flask, as their users write them, for a test with several workers.

The environment says where everything is: STORE, MODERATION_URL, MODEL_URL, TIMING.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from flask import Flask, Response, request
from pydantic import BaseModel

from prescreen import Rule, Screen, Strikes, decision_of
from prescreen.asgi import ModerationMiddleware as AsgiMiddleware
from prescreen.openai import AsyncOpenAI, OpenAI
from prescreen.wsgi import ModerationMiddleware as WsgiMiddleware

logging.basicConfig(level=logging.DEBUG)

SECRET: Final = "a secret of more than sixteen characters"
LIMIT: Final = 3


def screen(subject: str, timing: Any = "before") -> Screen:
    return Screen(
        rules=[Rule("POST /chat", json="all", timing=timing), Rule("POST /stream", json="all", timing=timing)],
        moderator="openai",
        moderators={"openai": {"api_key": "k", "base_url": os.environ["MODERATION_URL"]}},
        deadline="20s",  # a slow machine is no subject here
        subject=[subject, "client"],
        secret=SECRET,
        strikes=Strikes(limit=LIMIT, suspend="2h"),
        store=os.environ["STORE"],
    )


class Chat(BaseModel):
    message: str


class Users:
    """The app's own authentication: who it is comes to lie in the scope's state."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            found = dict(scope["headers"]).get(b"authorization", b"").decode()
            scope.setdefault("state", {})["user"] = {"id": found or None}
        await self.app(scope, receive, send)


def make_fastapi() -> FastAPI:
    made = FastAPI()
    client = AsyncOpenAI(api_key="k", base_url=os.environ["MODEL_URL"], guard="screened")
    made.add_middleware(AsgiMiddleware, screen=screen("state:user.id", os.environ.get("TIMING", "before")))
    made.add_middleware(Users)

    @made.post("/chat")
    async def chat(chat: Chat, request: Request) -> dict[str, object]:
        answer = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": chat.message}])
        decision = decision_of(request)
        return {"answer": answer.choices[0].message.content, "decision": decision.id if decision else None}

    @made.post("/stream")
    async def stream(chat: Chat) -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            async with await client.responses.create(model="m", input=chat.message, stream=True) as events:
                async for event in events:
                    yield event.type

        return StreamingResponse(pieces())

    @made.get("/unscreened")
    async def unscreened() -> str:
        await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "never sent"}])
        raise AssertionError

    return made


def make_flask() -> Flask:
    made = Flask(__name__)
    client = OpenAI(api_key="k", base_url=os.environ["MODEL_URL"], guard="screened")
    made.wsgi_app = WsgiMiddleware(made.wsgi_app, screen("header:authorization"))  # type: ignore[method-assign]  # Flask's own way

    @made.post("/chat")
    def chat() -> dict[str, object]:
        content = request.get_json()["message"]
        answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": content}])
        return {"answer": answer.choices[0].message.content}

    @made.post("/stream")
    def stream() -> Response:
        content = request.get_json()["message"]

        def pieces() -> Iterator[str]:
            with client.responses.create(model="m", input=content, stream=True) as events:
                for event in events:
                    yield event.type

        return Response(pieces())

    @made.get("/unscreened")
    def unscreened() -> str:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "never sent"}])
        raise AssertionError

    return made


if "MODEL_URL" in os.environ:
    fastapi_app, flask_app = make_fastapi(), make_flask()
