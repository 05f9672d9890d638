"""What Falcon hands to a handler, under both protocols."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Any

import falcon
import falcon.asgi
from falcon.media.multipart import MultipartForm

from fuzz.case import Case
from fuzz.oracle import Reads, oracle, plain

_OPTIONS = falcon.RequestOptions()
_OPTIONS.media_handlers[falcon.MEDIA_MULTIPART] = falcon.media.MultipartFormHandler()


def _asgi(case: Case) -> falcon.asgi.Request:
    return falcon.asgi.Request(case.scope(), case.receive(), options=_OPTIONS)


def _wsgi(case: Case) -> falcon.Request:
    return falcon.Request(case.environ(), options=_OPTIONS)


def _is_media(case: Case, content_type: str) -> bool:
    """Whether the handler takes a part for a document; its data can be read only once."""
    return content_type.startswith("application/") and case.turn % 2 == 0


def _items(request: falcon.Request | falcon.asgi.Request, media: Any) -> Reads:
    """The fields of a form, where the media is none of JSON."""
    return list(media.items()) if "urlencoded" in (request.content_type or "") else []


def part_of(case: Case, part: Any, read: Reads) -> None:
    """What a handler finds in one part."""
    read.append((part.name or "", part.filename))
    if _is_media(case, part.content_type):
        read.append((part.name or "", part.get_media()))
    else:
        read += [(part.name or "", plain(part.get_data())), (part.name or "", part.get_text())]


@oracle("falcon", "json")
async def falcon_json(case: Case, read: Reads) -> None:
    read.append(("", await _asgi(case).get_media()))


@oracle("falcon", "json")
async def falcon_wsgi_json(case: Case, read: Reads) -> None:
    read.append(("", _wsgi(case).get_media()))


@oracle("falcon", "form")
async def falcon_form(case: Case, read: Reads) -> None:
    request = _asgi(case)
    media = await request.get_media()
    if not isinstance(media, AsyncIterable):
        read += _items(request, media)
        return
    async for part in media:
        read.append((part.name or "", part.filename))
        if _is_media(case, part.content_type):
            read.append((part.name or "", await part.get_media()))
        else:
            read += [(part.name or "", plain(await part.get_data())), (part.name or "", await part.get_text())]


@oracle("falcon", "form")
async def falcon_wsgi_form(case: Case, read: Reads) -> None:
    request = _wsgi(case)
    media = request.get_media()
    if not isinstance(media, MultipartForm):
        read += _items(request, media)
        return
    for part in media:
        part_of(case, part, read)


@oracle("falcon", "text")
async def falcon_text(case: Case, read: Reads) -> None:
    read.append(("", (await _asgi(case).stream.read()).decode()))


@oracle("falcon", "text")
async def falcon_wsgi_text(case: Case, read: Reads) -> None:
    read.append(("", _wsgi(case).bounded_stream.read().decode()))


@oracle("falcon", "query")
async def falcon_query(case: Case, read: Reads) -> None:
    read += _asgi(case).params.items()


@oracle("falcon", "query")
async def falcon_wsgi_query(case: Case, read: Reads) -> None:
    read += _wsgi(case).params.items()


ORACLES = [
    falcon_json,
    falcon_wsgi_json,
    falcon_form,
    falcon_wsgi_form,
    falcon_text,
    falcon_wsgi_text,
    falcon_query,
    falcon_wsgi_query,
]
