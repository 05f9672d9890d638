"""URL-encoded forms and query strings (the WHATWG URL standard's urlencoded syntax)."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from prescreen.decode.media import CHARSETS
from prescreen.document import Field
from prescreen.errors import Oversize, Unreadable


def fields(body: bytes, limit: int) -> tuple[Field, ...]:
    """Every field in order, repeated and blank ones too.

    Raises Oversize for more than `limit` fields, Unreadable for a `_charset_` field that chooses
    another codec. Values stay bytes until they are needed.
    """
    if body.count(b"&") >= limit:
        raise Oversize(f"there are more than {limit} form fields or query parameters")
    found = tuple(_field(pair) for pair in body.split(b"&") if pair)
    for field in found:
        refuse_charset(field)
    return found


def refuse_charset(field: Field) -> None:
    """Raise Unreadable for a `_charset_` field that names a codec other than UTF-8."""
    if field.name == "_charset_" and field.value.decode("latin-1").strip().lower() not in CHARSETS:
        raise Unreadable("a _charset_ field other than UTF-8 is not taken")


def _field(pair: bytes) -> Field:
    name, _, value = pair.partition(b"=")
    # A name that is not UTF-8 equals no configured name in any reader, so it need not be refused.
    return Field(_unquote(name).decode("utf-8", "replace"), _unquote(value))


def _unquote(raw: bytes) -> bytes:
    return unquote_to_bytes(raw.replace(b"+", b" "))
