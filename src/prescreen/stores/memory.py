"""A store for one process: gone with it, and not seen by others."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence

from prescreen.errors import ConfigError
from prescreen.stores import check
from prescreen.stores.forks import lock_over_forks


class MemoryStore:
    """Up to `entries` entries, whatever their time to live: those least recently used give way to new ones.

    After fork() parent and child go on with copies of their own. Raises ConfigError.
    """

    is_local = True

    def __init__(self, entries: int = 100_000) -> None:
        if type(entries) is not int or entries < 1:
            raise ConfigError("entries", f"{entries!r} is no number of at least 1")
        self._entries = entries
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
                self._kept.pop(key, None)
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
            self._kept.pop(key, None)
            return None
        self._kept.move_to_end(key)
        return value

    def _keep(self, key: str, value: bytes, ttl: float | None) -> None:
        self._kept[key] = value, math.inf if ttl is None else time.monotonic() + ttl
        self._kept.move_to_end(key)
        if len(self._kept) > self._entries:
            self._kept.popitem(last=False)
