"""Bytes to a Document, or an error that says why not. No I/O.

The one rule of this package: accept what every reader reads alike; where two readers of the same
bytes could find different texts, refuse. Whatever an app hands the bytes to afterwards (its
framework's JSON reader, form parser, multipart parser) then finds the texts that we found.

`admit` judges the head before a byte of body is read; `decode` then reads the body. A new kind of
body is a module here, an entry in `media.KINDS` and a branch in `decode`.
"""

from __future__ import annotations

from typing import assert_never

from prescreen.decode import forms, jsontext, media, multipart
from prescreen.decode.media import MediaType
from prescreen.document import Document, Field, Limits
from prescreen.errors import Oversize, Unreadable, Unsupported
from prescreen.model import BodyKind, Head

__all__ = ["admit", "decode", "query_fields"]


def admit(head: Head, kinds: frozenset[BodyKind], limit: int) -> None:
    """Judge a request by its head, so that a refused client need not send its body.

    Raises Oversize when the declared length is over `limit` bytes, and what `decode` would raise for
    the head of a request that declares a body.
    """
    length = media.content_length(head)
    if length is not None and length > limit:
        raise Oversize(f"the body is {length} bytes long; the limit is {limit}")
    if length or head.all(b"transfer-encoding"):
        _media_type(head, kinds)


def decode(head: Head, body: bytes, kinds: frozenset[BodyKind], limits: Limits) -> Document:
    """Read `body`.

    Raises Unsupported for a kind not in `kinds` and for any coding, Unreadable for a head or a body
    that two readers could understand differently, Oversize for more than `limits` allows.
    """
    if not body:
        return Document()
    kind = _media_type(head, kinds)
    match kind.kind:
        case "json":
            fields = forms.fields(body, limits.fields) if "form" in kinds and b"=" in body else ()
            return Document(json=jsontext.parse(body, limits), has_json=True, fields=fields)
        case "form" if kind.boundary is not None:
            return Document(fields=multipart.fields(body, kind.boundary, limits))
        case "form":
            return _urlencoded(body, kinds, limits)
        case "text":
            return Document(text=_utf8(body))
        case other:
            assert_never(other)


def query_fields(query: bytes, limits: Limits) -> tuple[Field, ...]:
    """The parameters of a raw query string, in order. Raises Unreadable, Oversize."""
    return forms.fields(query, limits.fields) if query else ()


def _media_type(head: Head, kinds: frozenset[BodyKind]) -> MediaType:
    media.refuse_codings(head)
    kind = media.content_type(head)
    if kind is None:
        raise Unsupported("the body has no Content-Type")
    if kind.kind not in kinds:
        raise Unsupported(f"the rule for this route does not take {kind.kind} bodies")
    return kind


def _urlencoded(body: bytes, kinds: frozenset[BodyKind], limits: Limits) -> Document:
    """A form, and the JSON that a reader who ignores the Content-Type would find in the same bytes."""
    fields = forms.fields(body, limits.fields)
    if "json" in kinds and jsontext.may_be_json(body):
        return Document(json=jsontext.parse(body, limits), has_json=True, fields=fields)
    return Document(fields=fields)


def _utf8(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"the body is not UTF-8 at byte {error.start}") from error
