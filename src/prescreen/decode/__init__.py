"""Bytes to a Document, or an error that says why not. No I/O.

The one rule of this package: accept what every reader reads alike; where two readers of the same
bytes could find different texts, refuse. Whatever an app hands the bytes to afterwards (its
framework's JSON reader, form parser, multipart parser) then finds the texts that we found.

`admit` judges the head before a byte of body is read; `decode` then reads the body. A new kind of
body is a module here, an entry in `media.KINDS` and a branch in `decode`.
"""

from __future__ import annotations

import re
from typing import Final

from prescreen.decode import coding, forms, jsontext, media, multipart
from prescreen.decode.media import MediaType
from prescreen.document import Accepts, Document, Field, Limits, unquoted
from prescreen.errors import Oversize, Unreadable, Unsupported
from prescreen.model import Head

__all__ = ["admit", "decode", "query_fields"]

_CODED_BEYOND_ASCII: Final = re.compile(rb"%[89A-Fa-f][0-9A-Fa-f]")


def admit(head: Head, accepts: Accepts) -> None:
    """Judge a request by its head, so that a refused client need not send its body.

    Raises Oversize when the declared length is over the limit, and what `decode` would raise for the
    head of a request that declares a body. A charset is refused without a body, too: there are readers
    that decode the query by it. A WebSocket is Unsupported: nobody looks into its messages.
    """
    if head.is_websocket:
        raise Unsupported("the messages of a WebSocket are not screened")
    length = media.content_length(head)
    if length is not None and length > accepts.limit:
        raise Oversize(f"the body is {length} bytes long; the limit is {accepts.limit}")
    if length or head.all(b"transfer-encoding"):
        media.is_gzip(head, accepts)
        media.content_type(head, accepts)
    else:
        media.refuse_charset(head)


def decode(head: Head, body: bytes, accepts: Accepts, limits: Limits) -> Document:
    """Read `body`, in every way in which a reader for one of the accepted kinds could.

    Raises Unsupported for what is not accepted, Unreadable for a head or a body that two readers could
    understand differently, Oversize for more than `limits` allows.
    """
    if not body:
        return Document()
    is_packed = media.is_gzip(head, accepts)
    plain = coding.gunzip(body, accepts.limit) if is_packed else body
    found = media.content_type(head, accepts) or _guessed(plain, accepts, limits)
    if is_packed and found.kind != "json":
        raise Unsupported("only JSON is taken compressed")  # what is no JSON as it is could be read as a form or a text
    if found.charset in media.ASCII and not _is_ascii(plain, found):
        raise Unreadable("the body is not ASCII, as its Content-Type says")
    is_urlencoded = found.kind == "form" and found.boundary is None
    raw = [each for each in dict.fromkeys((plain, body)) if b"=" in each and "form" in accepts.kinds]
    has_json = _has_json(plain, found, accepts, limits)
    return Document(
        kind=found.kind,
        json=_json(plain, found, accepts, limits) if has_json else None,
        has_json=has_json,
        fields=_fields(plain, found, accepts, limits) if found.kind == "form" else (),
        form_like=tuple(each for each in raw if each is not plain or not is_urlencoded),
        text=_text(plain, is_strict=found.kind == "text") if "text" in accepts.kinds else None,
    )


def query_fields(head: Head, limits: Limits) -> tuple[Field, ...]:
    """The parameters of the query string, in order. Raises Unreadable, Oversize.

    There are readers that decode the query by the body's charset, too.
    """
    if not head.query.isascii() or b"%" in head.query:
        media.refuse_ascii(head, unquoted(head.query))
    return forms.fields(head.query, limits.fields)


def _guessed(body: bytes, accepts: Accepts, limits: Limits) -> MediaType:
    """What a body without a Content-Type will be read as, besides all else that the rule takes."""
    if accepts.kinds == {"json"} or _has_json(body, MediaType("text"), accepts, limits):
        return MediaType("json")
    if accepts.kinds == {"form"} and jsontext.may_be_json(body, limits):
        raise Unsupported("the rule for this route does not take JSON, which a body without a Content-Type may be")
    return MediaType("form" if "form" in accepts.kinds else "text")


def _is_ascii(body: bytes, found: MediaType) -> bool:
    is_urlencoded = found.kind == "form" and found.boundary is None
    return body.isascii() and not (is_urlencoded and _CODED_BEYOND_ASCII.search(body))


def _has_json(body: bytes, found: MediaType, accepts: Accepts, limits: Limits) -> bool:
    """Whether the body has a reading as JSON: some readers do not look at the Content-Type."""
    if found.kind == "json" or "json" not in accepts.kinds:
        return found.kind == "json"
    if found.kind == "text":  # prose may begin like JSON
        return jsontext.may_be_json(body, limits) and jsontext.is_json(body, limits)
    return jsontext.may_be_json(body, limits)


def _json(body: bytes, found: MediaType, accepts: Accepts, limits: Limits) -> object:
    text = jsontext.as_utf8(body, found.charset) if accepts.allow_utf16 else body
    return jsontext.parse(text, limits, with_floats=accepts.with_floats)


def _fields(body: bytes, found: MediaType, accepts: Accepts, limits: Limits) -> tuple[Field, ...]:
    if found.boundary is not None:
        return multipart.fields(body, found.boundary, limits, allow_preamble=accepts.allow_preamble)
    return forms.fields(body, limits.fields)


def _text(body: bytes, *, is_strict: bool) -> str:
    try:
        return body.decode("utf-8-sig", "strict" if is_strict else "replace")
    except UnicodeDecodeError as error:
        raise Unreadable(f"the body is not UTF-8 at byte {error.start}") from error
