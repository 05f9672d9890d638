"""What a body is once it has been read, and how much of it we take."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Final

from prescreen.errors import ConfigError
from prescreen.units import size

_DEEPEST: Final = 90  # jsonpath-rfc9535 descends 100 levels, the standard library's reader about 1,000


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of one request is taken; more is Oversize (413).

    `body` is in bytes (or like "1MiB"). `nodes` counts JSON values, `fields` form fields or query parameters,
    `parts` multipart parts, `part_head` the bytes of one part's headers, `texts`, `images` and
    `characters` what goes to the moderator (an image is a call of its own). JSON deeper than `depth` is Unreadable. Raises ConfigError.
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

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in ("body", "part_head"):
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
class Field:
    """One form field, query parameter or multipart part; `filename` is None unless it is a file.

    `value` is as it was sent: `is_coded` says whether it is percent-coded (`unquoted` undoes that).
    """

    name: str
    value: bytes
    filename: str | None = None
    is_coded: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """A body as read: a JSON value, form fields, a plain text, several of these, or nothing at all.

    A body that a rule's readers could take for more than one kind has a reading of each. `json` may
    itself be None (the JSON `null`), so `has_json` says whether there is one. `form_like` is the
    body where it is no URL-encoded form and a reader might take it for one all the same.
    """

    json: object = None
    has_json: bool = False
    fields: tuple[Field, ...] = ()
    form_like: bytes | None = None
    text: str | None = None


_CODED: Final = re.compile(rb"(?:%[0-9A-Fa-f]{2})+")


def unquoted(raw: bytes) -> bytes:
    """URL-encoded bytes, decoded; a stray percent sign stays as it is."""
    return _CODED.sub(_decoded, raw.replace(b"+", b" "))


def _decoded(run: re.Match[bytes]) -> bytes:
    return bytes.fromhex(run[0].replace(b"%", b"").decode("ascii"))
