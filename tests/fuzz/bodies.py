"""Requests out of one integer each: honest ones by a grammar, and most of them mutated.

The grammar makes what clients send, in the spellings that a grammar allows; the mutations put in
what parsers stumble over. Some requests stay honest, and many survive their damage: where everything is refused,
nothing is tested.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final, TypeVar
from urllib.parse import quote, quote_plus

from fuzz.case import KINDS, PLACES, Case, Headers, Kind
from fuzz.mutation import BOUNDARY, mutated

T = TypeVar("T")
Sent = tuple[bytes, bytes]
"""A Content-Type and a body."""

WORDS: Final = (
    "seven violet lanterns",
    "a name for a cat",
    "what is the capital of Norway?",
    "déjà vu",
    "naïve café",
    "日本語のテキスト",
    "so 😀 glad",
    "e\u0301tude",
    'she said "hello"',
    "back\\slash and \\n",
    "50% + 1 & more = all",
    "first line\nsecond line",
    "first line\r\nsecond line",
    "tab\there",
    "a;b;c",
    "<b>bold</b> &amp; &#109;ild",
    "%41%42 %zz",
    "one+two",
    '{"message": "a text inside"}',
    '["in", "a list"]',
    '"quoted"',
    "\\u0073even",
    "=?utf-8?q?word?=",
    "line\u2028separator",
    "\ufeffmarked",
    "right\u202eleft",
    "zero\u200bwidth",
    "\uff46\uff55\uff4c\uff4c width",
    "--" + BOUNDARY,
    "true",
    "42",
    "null",
    "",
    " ",
    "x" * 300,
)
NAMES: Final = (
    "message",
    "message",
    "message",
    "messages",
    "content",
    "role",
    "id",
    "text",
    "Message",
    "title",
    "déjà",
    "user message",
    "",
)
JSON_TYPES: Final = (
    b"application/json",
    b"application/json",
    b"application/json; charset=utf-8",
    b"application/json;charset=UTF-8",
    b'application/json; charset="utf-8"',
    b"application/vnd.api+json",
    b"application/json; charset=us-ascii",
    b"Application/JSON",
)
FORM_TYPES: Final = (
    b"application/x-www-form-urlencoded",
    b"application/x-www-form-urlencoded",
    b"application/x-www-form-urlencoded; charset=UTF-8",
    b"application/x-www-form-urlencoded; charset=us-ascii",
)
TEXT_TYPES: Final = (
    b"text/plain",
    b"text/plain; charset=utf-8",
    b"text/plain; charset=us-ascii",
    b"text/plain;format=flowed",
)
PART_TYPES: Final = (
    "text/plain",
    "text/plain; charset=utf-8",
    "text/plain; charset=us-ascii",
    "application/octet-stream",
    "application/json",
    "application/json; charset=utf-8",
    "application/x-www-form-urlencoded",
    "image/png",
)
_HONEST: Final[dict[Kind, float]] = {"json": 0.15, "form": 0.1, "multipart": 0.4, "text": 0.1, "query": 0.1}
_LONG: Final = 0.0003  # of the words; over the size from which work goes to a thread
_JSON_PLACES: Final = ("message", "contents", "anywhere", "whole")
_FORM_PLACES: Final = (
    "form",
    "rare form",
    "any form",
    "json or form",
    "json or any form",
    "form or text",
    "any of all",
)
PLACES_OF: Final[dict[Kind, Sequence[str]]] = {
    "json": (*_JSON_PLACES, *_JSON_PLACES, "json or form", "json or text", "json and query", "any of all"),
    "form": ("form", *_FORM_PLACES),
    "multipart": ("form", *_FORM_PLACES),
    "text": ("text", "text", "json or text", "form or text", "any of all"),
    "query": ("query", "query", "any query", "form", "json and query", "any of all"),
    "head": tuple(PLACES),
}


class Dice(Random):
    """Random choices, cheaply."""

    def chance(self, share: float) -> bool:
        return self.random() < share

    def below(self, end: int) -> int:
        return int(self.random() * end)

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.random() * len(options))]


def case(kind: Kind, seed: int) -> Case:
    """The request that (kind, seed) stands for."""
    dice = Dice(seed * len(KINDS) + KINDS.index(kind))
    place = dice.pick(PLACES_OF[kind])
    content_type, body, query = b"", b"", b""
    if kind == "query":
        query = _mutated(dice, _urlencoded(dice), kind)
        if dice.chance(0.3):
            content_type = dice.pick((*JSON_TYPES, *FORM_TYPES, *TEXT_TYPES))
    elif kind == "head":
        content_type, body = _with_any_head(dice)
    else:
        content_type, body = _SENT[kind](dice)
        body = _mutated(dice, body, kind)
        if dice.chance(0.1):
            query = _urlencoded(dice)
    return Case(kind, place, _headers(dice, content_type, body), body, query, seed)


def _mutated(dice: Dice, body: bytes, kind: Kind) -> bytes:
    return body if dice.chance(_HONEST[kind]) else mutated(dice, body, kind)


def _headers(dice: Dice, content_type: bytes, body: bytes) -> Headers:
    headers = [(b"host", b"localhost")]
    if content_type:
        headers.append((b"content-type", content_type))
    if body:
        headers.append((b"content-length", str(len(body)).encode()))
    return tuple(headers)


def _with_any_head(dice: Dice) -> Sent:
    """A body of any kind under a Content-Type that may be another's, or nobody's."""
    content_type, body = dice.pick((_json, _form, _multipart, _text))(dice)
    if dice.chance(0.2):
        content_type = dice.pick(
            (*JSON_TYPES, *FORM_TYPES, *TEXT_TYPES, b"multipart/form-data; boundary=" + BOUNDARY.encode())
        )
    if dice.chance(0.6):
        content_type = mutated(dice, content_type, "head")
    return content_type, body


# Text


def words(dice: Dice) -> str:
    word = "x" * 66_000 if dice.chance(_LONG) else dice.pick(WORDS)
    return f"{word} {dice.pick(WORDS)}" if dice.chance(0.2) else word


def _text(dice: Dice) -> Sent:
    text = words(dice) if dice.chance(0.7) else _value(dice, 2) if dice.chance(0.3) else _document(dice)
    body = text.encode() if isinstance(text, str) else json.dumps(text).encode()
    if dice.chance(0.1):
        body = _urlencoded(dice)
    return dice.pick(TEXT_TYPES), (b"\xef\xbb\xbf" if dice.chance(0.05) else b"") + body


# JSON


def _json(dice: Dice) -> Sent:
    value = _document(dice)
    if dice.chance(0.7):
        separators = (",", ":") if dice.chance(0.5) else (", ", ": ")
        text = json.dumps(value, ensure_ascii=dice.chance(0.5), separators=separators)
    else:
        text = _spelled(dice, value)
    return dice.pick(JSON_TYPES), (b"\xef\xbb\xbf" if dice.chance(0.03) else b"") + text.encode()


def _document(dice: Dice) -> Any:
    if dice.chance(0.35):
        return {"model": "small", "messages": [_chat(dice) for _ in range(1 + dice.below(3))]}
    if dice.chance(0.05):
        return _value(dice, 2)
    document = {dice.pick(NAMES): _value(dice, 2) for _ in range(dice.below(3))}
    return document | {"message": words(dice) if dice.chance(0.7) else _value(dice, 2)}


def _chat(dice: Dice) -> Any:
    content: Any = words(dice)
    if dice.chance(0.4):
        content = [_part(dice) for _ in range(1 + dice.below(2))]
    return {"role": dice.pick(("user", "system", "tool")), "content": content}


def _part(dice: Dice) -> Any:
    if dice.chance(0.7):
        return {"type": dice.pick(("text", "input_text", words(dice))), "text": words(dice)}
    url = dice.pick(("https://pictures.example/a.png", "data:image/png;base64,AAAA", words(dice)))
    return {"type": "image_url", "image_url": {"url": url, "detail": dice.pick(("auto", words(dice)))}}


def _value(dice: Dice, depth: int) -> Any:
    roll = dice.below(10)
    if roll < 5 or not depth:
        return words(dice)
    if roll < 7:
        return [_value(dice, depth - 1) for _ in range(dice.below(3))]
    if roll < 9:
        return {dice.pick(NAMES): _value(dice, depth - 1) for _ in range(dice.below(3))}
    return dice.pick((None, True, 0, -1.5, 1e300, 12345678901234567890))


def _spelled(dice: Dice, value: Any) -> str:
    """JSON in its rarer spellings: blanks anywhere, characters escaped at random."""
    blank = dice.pick(("", "", " ", "\n", "\t", "\r\n  "))
    if isinstance(value, str):
        return f"{blank}{_literal(dice, value)}"
    if isinstance(value, list):
        return f"{blank}[{','.join(_spelled(dice, each) for each in value)}{blank}]"
    if isinstance(value, dict):
        members = (f"{blank}{_literal(dice, name)}{blank}:{_spelled(dice, each)}" for name, each in value.items())
        return f"{{{','.join(members)}{blank}}}"
    return f"{blank}{json.dumps(value)}{blank}"


def _literal(dice: Dice, text: str) -> str:
    share = dice.pick((0.0, 0.1, 1.0))
    return f'"{"".join(_escaped(dice, letter, share) for letter in text)}"'


def _escaped(dice: Dice, letter: str, share: float) -> str:
    if letter in '"\\' or letter < " " or dice.chance(share):
        units = letter.encode("utf-16-be").hex()
        digits = [units[at : at + 4] for at in range(0, len(units), 4)]
        return "".join(f"\\u{each.upper() if dice.chance(0.5) else each}" for each in digits)
    return "\\/" if letter == "/" and dice.chance(0.5) else letter


# Forms


def _urlencoded(dice: Dice) -> bytes:
    pairs = [f"{_coded(dice, dice.pick(NAMES))}={_coded(dice, words(dice))}" for _ in range(1 + dice.below(3))]
    return "&".join(pairs).encode()


def _coded(dice: Dice, text: str) -> str:
    roll = dice.below(8)
    if roll < 5:
        return quote_plus(text)
    if roll < 6:
        return quote(text, safe="/?:@!$'()*,;")
    if roll < 7:
        return "".join(f"%{byte:02X}" if dice.chance(0.5) else f"%{byte:02x}" for byte in text.encode())
    return text.replace("%", "%25").replace("&", "%26").replace("+", "%2B").replace("=", "%3D")


def _form(dice: Dice) -> Sent:
    body = _urlencoded(dice)
    if dice.chance(0.06):
        body = _json(dice)[1]
    return dice.pick(FORM_TYPES), body


def _multipart(dice: Dice) -> Sent:
    boundary = dice.pick((BOUNDARY, BOUNDARY, "----WebKitFormBoundaryAbC123", "a", "'quoted:b'"))
    parts = [_form_part(dice) for _ in range(1 + dice.below(3))]
    body = b"".join(f"--{boundary}\r\n".encode() + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()
    is_quoted = ":" in boundary or dice.chance(0.2)
    named = f'boundary="{boundary}"' if is_quoted else f"boundary={boundary}"
    charset = dice.pick(("", "", "", " charset=utf-8;", " charset=us-ascii;"))
    return f"multipart/form-data;{charset} {named}".encode(), body


def _form_part(dice: Dice) -> bytes:
    name = dice.pick(NAMES)
    head = f'Content-Disposition: form-data; name="{name}"'
    is_file = dice.chance(0.3)
    if is_file:
        head += f'; filename="{dice.pick(("note.txt", "", "dir/note.txt", "naïve.txt", "a&amp;b.txt", words(dice)))}"'
    if is_file or dice.chance(0.2):
        head += f"\r\nContent-Type: {dice.pick(PART_TYPES)}"
    value = words(dice) if dice.chance(0.8) else json.dumps(_document(dice), ensure_ascii=dice.chance(0.5))
    if dice.chance(0.1):
        head += f"\r\nContent-Length: {len(value.encode())}"
    if dice.chance(0.05):
        head += f"\r\nContent-Transfer-Encoding: {dice.pick(('binary', '8bit', '7bit'))}"
    return f"{head}\r\n\r\n{value}".encode()


_SENT: Final[dict[Kind, Callable[[Dice], Sent]]] = {
    "json": _json,
    "form": _form,
    "multipart": _multipart,
    "text": _text,
}
