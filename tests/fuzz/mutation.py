"""Damage: tokens that mean something to some parser, put where they may mean it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from fuzz.case import Kind

BOUNDARY: Final = "XvioletX"
_B: Final = BOUNDARY.encode()

_BLANKS: Final = (
    b" ", b"\t", b"\n", b"\r", b"\r\n", b"\x00", b"\x0b", b"\x0c", b"\x1c", b"\x85", b"\xa0", b"\xc2\x85",
    b"\xc2\xa0", b"\xe2\x80\xa8", b"\xe2\x80\x8b", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xff", b"\xc3",
    b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xe3\x80\x80",
)  # fmt: skip
_COMMON: Final = (
    b"message", b'"message"', b'"message":"other words"', b"&message=other words&", b"message=other words",
    b"a", b"0", b"'", b"`", b"#", b"\\", b'"', b"other words",
)  # fmt: skip
_JSON: Final = (
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u0073", b"\\u0000", b"\\ud83d", b"\\ude00", b"\\udfff", b"\\x41",
    b"\\'", b"NaN", b"Infinity", b"1e999", b"-0", b"1E400", b"0x1", b"//", b"/*", b"*/", b"#\n", b"null", b"true",
    b'{"message":"other words"}', b',"message":"other words"', b'"message":"other words",', b'"\\u006dessage":"other words",',
    b'"messages":[{"content":"other words"}],', b"9" * 50, b"[" * 70, b"+ADs-", b"'message':'other words',", b"\x7f",
)  # fmt: skip
_FORM: Final = (
    b"&", b"=", b";", b"+", b"%", b"%00", b"%26", b"%3D", b"%3d", b"%0", b"%u0073", b"%ff", b"%C3", b"%c3%a9", b"%ED%A0%80",
    b"%E2%80%8B", b"%C2%A0", b"%20", b"%0a", b"%0d%0a", b"%25", b"%2526", b"%EF%BB%BF", b"&amp;", b"[]", b"[0]", b"message[]=other",
    b"message.0=other", b"%6dessage=other", b"_charset_=utf-7&", b"_charset_=utf-8&", b"message%00=other", b"%20message=other",
    b"message%20=other", b"&message&", b"&message=&", b"&&", b"?", b"message=%22other%5Cu0020words%22", b"message=[1,%22other%22]",
)  # fmt: skip
_MULTIPART: Final = (
    b"--", b"--" + _B, b"--" + _B + b"--", b"\r\n--" + _B + b"\r\n", b"\r\n--" + _B + b"--\r\n", b"\n--" + _B + b"\n",
    b"--" + _B + b" \r\n", b"--" + _B + b"\t", b'name="message"', b"name=message", b'; name="message"', b'name="x"; name="message"',
    b"; ", b";", b"=", b'"', b"\\", b'\\"', b'; filename="note.txt"', b"; filename=note.txt", b'; filename=""', b"; filename",
    b"; filename*=utf-8''note.txt", b"; name*=utf-8''message", b'; name*0="mess"; name*1="age"', b"\r\n\r\n", b"\n\n", b"\r\n ",
    b'Content-Disposition: form-data; name="message"\r\n', b'Content-Disposition: attachment; name="message"\r\n',
    b"Content-Type: text/plain; charset=utf-7\r\n", b"Content-Type: text/plain; charset=utf-16\r\n", b"Content-Type: application/json\r\n",
    b"Content-Type: text/plain; charset=latin-1\r\n", b"Content-Type: multipart/mixed; boundary=in\r\n",
    b"Content-Type: application/x-www-form-urlencoded\r\n", b"Content-Transfer-Encoding: base64\r\n", b"Content-Length: 3\r\n",
    b"Content-Encoding: gzip\r\n", b"X-Other: 1\r\n", b"=?utf-8?q?message?=", b"c2V2ZW4=", b"&#109;", b"%6d", b"%22", b"/", b"..",
    b"--" + _B + b'\r\nContent-Disposition: form-data; name="message"\r\n\r\nother words\r\n',
)  # fmt: skip
_HEAD: Final = (
    b";", b"; ", b"=", b",", b'"', b"\\", b"/", b"*", b"(comment)", b"charset=", b"; charset=utf-8", b"; charset=utf-7",
    b"; charset=utf-16", b"; charset=latin-1", b'; charset="utf-8"', b"; charset=utf_8", b"; charset=ascii", b"; charset*=utf-8''utf-7",
    b"; charset=unicode_escape", b"; boundary=", b"; boundary=" + _B, b'; boundary="' + _B + b'"', b"; boundary=Z", b"; xboundary=Z",
    b"; boundary*=utf-8''Z", b"; Boundary=Z", b"application/json", b"application/x-www-form-urlencoded", b"multipart/form-data",
    b"multipart/mixed", b"text/plain", b"text/json", b"+json", b"json", b"form", b"application/", b"; q=1", b", text/plain",
    b"application/json, ", b"utf-8", b"utf-7", b"us-ascii", b"x-", b";;",
)  # fmt: skip
TOKENS: Final[dict[Kind, Sequence[bytes]]] = {
    "json": (*_COMMON, *_BLANKS, *_JSON, *_JSON),
    "form": (*_COMMON, *_BLANKS, *_FORM, *_FORM),
    "query": (*_COMMON, *_BLANKS, *_FORM, *_FORM),
    "multipart": (*_COMMON, *_BLANKS, *_MULTIPART, *_MULTIPART),
    "text": (*_COMMON, *_BLANKS, *_JSON, *_FORM),
    "head": (*_BLANKS, *_HEAD, *_HEAD),
}


def mutated(dice: Random, body: bytes, kind: Kind) -> bytes:
    """The body with one to five damages."""
    roll = dice.random
    tokens = TOKENS[kind]
    found = bytearray(body)
    for _ in range(1 + int(roll() * roll() * 5)):
        _DAMAGES[int(roll() * len(_DAMAGES))](roll, found, tokens)
    return bytes(found)


Roll = Callable[[], float]
_DELIMITERS: Final = (b'"', b"=", b"&", b":", b";", b"\n", b"-", b"{", b"[", b"\\")


def _insert(roll: Roll, body: bytearray, tokens: Sequence[bytes]) -> None:
    at = int(roll() * (len(body) + 1))
    if roll() < 0.4:  # beside the next delimiter: that is where a token means something
        at = max(0, body.find(_DELIMITERS[int(roll() * len(_DELIMITERS))], at)) + (roll() < 0.5)
    body[at:at] = tokens[int(roll() * len(tokens))]


def _overwrite(roll: Roll, body: bytearray, tokens: Sequence[bytes]) -> None:
    at = int(roll() * (len(body) + 1))
    token = tokens[int(roll() * len(tokens))]
    body[at : at + len(token)] = token


def _append(roll: Roll, body: bytearray, tokens: Sequence[bytes]) -> None:
    """At an end, where parsers stop looking."""
    at = 0 if roll() < 0.3 else len(body)
    body[at:at] = tokens[int(roll() * len(tokens))]


def _delete(roll: Roll, body: bytearray, _tokens: Sequence[bytes]) -> None:
    at = int(roll() * (len(body) + 1))
    del body[at : at + 1 + int(roll() * roll() * 12)]


def _byte(roll: Roll, body: bytearray, _tokens: Sequence[bytes]) -> None:
    if body:
        body[int(roll() * len(body))] = int(roll() * 256)


def _case(roll: Roll, body: bytearray, _tokens: Sequence[bytes]) -> None:
    if body:
        body[int(roll() * len(body))] ^= 0x20


def _repeat(roll: Roll, body: bytearray, _tokens: Sequence[bytes]) -> None:
    start = int(roll() * (len(body) + 1))
    piece = body[start : start + int(roll() * 60)]
    at = int(roll() * (len(body) + 1))
    body[at:at] = piece


_DAMAGES: Final = (_insert, _insert, _insert, _overwrite, _append, _delete, _byte, _case, _repeat)
