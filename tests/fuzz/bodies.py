"""Requests out of one integer each: honest ones by a grammar, and most of them mutated.

The grammar makes what clients send, in the spellings that a grammar allows; the mutations put in
what parsers stumble over. Some requests stay honest, and many survive their damage: where everything is refused,
nothing is tested.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Final

from fuzz.case import ADAPTERS_TURN, KINDS, PLACES, Case, Headers, Kind
from fuzz.grammar import Dice, document, spelled, urlencoded, value_of, words
from fuzz.multiparts import multipart
from fuzz.mutation import BOUNDARY, mutated

Sent = tuple[bytes, bytes]
"""A Content-Type and a body."""

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
_LONG: Final = 0.05  # of the requests that meet the adapters, since length is their business
_HONEST: Final[dict[Kind, float]] = {"json": 0.15, "form": 0.1, "multipart": 0.4, "text": 0.1, "query": 0.1}
_JSON_PLACES: Final = ("message", "contents", "anywhere", "whole", "message only", "message and names", "everything")
_UTF: Final = ("utf-8-sig", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be")
_ALL_PLACES: Final = ("any of all", "everything of all", "lenient")
_FORM_PLACES: Final = (
    "form",
    "rare form",
    "any form",
    "json or form",
    "json or any form",
    "form or text",
    "json or form only",
    *_ALL_PLACES,
)
PLACES_OF: Final[dict[Kind, Sequence[str]]] = {
    "json": (*_JSON_PLACES, "contents", "json or form", "json or text", "json and query", *_ALL_PLACES),
    "form": ("form", *_FORM_PLACES),
    "multipart": ("form", *_FORM_PLACES),
    "text": ("text", "text", "json or text", "form or text", "any of all", "everything of all"),
    "query": ("query", "query", "any query", "form", "json and query", "everything", *_ALL_PLACES),
    "head": tuple(PLACES),
}


def case(kind: Kind, seed: int) -> Case:
    """The request that (kind, seed) stands for."""
    dice = Dice(seed * len(KINDS) + KINDS.index(kind))
    dice.has_long = seed % ADAPTERS_TURN == 0 and dice.chance(_LONG)
    place = dice.pick(PLACES_OF[kind])
    content_type, body, query = b"", b"", b""
    if kind == "query":
        query = _mutated(dice, urlencoded(dice), kind)
        if dice.chance(0.3):
            content_type = dice.pick((*JSON_TYPES, *FORM_TYPES, *TEXT_TYPES))
    elif kind == "head":
        content_type, body = _with_any_head(dice)
    else:
        content_type, body = _SENT[kind](dice)
        body = _mutated(dice, body, kind)
        if dice.chance(0.1):
            query = urlencoded(dice)
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
    content_type, body = dice.pick((_json, _form, multipart, _text))(dice)
    if dice.chance(0.2):
        content_type = dice.pick(
            (*JSON_TYPES, *FORM_TYPES, *TEXT_TYPES, b"multipart/form-data; boundary=" + BOUNDARY.encode())
        )
    roll = dice.random()
    if roll < 0.3:
        content_type = dice.pick(_ODDITIES)(content_type)
    elif roll < 0.7:
        content_type = mutated(dice, content_type, "head")
    return content_type, body


_ODDITIES: Final[Sequence[Callable[[bytes], bytes]]] = (
    lambda value: value.split(b";")[0],
    lambda value: value + b"; charset=utf-7",
    lambda value: value + b"; charset=utf-16",
    lambda value: value + b"; charset=utf-8; charset=latin-1",
    lambda value: value + b"; charset*=utf-8''utf-7",
    lambda value: value + b"; boundary=other",
    lambda value: value + b"; boundary*=utf-8''other",
    lambda value: value.replace(b"boundary=", b"boundary*0="),
    lambda value: value.replace(b"boundary=", b"x=1; boundary="),
    lambda value: value.replace(b"; ", b" ;"),
    lambda value: value.replace(b"form-data", b"mixed"),
    lambda value: value.replace(b"/", b" / "),
    lambda value: value.replace(b"application", b"text"),
    lambda value: value + b", text/plain",
    lambda value: b"text/plain, " + value,
    lambda value: value.upper(),
    lambda value: value + b"\xa0",
    lambda value: b"",
)


def _text(dice: Dice) -> Sent:
    text = words(dice) if dice.chance(0.7) else value_of(dice, 2) if dice.chance(0.3) else document(dice)
    body = text.encode() if isinstance(text, str) else json.dumps(text).encode()
    if dice.chance(0.1):
        body = urlencoded(dice)
    return dice.pick(TEXT_TYPES), (b"\xef\xbb\xbf" if dice.chance(0.05) else b"") + body


def _json(dice: Dice) -> Sent:
    value = document(dice)
    if dice.chance(0.7):
        separators = (",", ":") if dice.chance(0.5) else (", ", ": ")
        text = json.dumps(value, ensure_ascii=dice.chance(0.5), separators=separators)
    else:
        text = spelled(dice, value)
    return dice.pick(JSON_TYPES), text.encode(dice.pick(_UTF) if dice.chance(0.06) else "utf-8")


def _form(dice: Dice) -> Sent:
    body = urlencoded(dice)
    if dice.chance(0.06):
        body = _json(dice)[1]
    return dice.pick(FORM_TYPES), body


_SENT: Final[dict[Kind, Callable[[Dice], Sent]]] = {
    "json": _json,
    "form": _form,
    "multipart": multipart,
    "text": _text,
}
