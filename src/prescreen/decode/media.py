"""What the head says of the body: its length, its codings, its type."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from prescreen.errors import Unreadable, Unsupported
from prescreen.model import BodyKind, Head

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  # RFC 9110, section 5.6.2
# A parameter's value is a token or a quoted string without escapes: some readers undo a backslash
# and some do not. Names with "*" (RFC 8187) are left out: some readers decode them, some do not.
_PARAMETER = re.compile(rf'[ \t]*;[ \t]*([!#$%&\'+.^_`|~0-9A-Za-z-]+)=(?:({_TOKEN})|"([^"\\\x00-\x1f\x7f-\xff]*)")')
_ESSENCE = re.compile(rf"{_TOKEN}/{_TOKEN}")
_LONGEST_TYPE = 1024
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046, section 5.1.1

CHARSETS: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
"""The only charsets taken; anything else lets the sender choose the codec that the app decodes with."""

KINDS: Final[dict[str, BodyKind]] = {
    "application/json": "json",
    "application/x-www-form-urlencoded": "form",
    "multipart/form-data": "form",
    "text/plain": "text",
}


@dataclass(frozen=True, slots=True)
class MediaType:
    """A Content-Type that every reader understands alike.

    `boundary` is set for multipart; `is_ascii` says that the charset is no more than that.
    """

    kind: BodyKind
    boundary: bytes | None = None
    is_ascii: bool = False


def content_length(head: Head) -> int | None:
    """The declared length in bytes, None without one. Raises Unreadable unless it is one number."""
    if head.declared_length is None and head.all(b"content-length"):
        raise Unreadable("Content-Length is not one plain number")
    return head.declared_length


def refuse_codings(head: Head) -> None:
    """Raise Unsupported for a body that is compressed or otherwise wrapped."""
    codings = b",".join(head.all(b"content-encoding")).strip().lower()
    if codings not in (b"", b"identity"):
        raise Unsupported("an encoded body (Content-Encoding) is not taken")
    transfer = b",".join(head.all(b"transfer-encoding")).strip().lower()
    if transfer not in (b"", b"chunked"):
        raise Unsupported("a Transfer-Encoding other than chunked is not taken")


def content_type(head: Head) -> MediaType | None:
    """The media type, None without one. Raises Unsupported, or Unreadable where it is ambiguous."""
    parsed = _parse_head(head)
    if parsed is None:
        return None
    essence, parameters = parsed
    kind = KINDS.get(essence) or ("json" if _is_json_suffix(essence) else None)
    if kind is None:
        raise Unsupported("bodies of this Content-Type are not taken")
    _check_charset(parameters)
    boundary = _boundary(parameters) if essence == "multipart/form-data" else None
    return MediaType(kind, boundary, is_ascii="ascii" in parameters.get("charset", "").lower())


def refuse_charset(head: Head) -> None:
    """Raise Unsupported for a charset other than UTF-8, Unreadable for a Content-Type in doubt."""
    _, parameters = _parse_head(head) or ("", {})
    _check_charset(parameters)


def _check_charset(parameters: dict[str, str]) -> None:
    if parameters.get("charset", "utf-8").lower() not in CHARSETS:
        raise Unsupported("a charset other than UTF-8 is not taken")


def _parse_head(head: Head) -> tuple[str, dict[str, str]] | None:
    values = head.all(b"content-type")
    if not values:
        return None
    if len(values) > 1 or len(values[0]) > _LONGEST_TYPE:
        raise Unreadable("Content-Type is not one plain header")
    return _parse(values[0].decode("latin-1").strip(" \t"))


def charset_of(value: str) -> str:
    """The charset that a Content-Type names, lower-case; UTF-8 where it names none. Raises Unreadable."""
    return _parse(value)[1].get("charset", "utf-8").lower()


def _is_json_suffix(essence: str) -> bool:
    return essence.startswith("application/") and essence.endswith("+json")


def _parse(value: str) -> tuple[str, dict[str, str]]:
    found = _ESSENCE.match(value)
    if found is None:
        raise Unreadable("Content-Type is malformed")
    parameters: dict[str, str] = {}
    at = found.end()
    end = len(value.rstrip(" \t;"))  # a semicolon at the end is a habit of some clients
    while at < end:
        parameter = _PARAMETER.match(value, at)
        if parameter is None or parameter[1].lower() in parameters:
            raise Unreadable("Content-Type has malformed or repeated parameters")
        parameters[parameter[1].lower()] = parameter[2] or parameter[3] or ""
        at = parameter.end()
    return found[0].lower(), parameters


def _boundary(parameters: dict[str, str]) -> bytes:
    boundary = parameters.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise Unreadable("the multipart boundary is missing or malformed")
    return boundary.encode("ascii")
