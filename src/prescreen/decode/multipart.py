"""multipart/form-data (RFC 7578), in the one form that every client in ordinary use sends.

Multipart parsers disagree on nearly everything at the edges: text before the first boundary and
after the last, boundaries in the middle of a line, bare line feeds, folded headers, escapes,
extended parameters, transfer encodings. So the grammar below has no edges: the body is boundary
lines and parts, CRLF everywhere, and of each part two plain headers. What does not fit is refused,
and what does fit leaves nothing to interpret: cutting it at the boundary is the whole parse.
"""

from __future__ import annotations

import re
from typing import Final

from prescreen.decode.forms import refuse_charset
from prescreen.decode.media import CHARSETS, charset_of
from prescreen.document import Field, Limits
from prescreen.errors import Oversize, Unreadable

_PLAIN = rb'[^"\\\x00-\x1f\x7f]*'  # inside quotes: no escapes, no control bytes
_DISPOSITION: Final = re.compile(
    rb'content-disposition: ?form-data; ?name="(' + _PLAIN + rb')"(?:; ?filename="(' + _PLAIN + rb')")?',
    re.IGNORECASE,
)
_TYPE: Final = re.compile(rb"content-type: ?([!-~][ -~]*)", re.IGNORECASE)


def fields(body: bytes, boundary: bytes, limits: Limits) -> tuple[Field, ...]:
    """Every part in order, fields and files alike. Raises Unreadable, Oversize."""
    first, *parts = body.split(b"--" + boundary)
    last = parts.pop() if parts else None
    if first or last not in (b"--", b"--\r\n"):
        raise Unreadable("the multipart body does not start and end with its boundary")
    if len(parts) > limits.parts:
        raise Oversize(f"there are more than {limits.parts} multipart parts")
    return tuple(_part(part, limits.part_head) for part in parts)


def _part(part: bytes, head_limit: int) -> Field:
    if not (part.startswith(b"\r\n") and part.endswith(b"\r\n")):
        raise Unreadable("a multipart boundary stands in the middle of a line")
    end = part.find(b"\r\n\r\n", 2, head_limit)
    if end < 0 or end + 4 > len(part) - 2:
        raise Unreadable("a multipart part's headers are missing or too long")
    name, filename = _head(part[2:end].split(b"\r\n"))
    field = Field(name, part[end + 4 : -2], filename)
    refuse_charset(field)
    return field


def _head(lines: list[bytes]) -> tuple[str, str | None]:
    """A part's name and file name."""
    disposition = [found for line in lines if (found := _DISPOSITION.fullmatch(line))]
    types = [found[1].decode("ascii") for line in lines if (found := _TYPE.fullmatch(line))]
    if len(disposition) != 1 or len(types) > 1 or len(lines) != 1 + len(types):
        raise Unreadable("a multipart part has other headers than one plain disposition and type")
    if any(charset_of(kind) not in CHARSETS for kind in types):
        raise Unreadable("a multipart part names a charset other than UTF-8")
    name, filename = disposition[0].groups()
    try:
        return name.decode("utf-8"), None if filename is None else filename.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable("a multipart part's name is not UTF-8") from error
