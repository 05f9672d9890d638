"""What the head says of the body: its length, its codings, its type."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from prescreen.document import Accepts
from prescreen.errors import Unreadable, Unsupported
from prescreen.model import BodyKind, Head

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  # RFC 9110, section 5.6.2
# A parameter's value is a token or a quoted string without escapes: some readers undo a backslash
# and some do not. Names with "*" (RFC 8187) are left out: some readers decode them, some do not.
_PARAMETER = re.compile(rf'[ \t]*;[ \t]*([!#$%&\'+.^_`|~0-9A-Za-z-]+)=(?:({_TOKEN})|"([^"\\\x00-\x1f\x7f-\xff]*)")')
_ESSENCE = re.compile(rf"{_TOKEN}/{_TOKEN}")
_LONGEST_TYPE = 1024
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046, section 5.1.1

ASCII: Final = frozenset({"us-ascii", "ascii"})
CHARSETS: Final = ASCII | {"utf-8", "utf8"}
"""The only charsets taken; anything else lets the sender choose the codec that the app decodes with."""
WIDE: Final = frozenset({"utf-16", "utf-16le", "utf-16be", "utf-32", "utf-32le", "utf-32be"})
"""And these, for JSON, where a rule allows it."""

KINDS: Final[dict[str, BodyKind]] = {
    "application/json": "json",
    "application/x-www-form-urlencoded": "form",
    "multipart/form-data": "form",
    "text/plain": "text",
}


@dataclass(frozen=True, slots=True)
class MediaType:
    """A Content-Type that every reader understands alike.

    `boundary` is set for multipart.
    """

    kind: BodyKind
    charset: str = "utf-8"
    boundary: bytes | None = None


def content_length(head: Head) -> int | None:
    """The declared length in bytes, None without one. Raises Unreadable unless it is one number."""
    if head.declared_length is None and head.all(b"content-length"):
        raise Unreadable("Content-Length is not one plain number")
    return head.declared_length


def is_gzip(head: Head, accepts: Accepts) -> bool:
    """Whether the body is compressed. Raises Unsupported for a coding that the route does not take."""
    transfer = b",".join(head.all(b"transfer-encoding")).strip().lower()
    if transfer not in (b"", b"chunked"):
        raise Unsupported("a Transfer-Encoding other than chunked is not taken")
    coding = b",".join(head.all(b"content-encoding")).strip().lower()
    if coding == b"gzip" and accepts.decode_content:
        return True
    if coding not in (b"", b"identity"):
        raise Unsupported("an encoded body (Content-Encoding) is not taken")
    return False


def content_type(head: Head, accepts: Accepts) -> MediaType | None:
    """The media type; None without one, where the route takes that.

    Raises Unsupported for what the route does not take, Unreadable for what is ambiguous.
    """
    parsed = _parse_head(head)
    if parsed is None:
        if accepts.allow_untyped:
            return None
        raise Unsupported("the body has no Content-Type")
    essence, parameters = parsed
    kind = KINDS.get(essence) or ("json" if _is_json_suffix(essence) else None)
    if kind is None:
        raise Unsupported("bodies of this Content-Type are not taken")
    if kind not in accepts.kinds:
        raise Unsupported(f"the rule for this route does not take {kind} bodies")
    charset = parameters.get("charset", "utf-8").lower()
    if charset not in CHARSETS and not (charset in WIDE and kind == "json" and accepts.allow_utf16):
        raise Unsupported("a charset other than UTF-8 is not taken")
    return MediaType(kind, charset, _boundary(parameters) if essence == "multipart/form-data" else None)


def refuse_charset(head: Head) -> None:
    """Raise Unsupported for a charset other than UTF-8, Unreadable for a Content-Type in doubt."""
    _, parameters = _parse_head(head) or ("", {})
    if parameters.get("charset", "utf-8").lower() not in CHARSETS:
        raise Unsupported("a charset other than UTF-8 is not taken")


def refuse_ascii(head: Head, data: bytes) -> None:
    """Raise Unreadable where the head says that all is ASCII, and this is not."""
    _, parameters = _parse_head(head) or ("", {})
    if parameters.get("charset", "utf-8").lower() in ASCII and not data.isascii():
        raise Unreadable("the query is not ASCII, as the Content-Type says")


def _parse_head(head: Head) -> tuple[str, dict[str, str]] | None:
    values = head.all(b"content-type")
    if not values:
        return None
    if len(values) > 1 or len(values[0]) > _LONGEST_TYPE:
        raise Unreadable("Content-Type is not one plain header")
    return _parse(values[0].decode("latin-1").strip(" \t"))


def type_of_part(value: str) -> tuple[str, str]:
    """What a part's Content-Type names, and its charset, lower-case; UTF-8 where it names none. Raises Unreadable."""
    essence, parameters = _parse(value)
    return essence, parameters.get("charset", "utf-8").lower()


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
