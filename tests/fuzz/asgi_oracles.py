"""What the async frameworks hand to a handler, by the accessors that their users write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack
from typing import Annotated, Any

from fastapi import Body, FastAPI, File, Form, Query, Response, UploadFile
from litestar import Litestar, post
from litestar import Request as LitestarRequest
from litestar.enums import RequestEncodingType
from litestar.params import Body as LitestarBody
from pydantic import BaseModel
from quart import Request as QuartRequest
from starlette.datastructures import UploadFile as StarletteUpload
from starlette.requests import Request as StarletteRequest
from werkzeug.datastructures import Headers as WerkzeugHeaders

from fuzz.case import Case, Event, Reading
from fuzz.oracle import Oracle, Read, Reads, oracle, plain

Handler = Callable[..., Awaitable[Any]]


async def _ignore(_event: Event) -> None:
    """Whatever an app answers."""


# Starlette


def _starlette(case: Case) -> StarletteRequest:
    return StarletteRequest(case.scope(), case.receive())


@oracle("starlette", "json")
async def starlette_json(case: Case, read: Reads) -> None:
    read.append(("", await _starlette(case).json()))


@oracle("starlette", "form")
async def starlette_form(case: Case, read: Reads) -> None:
    async with _starlette(case).form() as form:
        for name, value in form.multi_items():
            if isinstance(value, StarletteUpload):
                read += [(name, value.filename), (name, plain(await value.read()))]
            else:
                read.append((name, value))


@oracle("starlette", "text")
async def starlette_text(case: Case, read: Reads) -> None:
    read.append(("", (await _starlette(case).body()).decode()))


@oracle("starlette", "query")
async def starlette_query(case: Case, read: Reads) -> None:
    read += _starlette(case).query_params.multi_items()


# FastAPI: it reads for the handler, by the signature


class _Model(BaseModel):
    message: Any = None
    messages: Any = None


_DONE = Response()


def _fastapi() -> Iterator[Oracle]:
    caught: Reads = []

    async def model(body: _Model) -> Response:
        caught.append(("", body.model_dump()))
        return _DONE

    async def form(message: Annotated[str, Form()]) -> Response:
        caught.append(("message", message))
        return _DONE

    async def forms(message: Annotated[list[str], Form()]) -> Response:
        caught.extend(("message", each) for each in message)
        return _DONE

    async def upload(message: Annotated[UploadFile, File()]) -> Response:
        caught.extend([("message", message.filename), ("message", plain(await message.read()))])
        return _DONE

    async def text(body: Annotated[str, Body()]) -> Response:
        caught.append(("", body))
        return _DONE

    async def query(message: Annotated[list[str], Query()]) -> Response:
        caught.extend(("message", each) for each in message)
        return _DONE

    for is_strict in (True, False):
        app = FastAPI(openapi_url=None, strict_content_type=is_strict)
        yield Oracle("fastapi", "json", _route(app, model, caught), f"model {'strict' if is_strict else 'lax'}")
    readings: dict[Reading, tuple[Handler, ...]] = {"form": (form, forms, upload), "text": (text,), "query": (query,)}
    for reading, handlers in readings.items():
        for handler in handlers:
            yield Oracle("fastapi", reading, _route(FastAPI(openapi_url=None), handler, caught), handler.__name__)


def _route(app: FastAPI, handler: Handler, caught: Reads) -> Read:
    """An oracle that calls the route of a handler, without the middlewares around it, and takes what it caught."""
    app.post("/chat")(handler)
    route: Any = app.routes[-1]

    async def read_by_route(case: Case, read: Reads) -> None:
        caught.clear()
        async with AsyncExitStack() as files:
            scope = case.scope() | {"fastapi_middleware_astack": files, "path_params": {}, "app": app}
            try:
                await route.app(scope, case.receive(), _ignore)
            finally:
                read += caught

    return read_by_route


# Quart


def _quart(case: Case) -> QuartRequest:
    scope: Any = case.scope()
    headers = WerkzeugHeaders([(name.decode("latin-1"), value.decode("latin-1")) for name, value in case.headers])

    async def push(_path: str, _headers: object) -> None:
        """No server push here."""

    request = QuartRequest("POST", "http", "/chat", case.query, headers, "", "1.1", scope, send_push_promise=push)
    request.body.set_result(case.body)
    return request


@oracle("quart", "json")
async def quart_json(case: Case, read: Reads) -> None:
    read.append(("", await _quart(case).get_json()))


@oracle("quart", "json")
async def quart_forced_json(case: Case, read: Reads) -> None:
    read.append(("", await _quart(case).get_json(force=True)))


@oracle("quart", "form")
async def quart_form(case: Case, read: Reads) -> None:
    request = _quart(case)
    read += (await request.form).items(multi=True)
    for name, file in (await request.files).items(multi=True):
        read += [(name, file.filename), (name, plain(file.read()))]


@oracle("quart", "form")
async def quart_values(case: Case, read: Reads) -> None:
    read += (await _quart(case).values).items(multi=True)


@oracle("quart", "text")
async def quart_text(case: Case, read: Reads) -> None:
    read.append(("", await _quart(case).get_data(as_text=True)))


@oracle("quart", "query")
async def quart_query(case: Case, read: Reads) -> None:
    read += _quart(case).args.items(multi=True)


# Litestar: by its request, and by the handler's signature where that reads in another way


def _litestar() -> Iterator[Oracle]:
    caught: Reads = []

    async def urlencoded(
        data: Annotated[dict[str, Any], LitestarBody(media_type=RequestEncodingType.URL_ENCODED)],
    ) -> None:
        # What stands before the first field of a multipart form has a name that no handler asks for.
        found = enumerate(data.items())
        caught.extend(await fields_of(pair for at, pair in found if at or not pair[0].startswith("--")))

    async def multipart(
        data: Annotated[dict[str, Any], LitestarBody(media_type=RequestEncodingType.MULTI_PART)],
    ) -> None:
        caught.extend(await fields_of(data.items()))

    for handler in (urlencoded, multipart):
        app = Litestar([post("/chat", status_code=200)(handler)], openapi_config=None, logging_config=None)
        yield Oracle("litestar", "form", _app(app, caught), handler.__name__)


def _app(app: Any, caught: Reads) -> Read:
    """An oracle that calls a whole app and takes what its handler caught."""

    async def read_by_app(case: Case, read: Reads) -> None:
        caught.clear()
        try:
            await app(case.scope(), case.receive(), _ignore)
        finally:
            read += caught

    return read_by_app


@post("/chat")
async def _unused() -> None:
    """Its request is made by hand below."""


_LITESTAR = Litestar([_unused], openapi_config=None, logging_config=None)
_HANDLER = next(handler for route in _LITESTAR.routes for handler in getattr(route, "route_handlers", ()))


def _litestar_request(case: Case) -> LitestarRequest[Any, Any, Any]:
    scope: Any = case.scope()
    scope |= {"app": _LITESTAR, "litestar_app": _LITESTAR, "route_handler": _HANDLER, "path_params": {}, "state": {}}
    return LitestarRequest(scope, case.receive())  # type: ignore[arg-type]  # an event is a dict


@oracle("litestar", "json")
async def litestar_json(case: Case, read: Reads) -> None:
    read.append(("", await _litestar_request(case).json()))


@oracle("litestar", "form")
async def litestar_form(case: Case, read: Reads) -> None:
    read += await fields_of((await _litestar_request(case).form()).multi_items())


@oracle("litestar", "text")
async def litestar_text(case: Case, read: Reads) -> None:
    read.append(("", (await _litestar_request(case).body()).decode()))


@oracle("litestar", "query")
async def litestar_query(case: Case, read: Reads) -> None:
    read += _litestar_request(case).query_params.multi_items()


async def fields_of(pairs: Iterable[tuple[str, Any]]) -> Reads:
    read: Reads = []
    for name, found in pairs:
        for value in found if isinstance(found, list) else [found]:
            if hasattr(value, "filename"):
                read += [(name, value.filename), (name, plain(await value.read()))]
                await value.close()
            else:
                read.append((name, value))
    return read


ORACLES = [
    starlette_json,
    starlette_form,
    starlette_text,
    starlette_query,
    *_fastapi(),
    quart_json,
    quart_forced_json,
    quart_form,
    quart_values,
    quart_text,
    quart_query,
    *_litestar(),
    litestar_json,
    litestar_form,
    litestar_text,
    litestar_query,
]
