"""The routes of real apps, and what the log says at start-up about the rules that cover them."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import anyio
import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.urls import get_resolver, include, re_path
from django.urls import path as django_path
from django.views import View
from fastapi import APIRouter, FastAPI
from flask import Blueprint, Flask
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from doubles import Recorder
from prescreen import Rule, Screen
from prescreen.asgi import ModerationMiddleware as Asgi
from prescreen.match import RuleSet
from prescreen.routes import Route as Found
from prescreen.routes import announce, routes_of, survey
from prescreen.wsgi import ModerationMiddleware as Wsgi


def shown(app: object) -> list[str]:
    found = routes_of(app)
    assert found is not None
    return [str(route) for route in found]


def view(*_: object, **__: object) -> Any:
    return PlainTextResponse("")


async def opaque(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI app that tells nobody its routes."""


class Notes(HTTPEndpoint):
    async def get(self, request: object) -> PlainTextResponse:
        return PlainTextResponse("")

    async def patch(self, request: object) -> PlainTextResponse:
        return PlainTextResponse("")


def starlette(**options: Any) -> Starlette:
    inner = Starlette(routes=[Route("/in", view, methods=["PUT"])])
    old: Any = Flask("old").wsgi_app  # as some adapter would wrap it
    return Starlette(
        routes=[
            Route("/chat/{id:int}", view, methods=["POST"]),
            Route("/notes", Notes),
            Route("/raw", opaque, methods=["POST"]),
            WebSocketRoute("/live", view),
            Mount("/sub", CORSMiddleware(inner)),
            Mount("/list", routes=[Route("/", view, methods=["POST"])]),
            Mount("/old", old),
            Mount("/opaque", opaque),
            Mount("/static", StaticFiles(directory=".")),
            Host("api.test", Starlette(routes=[Route("/hosted", view)])),
        ],
        **options,
    )


def test_starlette_with_mounts_hosts_and_classes() -> None:
    assert shown(starlette()) == [
        "POST /chat/{id:int}",
        "GET,PATCH /notes",
        "POST /raw",
        "GET /live",
        "PUT /sub/in",
        "POST /list/",
        "GET /old/static/{filename:path}",
        "* /opaque/{rest:path}",
        "GET /static/{rest:path}",
        "GET /hosted",
    ]


def test_fastapi_with_included_routers_and_mounts() -> None:
    app, router, deeper = FastAPI(openapi_url=None), APIRouter(prefix="/r"), APIRouter()

    @deeper.post("/deep/{rest:path}")
    @deeper.websocket("/live")
    async def deep(rest: str = "") -> None: ...

    @router.api_route("/both", methods=["POST", "PUT"])
    async def both() -> None: ...

    inner = FastAPI(openapi_url=None)
    inner.post("/in")(both)
    router.mount("/sub", inner)
    router.include_router(deeper, prefix="/d")
    app.include_router(router, prefix="/api")
    app.post("/direct")(both)
    found = set(shown(app))
    assert {"POST /api/r/d/deep/{rest:path}", "POST,PUT /api/r/both", "POST /direct"} <= found
    assert "GET /api/r/d/live" in found or "GET /api/d/live" in found


def test_flask_with_a_blueprint_and_converters() -> None:
    app, blueprint = Flask("tests"), Blueprint("blue", "tests")
    blueprint.add_url_rule("/<int:id>/<any(a, 'b c'):kind>/<name>", "x", view, methods=["POST"])
    app.register_blueprint(blueprint, url_prefix="/blue")
    app.add_url_rule("/made", "made", view, build_only=True)
    assert shown(app) == ["GET /static/{filename:path}", "POST /blue/{id:int}/{kind:any}/{name}"]
    both = DispatcherMiddleware(app.wsgi_app, {"/other": Flask("other").wsgi_app, "/mute": lambda *_: []})
    assert shown(both) == [
        "GET /other/static/{filename:path}",
        "* /mute/{rest:path}",
        "GET /static/{filename:path}",
        "POST /blue/{id:int}/{kind:any}/{name}",
    ]


class Comments(View):  # type: ignore[misc]  # Django has no types
    def post(self, request: object) -> None: ...


def django_view(request: object) -> None: ...


def a_view_set(request: object) -> None: ...


a_view_set.actions = {"put": "update"}  # type: ignore[attr-defined]  # as Django REST framework marks its views

