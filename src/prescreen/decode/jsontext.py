"""JSON, by the standard library's reader, with its tolerances taken away and its work bounded."""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Final, Never

from prescreen.document import Limits
from prescreen.errors import Oversize, Unreadable

# A whole string literal, or an unterminated one up to the end, so that no start is scanned twice.
_STRING: Final = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\Z)', re.DOTALL)
# Blanks, byte order marks and the NULs of wider encodings.
_BEFORE: Final = b" \t\r\n\x00\xef\xbb\xbf\xfe\xff"
_LIKE_CONTAINER: Final = re.compile(
    rb"""[\x20\t\r\n\x00\xef\xbb\xbf\xfe\xff]*+ (?: \{ [\x20\t\r\n\x00]*+ ["}] | \[ [\x20\t\r\n\x00]*+ ["\[{\]0-9-] )""",
    re.VERBOSE,
)
_NOT_BRACKETS: Final = re.compile(r"[^\[\]{}]+")
_STEP: Final = {"[": 1, "{": 1, "]": -1, "}": -1}


def parse(body: bytes, limits: Limits) -> object:
    """The JSON value of a UTF-8 body.

    Raises Unreadable for what RFC 8259 does not allow (NaN, trailing text, bad UTF-8 …), for a
    repeated key (readers differ on which one counts) and for too much depth; Oversize for too many
    values. Both limits are checked before anything is built.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"the JSON is not UTF-8 at byte {error.start}") from error
    _check_shape(text, limits)
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise Unreadable(f"not valid JSON at character {error.pos}") from error
    except ValueError as error:  # an integer of more digits than the interpreter converts
        raise Unreadable("a number in the JSON has too many digits") from error


def may_be_json(body: bytes) -> bool:
    """Whether some reader, in whatever encoding, could find a JSON text with a string in it here."""
    if body.lstrip(_BEFORE)[:1] not in (b"{", b"[", b'"'):
        return False
    return _LIKE_CONTAINER.match(body) is not None or is_json(body)


def is_json(body: bytes) -> bool:
    """Whether a forgiving reader takes it, with control characters in strings, repeated keys and all."""
    try:
        json.loads(body, strict=False)
    except RecursionError:
        return True  # too deep for this reader, and not for every other
    except ValueError:
        return False
    return True


def _check_shape(text: str, limits: Limits) -> None:
    """Bound depth and count without recursion; strings are cut out only where it could matter."""
    openers, commas = text.count("[") + text.count("{"), text.count(",")
    if openers <= limits.depth and openers + commas < limits.nodes:
        return
    bare = _STRING.sub("", text)
    if bare.count("[") + bare.count("{") + bare.count(",") >= limits.nodes:
        raise Oversize(f"the JSON has more than {limits.nodes} values")
    if bare.count("]") + bare.count("}") > limits.nodes:
        raise Unreadable("not valid JSON: it closes more than it opens")
    steps = map(_STEP.__getitem__, _NOT_BRACKETS.sub("", bare))
    if max(accumulate(steps), default=0) > limits.depth:
        raise Unreadable(f"the JSON is nested more than {limits.depth} levels deep")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Unreadable("a key is repeated in a JSON object")
    return found


def _refuse_constant(_name: str) -> Never:
    raise Unreadable("NaN and Infinity are not JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)
