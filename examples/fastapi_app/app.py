"""A chat service on FastAPI: no user's message reaches the model before it has been screened."""

import logging
import os
import secrets
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI, Request
from pydantic import BaseModel

from prescreen import Screen, decision_of
from prescreen.asgi import ModerationMiddleware

logging.basicConfig(level=logging.INFO)  # to see the decisions

# Users are known by a keyed hash. Without a secret of your own each process makes one: fine for a try with one worker.
os.environ.setdefault("PRESCREEN_SECRET", secrets.token_hex(32))

# Made here, so that a mistake in the configuration ends the start and not the first request.
screen = Screen(
    config=Path(__file__).with_name("prescreen.toml"),
    moderator="openai" if os.environ.get("OPENAI_API_KEY") else "keywords",
)
app = FastAPI(title="prescreen example")
app.add_middleware(ModerationMiddleware, screen=screen)
handled = 0


class Message(BaseModel):
    role: Literal["system", "user", "assistant"]  # free text would be one more place to screen
    content: str | list[dict[str, Any]]


class Chat(BaseModel):
    messages: list[Message]


@app.post("/chat")
async def chat(chat: Chat, request: Request) -> dict[str, object]:
    """Runs only for messages that passed. This is where you would call your model."""
    global handled
    handled += 1
    decision = decision_of(request)
    assert decision is not None  # there is a rule for this route
    return {"answer": f"You sent {len(chat.messages)} message(s).", "decision_id": decision.id}


@app.get("/")
async def index() -> dict[str, str]:
    """A route without a rule: prescreen does not touch it."""
    global handled
    handled += 1
    return {"service": "prescreen example"}


@app.get("/stats")
async def stats() -> dict[str, int]:
    """How often the other handlers have run."""
    return {"handled": handled}