urlpatterns = [
    django_path("chat/<int:id>", django_view),
    django_path("api/", include([django_path("comments", Comments.as_view()), django_path("set", a_view_set)])),
    re_path(r"^old/(?P<year>[0-9]{4})/(a%)?$", django_view),
]


def test_django_with_includes_classes_and_regular_expressions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["django.urls"], "get_resolver", partial(get_resolver, __name__))
    handler = object.__new__(WSGIHandler)  # without loading what the settings name
    found = shown(Wsgi(handler, rules=[], moderator=Recorder()))
    assert found == ["* /chat/{id:int}", "POST /api/comments", "PUT /api/set", "* /old/{year}/", "* /old/{year}/{_0}"]


def test_litestar_and_falcon_are_known_by_their_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    mount = SimpleNamespace(path="/mnt", methods=set(), scope_type="ScopeType.ASGI")
    litestar = SimpleNamespace(routes=[SimpleNamespace(path="/chat/{id:int}", methods={"POST", "OPTIONS"}), mount])
    assert shown(litestar) == ["POST /chat/{id:int}", "* /mnt/{rest:path}"]

    methods = [SimpleNamespace(method="POST", internal=False), SimpleNamespace(method="OPTIONS", internal=True)]
    inspect = ModuleType("falcon.inspect")
    inspect.inspect_routes = lambda _: [SimpleNamespace(path="/x/{id:int(min=1)}", methods=methods)]  # type: ignore[attr-defined]  # a stand-in
    monkeypatch.setitem(sys.modules, "falcon", ModuleType("falcon"))
    monkeypatch.setitem(sys.modules, "falcon.inspect", inspect)
    assert shown(type("App", (), {"__module__": "falcon.app"})()) == ["POST /x/{id:int}"]


def test_an_app_of_no_known_kind_has_no_routes() -> None:
    assert routes_of(opaque) is None
    assert routes_of(None) is None
    circle = SimpleNamespace(app=sys)
    circle.wsgi_app = circle
    assert routes_of(circle) is None


def test_a_wrapped_app_is_unwrapped() -> None:
    app = Flask("tests", static_folder=None)
    app.add_url_rule("/chat", "chat", view, methods=["POST"])
    app.wsgi_app = Wsgi(app.wsgi_app, rules=[], moderator=Recorder())  # type: ignore[method-assign]  # Flask's own way
    assert shown(app) == shown(app.wsgi_app) == ["POST /chat"]
    inner = Starlette(routes=[Route("/chat", view, methods=["POST"])])
    assert shown(Asgi(CORSMiddleware(inner), rules=[], moderator=Recorder())) == ["POST /chat"]


def route(methods: str, path: str) -> Found:
    return Found(frozenset(methods.split()), path)


def test_a_route_says_what_it_takes() -> None:
    assert str(route("HEAD OPTIONS", "/x")) == "HEAD,OPTIONS /x"
    assert route("", "/a/{id:int}/{rest:path}").sample == "/a/1/1/1"
    assert route("", "/a.b/{id}").pattern.fullmatch("/a.b/c")
    assert not route("", "/a.b/{id}").pattern.fullmatch("/a-b/c")
    assert not route("", "/a/{id}").pattern.fullmatch("/a/b/c")
    assert route("", "/a/{id:path}").pattern.fullmatch("/a/b/c")


@pytest.mark.parametrize(
    ("rule", "covered"),
    [
        (Rule("POST /chat/{x}", json="$.text"), ["POST /chat/{id:int}"]),
        (Rule("PUT /chat/{x}", json="$.text"), ["POST /chat/{id:int}"]),  # a method that no rule names is screened, too
        (Rule("POST /chat/1/2", json="$.text"), []),
        (Rule("POST /pages/news", json="$.text"), ["POST /pages/{name}"]),  # narrower than the route
        (Rule("POST /files/*", json="$.text"), ["POST /files/{rest:path}"]),
        (
            Rule("POST *", json="$.text"),
            ["POST /chat/{id:int}", "POST /pages/{name}", "POST /files/{rest:path}", "* /any"],
        ),
        (Rule("* /any", exempt=True), ["* /any"]),
        (Rule("POST /pages/news", exempt=True), ["POST /pages/{name}"]),
        (Rule("GET /search", query="q"), ["GET /search"]),
        (Rule("POST /searching", json="$.text"), []),
    ],
)
def test_a_survey_says_which_routes_a_rule_covers(rule: Rule, covered: list[str]) -> None:
    routes = [
        route("POST", "/chat/{id:int}"),
        route("POST", "/pages/{name}"),
        route("POST", "/files/{rest:path}"),
        route("", "/any"),
        route("GET", "/search"),
    ]
    found = survey(RuleSet([rule]), routes)
    assert [[str(each) for each in covering] for _, covering in found.covered] == [covered]


