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

_TOKEN = rb"[!#$%&\'+.^_`|~0-9A-Za-z-]+"  # RFC 9110, section 5.6.2, without "*"
_NAME = rb'(?:"([^"\\\x00-\x1f\x7f]*)"|(' + _TOKEN + rb"))"  # no escapes: some readers undo them
_FILENAME = rb'(?:"((?:[^"\\\x00-\x1f\x7f]|\\[^"\x00-\x1f\x7f])*)"|(' + _TOKEN + rb"))"
_DISPOSITION: Final = re.compile(
    rb"content-disposition: ?form-data; ?name=" + _NAME + rb"(?:; ?filename=" + _FILENAME + rb")?", re.IGNORECASE
)
_TYPE: Final = re.compile(rb"content-type: ?([!-~][ -~]*)", re.IGNORECASE)
_LENGTH: Final = re.compile(rb"content-length: ?([0-9]{1,18})", re.IGNORECASE)
_IDENTITY: Final = re.compile(rb"content-transfer-encoding: ?(?:binary|7bit|8bit)", re.IGNORECASE)


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
    value = part[end + 4 : -2]
    name, filename = _head(part[2:end].split(b"\r\n"), len(value))
    field = Field(name, value, filename)
    refuse_charset(field)
    return field


def _head(lines: list[bytes], length: int) -> tuple[str, str | None]:
    """A part's name and file name; of each known header there may be one, and no other at all."""
    disposition, kind, declared, identity = (
        [found for line in lines if (found := header.fullmatch(line))]
        for header in (_DISPOSITION, _TYPE, _LENGTH, _IDENTITY)
    )
    known = (disposition, kind, declared, identity)
    if len(disposition) != 1 or any(len(found) > 1 for found in known) or sum(map(len, known)) != len(lines):
        raise Unreadable("a multipart part's headers are not one plain disposition, type and length")
    if any(int(found[1]) != length for found in declared):
        raise Unreadable("a multipart part is not as long as it declares")
    if any(charset_of(found[1].decode("ascii")) not in CHARSETS for found in kind):
        raise Unreadable("a multipart part names a charset other than UTF-8")
    quoted, token, quoted_file, token_file = disposition[0].groups()
    try:
        filename = quoted_file if token_file is None else token_file
        name = (quoted if token is None else token).decode("utf-8")
        return name, None if filename is None else filename.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable("a multipart part's name is not UTF-8") from error
