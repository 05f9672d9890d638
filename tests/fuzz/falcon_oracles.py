"""What Falcon hands to a handler, under both protocols."""

from __future__ import annotations

import falcon
import falcon.asgi

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


@oracle("falcon", "json")
async def falcon_json(case: Case, read: Reads) -> None:
    read.append(("", await _asgi(case).get_media()))


@oracle("falcon", "json")
async def falcon_wsgi_json(case: Case, read: Reads) -> None:
    read.append(("", _wsgi(case).get_media()))


@oracle("falcon", "form")
async def falcon_form(case: Case, read: Reads) -> None:
    media = await _asgi(case).get_media()
    if isinstance(media, dict):
        read += media.items()
        return
    async for part in media:
        read.append((part.name, part.filename))
        if _is_media(case, part.content_type):
            read.append((part.name, await part.get_media()))
        else:
            read += [(part.name, plain(await part.get_data())), (part.name, await part.get_text())]


@oracle("falcon", "form")
async def falcon_wsgi_form(case: Case, read: Reads) -> None:
    media = _wsgi(case).get_media()
    if isinstance(media, dict):
        read += media.items()
        return
    for part in media:
        read.append((part.name, part.filename))
        if _is_media(case, part.content_type):
            read.append((part.name, part.get_media()))
        else:
            read += [(part.name, plain(part.get_data())), (part.name, part.get_text())]


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
