"""Texts that are allowed or denied by name: the repair for a false positive that works at once.

A list holds keyed digests, never a text, so only the exact text is on it: a blank more is another text.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from prescreen.errors import StoreError
from prescreen.stores import Store, update
from prescreen.subject import Keys
from prescreen.units import seconds

ListName = Literal["allow", "deny"]

_PREFIX: Final = "lists:"
_PATIENCE: Final = 2.0  # seconds
_LONGEST_NOTE: Final = 500  # characters


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry: the text's digest, its list, the operator's note, and when it was made and ends (seconds since the epoch).

    `until` is None for an entry that does not end.
    """

    digest: str
    list: ListName
    note: str = ""
    since: float = 0.0
    until: float | None = None


class TextLists:
    """The two lists in a store. Everything blocks and may raise StoreError."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store, self._keys = store, keys

    def find(self, texts: Sequence[str]) -> Mapping[str, bool]:
        """Those of the texts that are on a list: True for allowed, False for denied."""
        keys = {_PREFIX + digest: text for text in texts for digest in self._digests(text)[::-1]}
        entries = zip(keys.values(), self._store.get(list(keys)), strict=True)
        return {text: _entry(data).list == "allow" for text, data in entries if data}

    def digest(self, text: str) -> str:
        """What a text is known by."""
        return self._digests(text)[0]

    def _digests(self, text: str) -> list[str]:
        """What it is known by, and what it may still be kept under from before a new secret."""
        return self._keys.digests("listed text", text)

    def add(self, name: ListName, text: str, *, note: str = "", lasting: float | str | None = None) -> Listed:
        """Put a text on a list, and off the other. `lasting` is seconds or like "30d", None for ever.

        Raises ValueError for another list, a duration that is none, a text without words, a note of over 500 characters.
        """
        if name not in ("allow", "deny"):
            raise ValueError(f"there is no list {name!r}; there are 'allow' and 'deny'")
        if not text or text.isspace():
            raise ValueError("a text without words is not moderated anyway")
        if len(note) > _LONGEST_NOTE:
            raise ValueError(f"the note is longer than {_LONGEST_NOTE} characters")
        ttl, now = None if lasting is None else seconds(lasting), time.time()
        entry = Listed(self.digest(text), name, note, now, None if ttl is None else now + ttl)
        data = json.dumps([entry.list, entry.note, entry.since, entry.until]).encode()
        update(self._store, _PREFIX + entry.digest, lambda _: (data, ttl), timeout=_PATIENCE)
        return entry

    def remove(self, text: str) -> bool:
        """Take a text off its list; whether it was on one."""
        were_there = [self.remove_digest(digest) for digest in self._digests(text)]
        return any(were_there)

    def remove_digest(self, digest: str) -> bool:
        """The same, by what the text is known by."""
        (data,) = self._store.get([_PREFIX + digest])
        update(self._store, _PREFIX + digest, lambda _: (None, None), timeout=_PATIENCE)
        return data is not None

    def entries(self) -> Iterator[Listed]:
        """Every entry of both lists."""
        for key, data in self._store.scan(_PREFIX):
            yield _entry(data, key.removeprefix(_PREFIX))


def _entry(data: bytes, digest: str = "") -> Listed:
    try:
        name, note, since, until = json.loads(data)
    except (TypeError, ValueError) as error:
        raise StoreError("what is kept of a text is no entry of a list") from error
    return Listed(digest, name, note, since, until)
