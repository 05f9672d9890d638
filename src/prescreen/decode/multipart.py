"""multipart/form-data (RFC 7578), in the one form that every client in ordinary use sends.

Multipart parsers disagree on nearly everything at the edges: text before the first boundary and
after the last, boundaries in the middle of a line, bare line feeds, folded headers, escapes,
extended parameters, transfer encodings. So the grammar below has no edges: the body is boundary
lines and parts, CRLF everywhere, and of each part two plain headers. What does not fit is refused,
and what does fit leaves nothing to interpret: cutting it at the boundary is the whole parse.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final
from urllib.parse import unquote_to_bytes

from prescreen.decode.forms import refuse_charset
from prescreen.decode.media import ASCII, CHARSETS, type_of_part
from prescreen.document import Field, Limits
from prescreen.errors import Oversize, Unreadable

_TOKEN = rb"[!#$%&\'+.^_`|~0-9A-Za-z-]+"  # RFC 9110, section 5.6.2, without "*"
_NAME = rb'(?:"([^"\\\x00-\x1f\x7f]*)"|(' + _TOKEN + rb"))"  # no escapes: some readers undo them
# An escaped quote only where no reader that ends the name there could find another parameter behind it.
_QUOTED = rb'(?:[^"\\\x00-\x1f\x7f]|\\[^"\x00-\x1f\x7f])*|(?:[^"\\;\x00-\x1f\x7f]|\\[^;\x00-\x1f\x7f])*'
_FILENAME = rb'(?:"(' + _QUOTED + rb')"|(' + _TOKEN + rb"))"
# Only beside a plain name: there are readers that take a part with nothing else for a field.
_CODED_FILENAME = rb"(?:; ?filename\*=utf-8''((?:[!#$&+.^_`|~0-9A-Za-z-]|%[0-9A-Fa-f]{2})*))?"
_DISPOSITION: Final = re.compile(
    rb"content-disposition: ?form-data; ?name=" + _NAME + rb"(?:; ?filename=" + _FILENAME + _CODED_FILENAME + rb")?",
    re.IGNORECASE,
)
_TYPE: Final = re.compile(rb"content-type: ?([!-~][ -~]*)", re.IGNORECASE)
_LENGTH: Final = re.compile(rb"content-length: ?([0-9]{1,18})", re.IGNORECASE)
_IDENTITY: Final = re.compile(rb"content-transfer-encoding: ?(?:binary|7bit|8bit)", re.IGNORECASE)
_LONGEST_FILENAME: Final = 255  # no file system takes more, and some readers cut something out of the middle
_FORMS: Final = frozenset({"application/x-www-form-urlencoded", "multipart/form-data", "multipart/mixed"})
_LIKE_ASCII: Final = frozenset({"iso-8859-1", "latin-1", "windows-1252"})  # where the bytes are no more than that
_PROSE: Final = re.compile(rb"(?:(?!--)[ -~]{1,200}\r\n){0,4}(?:\r\n)?")  # nothing that could be a part


def fields(body: bytes, boundary: bytes, limits: Limits, *, allow_preamble: bool) -> tuple[Field, ...]:
    """Every part in order, fields and files alike. Raises Unreadable, Oversize."""
    delimiter = b"--" + boundary
    start = body.find(delimiter)
    if start < 0 or (start and not (allow_preamble and _PROSE.fullmatch(body, 0, start))):
        raise Unreadable("the multipart body does not start with its boundary")
    if body.count(delimiter) > limits.parts + 1:
        raise Oversize(f"there are more than {limits.parts} multipart parts")
    cuts = list(_cuts(body, delimiter, start))
    if body[cuts[-1] :] not in (b"--", b"--\r\n", b"--\r\n\r\n"):
        raise Unreadable("the multipart body does not end with its boundary")
    return tuple(_part(body, at, end - len(delimiter), limits.part_head) for at, end in pairwise(cuts))


def _cuts(body: bytes, delimiter: bytes, at: int) -> Iterator[int]:
    """Where each boundary ends."""
    while at >= 0:
        at += len(delimiter)
        yield at
        at = body.find(delimiter, at)


def _part(body: bytes, start: int, stop: int, head_limit: int) -> Field:
    if not (body.startswith(b"\r\n", start) and body.endswith(b"\r\n", start, stop)):
        raise Unreadable("a multipart boundary stands in the middle of a line")
    end = body.find(b"\r\n\r\n", start + 2, min(start + head_limit, stop - 2))
    if end < 0:
        raise Unreadable("a multipart part's headers are missing or too long")
    value = memoryview(body)[end + 4 : stop - 2]
    field = _field(body[start + 2 : end].split(b"\r\n"), value)
    refuse_charset(field)
    return field


def _field(lines: list[bytes], value: memoryview) -> Field:
    """A part with its name and file names; of each known header there may be one, and no other at all."""
    disposition, kind, declared, identity = (
        [found for line in lines if (found := header.fullmatch(line))]
        for header in (_DISPOSITION, _TYPE, _LENGTH, _IDENTITY)
    )
    known = (disposition, kind, declared, identity)
    if len(disposition) != 1 or any(len(found) > 1 for found in known) or sum(map(len, known)) != len(lines):
        raise Unreadable("a multipart part's headers are not one plain disposition, type and length")
    if any(int(found[1]) != len(value) for found in declared):
        raise Unreadable("a multipart part is not as long as it declares")
    for found in kind:
        essence, charset = type_of_part(found[1].decode("ascii"))
        if essence in _FORMS:
            raise Unreadable("a multipart part is a form of its own")
        _check_charset(charset, value)
    return _named(disposition[0], value)


def _check_charset(charset: str, value: memoryview) -> None:
    if charset in CHARSETS - ASCII:
        return
    if charset not in ASCII | _LIKE_ASCII:
        raise Unreadable("a multipart part names a charset other than UTF-8")
    if not bytes(value).isascii():
        raise Unreadable(f"a multipart part is not ASCII, and its type says {charset}")


def _named(disposition: re.Match[bytes], value: memoryview) -> Field:
    quoted, token, quoted_file, token_file, coded_file = disposition.groups()
    files = (quoted_file, token_file, None if coded_file is None else unquote_to_bytes(coded_file))
    try:
        name = (quoted if token is None else token).decode("utf-8")
        field = Field(name, value, tuple(file.decode("utf-8") for file in files if file is not None))
    except UnicodeDecodeError as error:
        raise Unreadable("a multipart part's name is not UTF-8") from error
    if any(len(file) > _LONGEST_FILENAME for file in field.filenames):
        raise Unreadable(f"a file name has more than {_LONGEST_FILENAME} characters")
    return field
