"""Bytes to a Document, or an error that says why not. No I/O.

The one rule of this package: accept what every reader reads alike; where two readers of the same
bytes could find different texts, refuse. Whatever an app hands the bytes to afterwards (its
framework's JSON reader, form parser, multipart parser) then finds the texts that we found.

`admit` judges the head before a byte of body is read; `decode` then reads the body. A new kind of
body is a module here, an entry in `media.KINDS` and a branch in `decode`.
"""

from __future__ import annotations

from prescreen.decode import forms, jsontext, media, multipart
from prescreen.decode.media import MediaType
from prescreen.document import Document, Field, Limits
from prescreen.errors import Oversize, Unreadable, Unsupported
from prescreen.model import BodyKind, Head

__all__ = ["admit", "decode", "query_fields"]


def admit(head: Head, kinds: frozenset[BodyKind], limit: int) -> None:
    """Judge a request by its head, so that a refused client need not send its body.

    Raises Oversize when the declared length is over `limit` bytes, and what `decode` would raise for
    the head of a request that declares a body. A charset is refused without a body, too: there are
    readers that decode the query by it.
    """
    length = media.content_length(head)
    if length is not None and length > limit:
        raise Oversize(f"the body is {length} bytes long; the limit is {limit}")
    if length or head.all(b"transfer-encoding"):
        _media_type(head, kinds)
    else:
        media.refuse_charset(head)


def decode(head: Head, body: bytes, kinds: frozenset[BodyKind], limits: Limits) -> Document:
    """Read `body`, in every way in which a reader for one of `kinds` could.

    Raises Unsupported for a kind not in `kinds` and for any coding, Unreadable for a head or a body
    that two readers could understand differently, Oversize for more than `limits` allows.
    """
    if not body:
        return Document()
    found = _media_type(head, kinds)
    if found.is_ascii and not body.isascii():
        raise Unreadable("the body is not ASCII, as its Content-Type says")
    # Some readers do not look at the Content-Type: a body has a reading of each kind that fits it.
    has_json = found.kind == "json" or ("json" in kinds and jsontext.may_be_json(body))
    if found.kind == "text":
        has_json = has_json and jsontext.is_json(body)  # prose may begin like JSON
    is_urlencoded = found.kind == "form" and found.boundary is None
    return Document(
        json=jsontext.parse(body, limits) if has_json else None,
        has_json=has_json,
        fields=_fields(body, found, limits) if found.kind == "form" else (),
        form_like=body if "form" in kinds and not is_urlencoded and b"=" in body else None,
        text=_text(body, is_strict=found.kind == "text") if "text" in kinds else None,
    )


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


def _fields(body: bytes, found: MediaType, limits: Limits) -> tuple[Field, ...]:
    if found.boundary is not None:
        return multipart.fields(body, found.boundary, limits)
    return forms.fields(body, limits.fields)


def _text(body: bytes, *, is_strict: bool) -> str:
    try:
        return body.decode("utf-8-sig", "strict" if is_strict else "replace")
    except UnicodeDecodeError as error:
        raise Unreadable(f"the body is not UTF-8 at byte {error.start}") from error
