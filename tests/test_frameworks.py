"""Each framework in the way that its users add the middleware, and the decision back in the handler."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path as django_path
from fastapi import Body, FastAPI, Request
from flask import Flask
from flask import request as flask_request
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

import djangos
from doubles import BAD, Recorder
from prescreen import Rule, decision_of
from prescreen import asgi as asgi_adapter
from prescreen import wsgi as wsgi_adapter

RULES = [Rule("POST /chat", json=["$.message"]), Rule("POST /form", form=["message"])]
Make = Callable[[Recorder], Any]


class Message(BaseModel):
    message: str


def handled(request: Any, text: object) -> dict[str, object]:
    """What every handler answers: what it read, and what it knows of the decision."""
    decision = decision_of(request)
    return {"read": text, "decision": decision and decision.action.value}


def fastapi(moderator: Recorder) -> Any:
    app = FastAPI()
    app.add_middleware(asgi_adapter.ModerationMiddleware, rules=RULES, moderator=moderator)

    @app.post("/chat")
    async def chat(message: Message, request: Request) -> dict[str, object]:
        return handled(request, message.message)

    @app.post("/form")
    async def form(request: Request) -> dict[str, object]:
        async with request.form() as fields:
            return handled(request, fields["message"])

    @app.post("/free")
    async def free(request: Request, message: Annotated[str, Body(embed=True)]) -> dict[str, object]:
        return handled(request, message)

    return app


def starlette(moderator: Recorder) -> Any:
    async def chat(request: StarletteRequest) -> JSONResponse:
        return JSONResponse(handled(request, (await request.json())["message"]))

    async def form(request: StarletteRequest) -> JSONResponse:
        async with request.form() as fields:
            return JSONResponse(handled(request.scope, fields["message"]))

    middleware = Middleware(asgi_adapter.ModerationMiddleware, rules=RULES, moderator=moderator)
    routes = [Route(path, end, methods=["POST"]) for path, end in (("/chat", chat), ("/form", form), ("/free", chat))]
    return Starlette(routes=routes, middleware=[middleware])


def mounted(moderator: Recorder) -> Any:
    """The middleware inside a mounted app: it sees the whole path and the mount."""
    return Starlette(routes=[Mount("/api", app=starlette(moderator))])


def flask(moderator: Recorder) -> Any:
    app = Flask("tests")

    @app.post("/chat")
    @app.post("/free")
    def chat() -> dict[str, object]:
        return handled(flask_request, flask_request.get_json()["message"])

    @app.post("/form")
    def form() -> dict[str, object]:
        return handled(flask_request.environ, flask_request.form["message"])

    app.wsgi_app = wsgi_adapter.ModerationMiddleware(app.wsgi_app, rules=RULES, moderator=moderator)  # type: ignore[method-assign]
    return app


def _chat(request: HttpRequest) -> JsonResponse:
    return JsonResponse(handled(request, json.loads(request.body)["message"]))


def _form(request: HttpRequest) -> JsonResponse:
    return JsonResponse(handled(request, request.POST["message"]))


urlpatterns = [django_path("chat", _chat), django_path("free", _chat), django_path("form", _form)]


def django_asgi(moderator: Recorder) -> Any:
    djangos.configure()
    return asgi_adapter.ModerationMiddleware(get_asgi_application(), rules=RULES, moderator=moderator)


def django_wsgi(moderator: Recorder) -> Any:
    djangos.configure()
    return wsgi_adapter.ModerationMiddleware(get_wsgi_application(), rules=RULES, moderator=moderator)


async def post(make: Make, moderator: Recorder, path: str, **content: Any) -> httpx.Response:
    """One request to the app that `make` builds, through httpx's in-process transports."""
    app = make(moderator)
    if make in (flask, django_wsgi):
        with httpx.Client(transport=httpx.WSGITransport(app=app), base_url="http://test") as client:
            return client.post(path, **content)  # noqa: ASYNC212  # in process, and no async transport for WSGI
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        return await client.post(path, **content)


ALL: list[Make] = [fastapi, starlette, flask, django_asgi, django_wsgi]
every = pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # Django's ASGI handler knows no other


@every
@pytest.mark.anyio
async def test_a_clean_request_is_handled_with_its_decision(make: Make) -> None:
    moderator = Recorder()
    answer = await post(make, moderator, "/chat", json={"message": "a name for a cat"})
    assert answer.json() == {"read": "a name for a cat", "decision": "allow"}
    assert moderator.seen == ["a name for a cat"]


@every
@pytest.mark.anyio
async def test_a_flagged_request_is_not_handled(make: Make) -> None:
    answer = await post(make, Recorder(), "/chat", json={"message": BAD})
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")


@every
@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["urlencoded", "multipart"])
async def test_forms_are_screened(make: Make, kind: str) -> None:
    for text, status in (("a name for a cat", 200), (BAD, 400)):
        content: dict[str, Any] = {"data": {"message": text}}
        if kind == "multipart":
            content["files"] = {"other": ("cat.png", b"\x89PNG\r\n\x00\xff", "image/png")}
        answer = await post(make, Recorder(), "/form", **content)
        assert answer.status_code == status
        assert status != 200 or answer.json()["read"] == text


@every
@pytest.mark.anyio
async def test_a_route_without_a_rule_has_no_decision(make: Make) -> None:
    moderator = Recorder()
    answer = await post(make, moderator, "/free", json={"message": BAD})
    assert answer.json() == {"read": BAD, "decision": None}
    assert moderator.calls == []


@pytest.mark.anyio
async def test_a_mounted_app_is_screened_by_its_own_paths() -> None:
    for text, status in (("a name for a cat", 200), (BAD, 400)):
        assert (await post(mounted, Recorder(), "/api/chat", json={"message": text})).status_code == status


def test_flask_and_fastapi_take_a_configuration_file(tmp_path: Path) -> None:
    file = tmp_path / "prescreen.toml"
    file.write_text('moderator = "keywords"\n[[rules]]\nmatch = "POST /chat"\njson = ["$.message"]\n')
    app = Flask("tests")
    app.wsgi_app = wsgi_adapter.ModerationMiddleware(app.wsgi_app, config=file)  # type: ignore[method-assign]
    body = {"message": "prescreen test phrase seven violet lanterns"}
    assert app.test_client().post("/chat", json=body).status_code == 400
    other = FastAPI()
    other.add_middleware(asgi_adapter.ModerationMiddleware, config=str(file))

    async def ask() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=other), base_url="http://test") as client:
            return (await client.post("/chat", json=body)).status_code

    import anyio

    assert anyio.run(ask) == 400
