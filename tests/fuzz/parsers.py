"""The parsers behind the accessors, each called as its framework calls it and without a request around it.

Most accessors end in a few parsers, and most of what they cost is the request that they are asked of. So the parsers
run on every request that passes, all of them, and the accessors take turns. Where several frameworks give the standard
library the same bytes, one call stands for all of them.
"""

from __future__ import annotations

import io
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl

import falcon.media
from django.core.files.uploadhandler import MemoryFileUploadHandler
from django.http.multipartparser import MultiPartParser as DjangoParser
from falcon.util.uri import parse_query_string
from litestar._multipart import parse_multipart_form
from litestar.serialization import decode_json
from starlette.datastructures import Headers
from starlette.formparsers import FormParser, MultiPartParser
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

from fuzz.asgi_oracles import fields_of
from fuzz.case import Case
from fuzz.falcon_oracles import part_of
from fuzz.oracle import Oracle, Reads, oracle, plain
from fuzz.wsgi_oracles import lists

_FORM: Final = "application/x-www-form-urlencoded"
_MULTIPART: Final = "multipart/form-data"
_WERKZEUG: Final = FormDataParser(max_form_memory_size=500_000, max_form_parts=1_000)  # Flask's own limits
_FALCON: Final = falcon.media.MultipartFormHandler()


@lru_cache(1 << 12)
def _type(value: bytes) -> tuple[str, dict[str, str]]:
    """What a request says of its body. One in doubt is refused, so one reader's word is everybody's."""
    return parse_options_header(value.decode("latin-1"))


def _charset(case: Case) -> str:
    return _type(case.content_type)[1].get("charset", "utf-8").lower()


async def _stream(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
    yield b""


# The standard library's readers


@oracle("python", "json")
async def python_json(case: Case, read: Reads) -> None:
    """Starlette, FastAPI, Flask and Django give it the bytes; Quart, Falcon and REST framework the text in them."""
    texts = {case.body.decode(json.detect_encoding(case.body), "surrogatepass"): None}
    with suppress(ValueError):
        texts[case.body.decode(_charset(case))] = None
    for text in texts:
        with suppress(ValueError):
            read.append(("", json.loads(text)))


@oracle("python", "form")
async def python_urlencoded(case: Case, read: Reads) -> None:
    """Flask, Quart, Django and REST framework; and Litestar, whatever the type, as text in latin-1.

    What stands before the first field of a multipart form has a name that no handler asks for.
    """
    kind = _type(case.content_type)[0]
    for pairs in _pairs(case.body, _charset(case), is_certain=kind == _FORM):
        read += pairs[1:] if pairs and pairs[0][0].startswith("--") else pairs


@oracle("python", "query")
async def python_query(case: Case, read: Reads) -> None:
    """All but Falcon."""
    for pairs in _pairs(case.query, _charset(case), is_certain=True):
        read += pairs


def _pairs(data: bytes, charset: str, *, is_certain: bool) -> Iterator[list[tuple[str, str]]]:
    """In each way in which a framework asks for it: as latin-1 or as UTF-8, with what is coded in UTF-8 or the charset."""
    for text, is_utf8 in _texts(data).items() if is_certain else [(data.decode("latin-1"), False)]:
        pairs = parse_qsl(text, keep_blank_values=True)
        yield pairs
        if is_utf8 and any("\ufffd" in value for _, value in pairs):
            yield parse_qsl(text, keep_blank_values=True, errors="werkzeug.url_quote")  # which takes nothing else
        if is_certain and charset not in ("utf-8", "utf8"):
            yield parse_qsl(text, keep_blank_values=True, encoding=charset)


def _texts(data: bytes) -> dict[str, bool]:
    """What bytes without a charset are as text: one or the other, mostly the same; and whether that is UTF-8."""
    texts = {data.decode("latin-1"): False}
    with suppress(UnicodeDecodeError):
        texts[data.decode()] = True
    return texts


@oracle("python", "text")
async def python_text(case: Case, read: Reads) -> None:
    """All of them, one way or another."""
    read.append(("", plain(case.body)))
    read.append(("", case.body.decode(_charset(case))))


# Their own


@oracle("litestar", "json")
async def litestar_parser(case: Case, read: Reads) -> None:
    read.append(("", decode_json(case.body)))


@oracle("starlette", "form")
async def starlette_parser(case: Case, read: Reads) -> None:
    """FastAPI, too."""
    kind = _type(case.content_type)[0]
    if kind in (_FORM, _MULTIPART):
        parser = MultiPartParser if kind == _MULTIPART else FormParser
        form = await parser(Headers(raw=list(case.headers)), _stream(case.body)).parse()
        read += await fields_of(form.multi_items())


@oracle("werkzeug", "form")
async def werkzeug_parser(case: Case, read: Reads) -> None:
    """Flask and Quart."""
    kind, options = _type(case.content_type)
    if kind == _MULTIPART:
        _, form, files = _WERKZEUG.parse(io.BytesIO(case.body), kind, len(case.body), options)
        read += form.items(multi=True)
        for name, file in files.items(multi=True):
            read += [(name, file.filename), (name, plain(file.read()))]


@oracle("litestar", "form")
async def litestar_form_parser(case: Case, read: Reads) -> None:
    kind, options = _type(case.content_type)
    if kind == _MULTIPART:
        form = await parse_multipart_form(_stream(case.body), options["boundary"].encode())
        read += await fields_of(form.items())


@oracle("django", "form")
async def django_parser(case: Case, read: Reads) -> None:
    """Django REST framework, too."""
    if _type(case.content_type)[0] == _MULTIPART:
        head = {"CONTENT_TYPE": case.content_type.decode("latin-1"), "CONTENT_LENGTH": str(len(case.body))}
        parser = DjangoParser(head, io.BytesIO(case.body), [MemoryFileUploadHandler()], _charset(case))
        for data in parser.parse():
            lists(read, data)


@oracle("falcon", "form")
async def falcon_form_parser(case: Case, read: Reads) -> None:
    kind = _type(case.content_type)[0]
    if kind == _FORM:
        read += parse_query_string(case.body.decode("ascii"), keep_blank=True).items()
    if kind == _MULTIPART:
        content_type = case.content_type.decode("latin-1")
        for part in _FALCON.deserialize(io.BytesIO(case.body), content_type, len(case.body)):
            part_of(case, part, read)


@oracle("falcon", "query")
async def falcon_query_parser(case: Case, read: Reads) -> None:
    """As WSGI and as ASGI servers give it the query."""
    for query in _texts(case.query):
        read += parse_query_string(query, keep_blank=True).items()


PARSERS: Final[list[Oracle]] = [found for found in list[Any](globals().values()) if isinstance(found, Oracle)]
