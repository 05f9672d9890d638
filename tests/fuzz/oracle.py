"""What an oracle is: one framework's accessor, and the strings that it hands to a handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from fuzz.case import Case, Place, Reading

Reads = list[tuple[str, object]]
"""What a handler has read so far, each with its name: a form's field, "" for the whole."""
Read = Callable[[Case, Reads], Awaitable[None]]

# What a content part of a chat message may say of itself: no text, and not moderated.
_VOCABULARY: Final = {
    "type": {"text", "input_text", "output_text", "image_url", "input_image"},
    "detail": {"auto", "low", "high"},
}

_KNOWN: Final = {"type", "text", "role", "content", "image_url", "url", "filename", "message", "messages"}


@dataclass(frozen=True)
class Oracle:
    """Adds to a list what the handler reads; raises where the framework refuses."""

    framework: str
    reading: Reading
    read: Read
    accessor: str

    @property
    def name(self) -> str:
        return f"{self.framework} {self.reading} {self.accessor}".replace("_", " ")

    async def strings(self, case: Case, place: Place) -> list[str]:
        """The strings that a handler finds at the ruled place; what it read before an error counts."""
        read: Reads = []
        with suppress(Exception):  # each framework has its own ways to refuse
            await self.read(case, read)
        names = place.names and not (self.reading == "form" and self._misreads(case))
        found: list[str] = []
        for name, value in self._ruled(read, place):
            if isinstance(value, str) and not names:  # as strings_in has it, without a detour
                if value not in _VOCABULARY.get(name, ()):
                    found.append(value)
            else:
                found += strings_in({name: value} if name else value, names=names)
        return found

    def _misreads(self, case: Case) -> bool:
        """Whether it takes another body for a form: what it finds for names there, nobody chose."""
        kind = case.content_type.partition(b";")[0].strip(b" \t").lower()
        return kind != b"application/x-www-form-urlencoded" and (
            self.accessor.startswith("urlencoded") or kind != b"multipart/form-data"
        )

    def _ruled(self, read: Reads, place: Place) -> Iterator[tuple[str, object]]:
        if self.reading == "json":
            assert place.json is not None
            return (("", value) for _, whole in read for value in place.json(whole))
        is_meant = {"form": place.form, "query": place.query}.get(self.reading)
        return ((name, value) for name, value in read if is_meant is None or is_meant(name))


def oracle(framework: str, reading: Reading) -> Callable[[Read], Oracle]:
    """Make an oracle of a function."""
    return lambda read: Oracle(framework, reading, read, read.__name__.removeprefix(f"{framework}_"))


def plain(data: bytes) -> str:
    """An uploaded file as a handler decodes it."""
    return data.decode("utf-8", "replace")


def strings_in(value: Any, *, names: bool = False) -> Iterator[str]:
    """Every string inside, but for the vocabulary of content parts; with `names`, those of members, too."""
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | tuple):
            stack += value
        elif isinstance(value, dict):
            stack += (name for name in value if names and name not in _KNOWN)
            stack += [
                each
                for name, each in value.items()
                if not (isinstance(each, str) and each in _VOCABULARY.get(name, ()))
            ]
