"""A store for one process: gone with it, and not seen by others."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from prescreen.errors import ConfigError
from prescreen.forks import lock_over_forks
from prescreen.stores import check

_OVERHEAD: Final = 250  # bytes of an entry beside its key and value (measured on CPython 3.11)


class MemoryStore:
    """Up to `entries` entries and `size` bytes (None for any number), whatever their time to live.

    Those least recently used give way to new ones.

    After fork() parent and child go on with copies of their own. Raises ConfigError.
    """

    is_local = True

    def __init__(self, entries: int = 100_000, size: int | None = None) -> None:
        if type(entries) is not int or entries < 1:
            raise ConfigError("entries", f"{entries!r} is no number of at least 1")
        self._entries, self._most = entries, math.inf if size is None else size
        self._size = 0
        self._kept: OrderedDict[str, tuple[bytes, float]] = OrderedDict()  # value and end, by key; the next to go first
        self._lock = lock_over_forks()

    def __repr__(self) -> str:
        return f"MemoryStore(entries={self._entries})"

    def get(self, keys: Sequence[str], /) -> list[bytes | None]:
        """See Store; never raises StoreError."""
        check(keys)
        with self._lock:
            return [self._held(key) for key in keys]

    def put(self, values: Mapping[str, bytes], /, ttl: float) -> None:
        """See Store; never raises StoreError."""
        check(values, values.values(), ttl)
        with self._lock:
            for key, value in values.items():
                self._keep(key, value, ttl)

    def swap(self, key: str, old: bytes | None, new: bytes | None, /, ttl: float | None) -> bool:
        """See Store; never raises StoreError."""
        check([key], [old, new], ttl)
        with self._lock:
            if self._held(key) != old:
                return False
            if new is None:
                self._drop(key)
            else:
                self._keep(key, new, ttl)
            return True

    def scan(self, prefix: str, /) -> Iterator[tuple[str, bytes]]:
        """See Store; what was there at the call."""
        check([prefix])
        now = time.monotonic()
        with self._lock:
            kept = list(self._kept.items())
        return ((key, value) for key, (value, end) in kept if end > now and key.startswith(prefix))

    def close(self) -> None:
        """Nothing to let go of: what is kept stays."""

    def _held(self, key: str) -> bytes | None:
        value, end = self._kept.get(key, (None, 0.0))
        if value is None or end <= time.monotonic():
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return value

    def _keep(self, key: str, value: bytes, ttl: float | None) -> None:
        self._drop(key)
        self._kept[key] = value, math.inf if ttl is None else time.monotonic() + ttl
        self._size += _OVERHEAD + len(key) + len(value)
        while len(self._kept) > self._entries or self._size > self._most:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: str) -> None:
        value, _ = self._kept.pop(key, (None, 0.0))
        if value is not None:
            self._size -= _OVERHEAD + len(key) + len(value)
