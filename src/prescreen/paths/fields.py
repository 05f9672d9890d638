"""The texts in form fields, query parameters and multipart parts, in every reading that they have."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Final
from urllib.parse import unquote, unquote_plus

from prescreen.document import Field, escaped_strings, unquoted
from prescreen.errors import Oversize, Unreadable
from prescreen.model import Item, Text
from prescreen.paths.pointer import escape
from prescreen.paths.walk import items

_CONTINUATIONS: Final = bytes(range(0x80, 0xC0))  # of UTF-8: not one of these begins a character
# Hexadecimal digits by what they can begin, as the second digit or the first: one of these bytes, or another.
_DIGITS: Final = bytes(
    ord("8") if byte in b"89abAB" else ord("0") if byte in b"01234567cdefCDEF" else byte if byte == ord("%") else 0
    for byte in range(256)
)


class Fields:
    """The fields that a rule names, `"*"` for all of them; `most` is the most characters that one may have.

    Without `with_images` there are only texts.
    """

    def __init__(self, names: Iterable[str], document: str = "", *, with_images: bool = True) -> None:
        self.names: Final = frozenset(map(loose, names))
        self._document = document
        self._items: Final = partial(items, with_images=with_images)
        self._spelled = _spellings(self.names)

    def texts(self, fields: Iterable[Field], most: int) -> Iterator[Item]:
        """The values, and for files the names and contents, of every occurrence of the named fields."""
        takes_all = "*" in self.names
        for at, field in self._placed(field for field in fields if takes_all or loose(field.name) in self.names):
            yield from self._filenames(at, field)
            yield from self._contents(f"{at}/content" if field.filenames else at, field, most)

    def everything(self, fields: Iterable[Field], most: int, known: Collection[str] | None) -> Iterator[Item]:
        """The values of all fields, the names of all files, and with `known` the names that are not in it."""
        for at, field in self._placed(fields):
            yield from self._filenames(at, field)
            if not field.is_upload:
                yield from self._contents(f"{at}/content" if field.filenames else at, field, most)
            if known is not None and field.name not in known:
                for name in _names(field):
                    yield from self._contents(at, replace(field, value=name), most, with_links=False)

    def spelled_out(self, body: bytes, limit: int, most: int) -> Iterator[Text]:
        """What a form reader that ignores the Content-Type would find under the named fields in any body."""
        first, later = self._spelled
        for number, match in enumerate(filter(None, chain([first.match(body)], later.finditer(body)))):
            if number >= limit:
                raise Oversize(f"there are more than {limit} form fields")
            name, _, value = match[0].removeprefix(b"&").partition(b"=")
            at = "" if "*" in self.names else f"/{escape(_lenient(name, most))}"
            yield Text(at, _lenient(value, most))
            yield from _recoded(at, value)

    def _placed(self, fields: Iterable[Field]) -> Iterator[tuple[str, Field]]:
        """The fields with their pointers; repeated ones are numbered."""
        fields = list(fields)
        repeated, seen = Counter(field.name for field in fields), Counter[str]()
        for field in fields:
            at = f"{self._document}/{escape(field.name)}"
            if repeated[field.name] > 1:
                at, seen[field.name] = f"{at}/{seen[field.name]}", seen[field.name] + 1
            yield at, field

    def _contents(self, at: str, field: Field, most: int, *, with_links: bool = True) -> Iterator[Item]:
        """A field's value, in the readings that it has."""
        raw = bytes(field.value)
        if field.is_coded:
            _refuse_long(raw, most)
        try:
            value = (unquoted(raw) if field.is_coded else raw).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Unreadable("a form field or query parameter is not UTF-8") from error
        yield from self._items(at, value, with_links=with_links)
        yield from (Text(at, reading) for reading in escaped_strings(value))
        if field.is_coded:
            yield from _recoded(at, raw)

    def _filenames(self, at: str, field: Field) -> Iterator[Item]:
        """A file's names as sent and as readers clean them up: decoded, unescaped, without folders and HTML entities."""
        readings = list(field.filenames)
        for clean in (_quoted, unquote, _unescaped, _unescaped_quotes, _quoted, html.unescape, _printable, _basename):
            readings = list(dict.fromkeys([*readings, *map(clean, readings)]))
        for reading in readings:
            yield from self._items(f"{at}/filename", reading, with_links=False)


def loose(name: str) -> str:
    """A field name as the most forgiving reader takes it: trimmed, percent-coding undone."""
    return unquote(name).strip()


def _recoded(at: str, raw: bytes) -> Iterator[Text]:
    """What readers find that take unescaped bytes for latin-1."""
    if not raw.isascii():
        yield Text(at, unquote_plus(raw.decode("latin-1")))


def _refuse_long(raw: bytes, most: int) -> None:
    """Raise Oversize for more characters than anyone may send, before any is decoded."""
    digits = raw.translate(_DIGITS)
    begins, continues = (digits.count(first + b"0") + digits.count(first + b"8") for first in (b"%0", b"%8"))
    if len(raw.translate(None, _CONTINUATIONS)) - 2 * begins - 3 * continues > most:
        raise Oversize(f"a form field or query parameter has more than {most} characters")


def _lenient(raw: bytes, most: int) -> str:
    _refuse_long(raw, most)
    return unquoted(raw).decode("utf-8", "replace")


def _names(field: Field) -> Iterable[bytes]:
    """A field's name, in the readings that it has: a part's may be coded like a file's."""
    if field.raw_name is not None:
        return (field.raw_name,)
    return dict.fromkeys(clean(field.name).encode() for clean in (str, _quoted, unquote))


def _quoted(name: str) -> str:
    return name.replace("%22", '"')  # as browsers write a quote, and some readers undo that alone


def _unescaped(name: str) -> str:
    return re.sub(r"\\(.)", r"\1", name)


def _unescaped_quotes(name: str) -> str:
    return re.sub(r'\\(["\\])', r"\1", name)  # all that a sender has to escape, and all that some readers undo


def _printable(name: str) -> str:
    return "".join(filter(str.isprintable, name))


def _basename(name: str) -> str:
    return re.split(r"[/\\]", name)[-1]


def _spellings(names: frozenset[str]) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """What finds the named fields in raw bytes: at their beginning, and behind an ampersand."""
    if "*" in names:
        # What is before the first field of a multipart form is judged as its parts.
        return re.compile(rb"(?!--)[^&=]*+=[^&]*"), re.compile(rb"&[^&=]*+=[^&]*")
    pattern = _spelled(names)
    return re.compile(pattern), re.compile(b"&" + pattern)


def _spelled(names: frozenset[str]) -> bytes:
    """A pattern for fields of these names, each byte of a name plain or percent-coded."""
    if not names:
        return rb"(?!)"
    spelled = ("".join(map(_spelling, name.encode())) for name in names)
    return f"(?:{'|'.join(spelled)})=[^&]*".encode("latin-1")


def _spelling(byte: int) -> str:
    coded = "".join(f"[{digit}{digit.upper()}]" for digit in f"{byte:02x}")
    plain = r"(?:\+|\x20)" if byte == 0x20 else f"\\x{byte:02x}"
    return f"(?:{plain}|%{coded})"
