"""What a body may be, what it is once it has been read, and how much of it we take."""

from __future__ import annotations

import json
import re
from binascii import a2b_qp
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Final

from prescreen.errors import ConfigError
from prescreen.model import BodyKind
from prescreen.units import size

_DEEPEST: Final = 90  # jsonpath-rfc9535 descends 100 levels, the standard library's reader about 1,000


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of one request is taken; more is Oversize (413).

    `body`, `part_head` and `image` are in bytes (or like "1MiB"). `nodes` counts JSON values (an empty list or object twice), `fields` form fields or
    query parameters, `parts` multipart parts, `part_head` is for one part's headers, `texts`, `images` and `characters`
    count what is found at a rule's places (an image is a call of its own), `image` bounds one `data:` image, decoded
    (20 MB is OpenAI's limit, by its moderation guide). JSON deeper than `depth` is Unreadable. Raises ConfigError.
    """

    body: int = 1 << 20
    depth: int = 64
    nodes: int = 50_000
    fields: int = 1_000
    parts: int = 100
    part_head: int = 4_096
    texts: int = 256
    images: int = 16
    characters: int = 100_000
    image: int = 20_000_000

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in ("body", "part_head", "image"):
                value = _bytes(each.name, value)
                object.__setattr__(self, each.name, value)
            if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
                raise ConfigError(each.name, f"{value!r} is not a whole number above zero")
        if self.depth > _DEEPEST:
            raise ConfigError("depth", f"{self.depth} is over {_DEEPEST}, where JSON readers begin to fail")


def _bytes(key: str, value: object) -> int:
    try:
        return size(value)
    except ValueError as error:
        raise ConfigError(key, str(error)) from None


@dataclass(frozen=True, slots=True)
class Accepts:
    """What a route takes: kinds of body, at most `limit` bytes, and which of four honest exceptions.

    `decode_content` takes gzip, `allow_preamble` a few lines of prose before the first multipart boundary, `allow_untyped`
    a body without a Content-Type, `allow_utf16` JSON in UTF-16 or UTF-32. `with_floats` says that somebody looks at the
    floats in JSON: to read them takes long.
    """

    kinds: frozenset[BodyKind]
    limit: int = 1 << 20
    decode_content: bool = False
    allow_preamble: bool = False
    allow_untyped: bool = False
    allow_utf16: bool = False
    with_floats: bool = True


@dataclass(frozen=True, slots=True)
class Field:
    """One form field, query parameter or multipart part; `filenames` is () unless it is a file.

    `value` is as it was sent, and so is `raw_name` (None where `name` says it all): `is_coded` says whether they are
    percent-coded (`unquoted` undoes that). A file has
    more than one name where its sender gave `filename*` beside `filename` (RFC 6266, section 4.3).
    """

    name: str
    value: bytes | memoryview
    filenames: tuple[str, ...] = ()
    is_coded: bool = False
    raw_name: bytes | None = field(default=None, compare=False)

    @property
    def is_upload(self) -> bool:
        """Whether every reader takes it for a file: some take one for a field that has no name, or an odd one."""
        return bool(self.filenames) and all(name.strip() and not {'"', "\\"} & set(name) for name in self.filenames)


@dataclass(frozen=True, slots=True)
class Document:
    """A body as read: a JSON value, form fields, a plain text, several of these, or nothing at all.

    A body that a rule's readers could take for more than one kind has a reading of each; `kind` is the one that its
    Content-Type names, None without a body. `json` may
    itself be None (the JSON `null`), so `has_json` says whether there is one. `form_like` holds what is
    no URL-encoded form and what a reader might take for one all the same.
    """

    kind: BodyKind | None = None
    json: object = None
    has_json: bool = False
    fields: tuple[Field, ...] = ()
    form_like: tuple[bytes, ...] = ()
    text: str | None = None


_STRAY: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_AS_QUOTED_PRINTABLE: Final = bytes.maketrans(b"%+", b"= ")


def unquoted(raw: bytes) -> bytes:
    """URL-encoded bytes, decoded; a stray percent sign stays as it is.

    The fastest reader of such codes in the standard library is that of quoted-printable, where they begin with an equals
    sign. It has its own ways with stray ones and at the end of a line: what is too long or has such ends had some.
    """
    plain = a2b_qp(raw.replace(b"=", b"%3D").translate(_AS_QUOTED_PRINTABLE))
    if len(plain) == len(raw) - 2 * raw.count(b"%") and b"%\n" not in raw and b"%\r" not in raw:
        return plain
    return unquoted(_STRAY.sub(b"%25", raw))


# A string literal; an unterminated one is taken up to the end, with half an escape there, so that no start is scanned twice.
_STRING: Final = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)


def escaped_strings(text: str) -> Iterator[str]:
    """Every JSON string with an escape in it, wherever it stands in the text, as a JSON reader reads it."""
    for literal in _STRING.findall(text) if "\\" in text else ():
        if "\\" in literal:
            try:
                yield json.loads(literal, strict=False)
            except ValueError:
                continue  # no reader takes it
