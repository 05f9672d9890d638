"""An app in Starlette, bare or with one of three kinds of moderation, as the environment says (`benchmarks.stacks`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from benchmarks import ruled

received: int = 0


@asynccontextmanager
async def started(_app: Starlette) -> AsyncIterator[None]:
    ruled.settle()  # the middleware is there by now
    yield


async def chat(request: Request) -> JSONResponse:
    return JSONResponse({"members": len(await request.json())})


async def upload(request: Request) -> JSONResponse:
    return JSONResponse({"bytes": sum([len(chunk) async for chunk in request.stream()])})


async def usage(request: Request) -> JSONResponse:
    return JSONResponse({**ruled.usage(), "received": received})


def by_hand() -> Middleware:
    """(b): what most write first."""
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=ruled.PROVIDER, api_key="benchmark")

    class ByHand(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Any:
            if request.method == "POST" and request.url.path in ruled.PATHS:
                asked = ruled.texts_of(await request.json())
                answer = await client.moderations.create(input=asked)
                if any(result.flagged for result in answer.results):
                    return JSONResponse({"error": "flagged"}, 400)
            return await call_next(request)

    return Middleware(ByHand)


def careful() -> Middleware:
    """(c): the same without Starlette's BaseHTTPMiddleware, and with its own copy of the body."""
    import json

    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=ruled.PROVIDER, api_key="benchmark")

    class Careful:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
            if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in ruled.PATHS:
                return await self.app(scope, receive, send)
            body, more = b"", True
            while more:
                event = await receive()
                if event["type"] == "http.disconnect":
                    return None
                body += event.get("body", b"")
                more = event.get("more_body", False)
            answer = await client.moderations.create(input=ruled.texts_of(json.loads(body)))
            if any(result.flagged for result in answer.results):
                return await JSONResponse({"error": "flagged"}, 400)(scope, receive, send)
            replayed = False

            async def replay() -> Any:
                nonlocal replayed
                if replayed:
                    return await receive()
                replayed = True
                return {"type": "http.request", "body": body, "more_body": False}

            return await self.app(scope, replay, send)

    return Middleware(Careful)


def prescreened() -> Middleware:
    from prescreen.asgi import ModerationMiddleware

    return Middleware(ModerationMiddleware, **ruled.options())


class Counting:
    """Outside of everything else: how much of the bodies has come in."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def counted() -> MutableMapping[str, Any]:
            global received  # noqa: PLW0603  # one number for one process
            event: MutableMapping[str, Any] = await receive()
            received += len(event.get("body", b""))
            return event

        await self.app(scope, counted, send)


MIDDLEWARE: Final[Mapping[str, Callable[[], list[Middleware]]]] = {
    "bare": list,
    "by hand": lambda: [by_hand()],
    "careful": lambda: [careful()],
    "prescreen": lambda: [prescreened()],
    "prescreen, counted": lambda: [Middleware(Counting), prescreened()],
}

app = Starlette(
    routes=[
        *(Route(path, chat, methods=["POST"]) for path in ("/chat", "/conversation", "/other")),
        Route("/upload", upload, methods=["POST"]),
        Route("/usage", usage),
    ],
    middleware=MIDDLEWARE[ruled.KIND](),
    lifespan=started,
)