def test_a_survey_lists_the_routes_that_take_a_body_and_have_no_rule() -> None:
    rules = [Rule("POST /chat", json="$.text"), Rule("POST /hook", exempt=True)]
    routes = [
        route("POST", "/chat"),
        route("POST PUT", "/hook"),
        route("GET", "/x"),
        route("", "/y"),
        route("POST", "/z"),
    ]
    assert [str(each) for each in survey(RuleSet(rules), routes).bare] == ["PUT /hook", "* /y", "POST /z"]


RULES = [
    Rule("POST /chat/{x}", json="$.text"),
    Rule("POST /old", json="$.text"),
    Rule("POST /list/", exempt=True),
    Rule("POST *", json="$.text"),
]
EXPECTED = [
    (logging.INFO, "the rule POST /chat/{x} covers POST /chat/{id:int}"),
    (logging.WARNING, "the rule POST /old covers no route of the app; see `prescreen check --app`"),
    (logging.INFO, "the rule POST /list/ exempts POST /list/"),
]
Wrap = Callable[[Screen], Any]


def inside(screen: Screen) -> Any:
    return starlette(middleware=[Middleware(Asgi, screen=screen)])


def outside(screen: Screen) -> Any:
    return Asgi(starlette(), screen=screen)


@pytest.mark.parametrize("wrap", [inside, outside])
def test_the_start_of_an_asgi_app_logs_what_the_rules_cover(wrap: Wrap, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "prescreen")
    app, events, sent = wrap(Screen(rules=RULES, moderator=Recorder())), ["startup", "shutdown"], []

    async def receive() -> dict[str, str]:
        return {"type": f"lifespan.{events.pop(0)}"}

    async def send(event: dict[str, str]) -> None:
        sent.append(event["type"])

    anyio.run(app, {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    assert [(record.levelno, record.getMessage()) for record in caplog.records][:3] == EXPECTED
    assert len(caplog.records) == len(RULES)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_the_first_request_of_a_wsgi_app_logs_what_the_rules_cover(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "prescreen")
    app = Flask("tests", static_folder=None)
    app.add_url_rule("/health", "health", lambda: "well")
    rules = [Rule("GET /health", query="q"), Rule("POST /old", json="$.text")]
    app.wsgi_app = Wsgi(app.wsgi_app, rules=rules, moderator=Recorder())  # type: ignore[method-assign]  # Flask's own way
    for _ in range(3):
        assert app.test_client().get("/free").status_code == 404
    assert [record.getMessage() for record in caplog.records] == [
        "the rule GET /health covers GET /health",
        "the rule POST /old covers no route of the app; see `prescreen check --app`",
    ]


def test_many_routes_are_one_short_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "prescreen")
    app = Starlette(routes=[Route(f"/{number}", view, methods=["POST"]) for number in range(30)])
    announce(RuleSet([Rule("POST *", json="$.text")]), app)
    assert [record.getMessage().endswith("POST /19 and 10 more") for record in caplog.records] == [True]


@pytest.mark.parametrize("app", [opaque, SimpleNamespace(routes=[SimpleNamespace(path="/x", methods=7)])])
def test_an_app_that_cannot_be_looked_into_starts_all_the_same(app: object, caplog: pytest.LogCaptureFixture) -> None:
    announce(RuleSet([Rule("POST *", json="$.text")]), app)
    assert not caplog.records
    announce(RuleSet([]), app)


def test_no_framework_is_imported() -> None:
    code = (
        "import sys, prescreen.asgi, prescreen.wsgi; from prescreen.routes import routes_of; routes_of(print);"
        "sys.exit(any(name in sys.modules for name in ('starlette', 'fastapi', 'flask', 'django', 'falcon', 'litestar')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_what_is_listed_among_routes_and_has_no_path_is_none() -> None:
    assert routes_of(SimpleNamespace(routes=[object(), SimpleNamespace(path="", methods=["GET"])])) == ()
