"""JSON, by the standard library's reader, with its tolerances taken away and its work bounded."""

from __future__ import annotations

import json
import re
from itertools import accumulate
from json import JSONDecoder
from typing import Any, Final, Never

from prescreen.decode.media import WIDE
from prescreen.document import Limits
from prescreen.errors import Oversize, Unreadable

# Blanks, byte order marks and the NULs of wider encodings.
_BEFORE: Final = b" \t\r\n\x00\xef\xbb\xbf\xfe\xff"
_LIKE_CONTAINER: Final = re.compile(
    rb"""[\x20\t\r\n\x00\xef\xbb\xbf\xfe\xff]*+ (?: \{ [\x20\t\r\n\x00]*+ ["}] | \[ [\x20\t\r\n\x00]*+ ["\[{\]0-9-] )""",
    re.VERBOSE,
)
_NO_SHAPE: Final = bytes(set(range(256)) - set(b'"[]{},:'))
_NO_BRACKETS: Final = b",:"
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # up and down, as signed bytes


def parse(body: bytes, limits: Limits, *, with_floats: bool = True) -> object:
    """The JSON value of a UTF-8 body; without floats, these are nothing but numbers.

    Raises Unreadable for what RFC 8259 does not allow (NaN, trailing text, bad UTF-8 …), for a
    repeated key (readers differ on which one counts) and for too much depth; Oversize for too many
    values. Both limits are checked before anything is built.
    """
    shape = _shape(body, limits)
    _check_depth(shape, limits)
    names = _Names()
    number = float if with_floats else len  # of all that takes a string and gives a number, the fastest
    reader = JSONDecoder(object_hook=names.seen, parse_constant=_refuse_constant, parse_float=number)
    try:
        value = reader.decode(body.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise Unreadable(f"the JSON is not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise Unreadable(f"not valid JSON at character {error.pos}") from error
    except ValueError as error:  # an integer of more digits than the interpreter converts
        raise Unreadable("a number in the JSON has too many digits") from error
    # Each name has its colon; of a repeated one, the reader keeps the last.
    if names.count != shape.count(b":"):
        raise Unreadable("a key is repeated in a JSON object")
    return value


def may_be_json(body: bytes, limits: Limits) -> bool:
    """Whether some reader, in whatever encoding, could find a JSON text with a string in it here."""
    if body.lstrip(_BEFORE)[:1] not in (b"{", b"[", b'"'):
        return False
    return _LIKE_CONTAINER.match(body) is not None or is_json(body, limits)


def is_json(body: bytes, limits: Limits) -> bool:
    """Whether a forgiving reader takes it, with control characters in strings, repeated keys and all."""
    try:
        _shape(body, limits)
        json.loads(body, strict=False)
    except (Oversize, RecursionError):
        return True  # too much for this reader, and not for every other
    except ValueError:
        return False
    return True


def as_utf8(body: bytes, charset: str) -> bytes:
    """JSON in UTF-16 or UTF-32, in UTF-8. Raises Unreadable where its declared charset reads otherwise."""
    encoding = json.detect_encoding(body)
    try:
        text = body.decode(encoding)
        if charset in WIDE and body.decode(charset).lstrip("\ufeff") != text.lstrip("\ufeff"):
            raise Unreadable("the JSON is not in the encoding that its Content-Type names")
        return text.encode()
    except UnicodeError as error:
        raise Unreadable(f"the JSON is not {encoding}, as its first bytes say") from error


def _shape(body: bytes, limits: Limits) -> bytes:
    """The brackets, commas and colons outside strings. Raises Oversize for too many values.

    Strings come out in bulk, since that is fast: first those that hold nothing of the shape, then the
    rest. In valid JSON no string begins where another ends, and what is after a fault is never read.
    """
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    shape = body.translate(None, _NO_SHAPE)
    too_many = shape.count(b'"') > 4 * limits.nodes  # a value is at most two strings, its name and itself
    if not too_many:
        shape = b"".join(shape.replace(b'""', b"").split(b'"')[::2])
        too_many = shape.count(b"[") + shape.count(b"{") + shape.count(b",") >= limits.nodes
    if too_many:
        raise Oversize(f"the JSON has more than {limits.nodes} values")
    return shape


def _check_depth(shape: bytes, limits: Limits) -> None:
    """Raise Unreadable for too much depth, found without recursion."""
    openers = shape.count(b"[") + shape.count(b"{")
    if openers <= limits.depth:
        return
    if shape.count(b"]") + shape.count(b"}") > openers:
        raise Unreadable("not valid JSON: it closes more than it opens")
    if max(accumulate(memoryview(shape.translate(_STEPS, _NO_BRACKETS)).cast("b"))) > limits.depth:
        raise Unreadable(f"the JSON is nested more than {limits.depth} levels deep")


class _Names:
    """How many members the objects of a document have, counted as the reader makes them."""

    def __init__(self) -> None:
        self.count = 0

    def seen(self, members: dict[str, Any]) -> dict[str, Any]:
        self.count += len(members)
        return members


def _refuse_constant(_name: str) -> Never:
    raise Unreadable("NaN and Infinity are not JSON")
