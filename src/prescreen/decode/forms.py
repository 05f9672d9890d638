"""URL-encoded forms and query strings (the WHATWG URL standard's urlencoded syntax)."""

from __future__ import annotations

from typing import Final

from prescreen.decode.media import CHARSETS
from prescreen.document import Field, unquoted
from prescreen.errors import Oversize, Unreadable

_LONGEST_NAME: Final = 1024  # bytes; no rule names a field that long


def fields(body: bytes, limit: int) -> tuple[Field, ...]:
    """Every field in order, repeated and blank ones too, the values still coded.

    Raises Oversize for more than `limit` fields, Unreadable for a `_charset_` field that chooses
    another codec.
    """
    if body.count(b"&") >= limit:
        raise Oversize(f"there are more than {limit} form fields or query parameters")
    found = tuple(_field(pair) for pair in body.split(b"&") if pair)
    for field in found:
        refuse_charset(field)
    return found


def refuse_charset(field: Field) -> None:
    """Raise Unreadable for a `_charset_` field that names a codec other than UTF-8."""
    if field.name == "_charset_" and bytes(field.value).decode("latin-1").strip().lower() not in CHARSETS:
        raise Unreadable("a _charset_ field other than UTF-8 is not taken")


def _field(pair: bytes) -> Field:
    name, _, value = pair.partition(b"=")
    return Field(_name(unquoted(name[:_LONGEST_NAME])), value, is_coded=True)


def _name(name: bytes) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("latin-1")  # as some readers take it, and find a configured name in it
