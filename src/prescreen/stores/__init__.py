"""Key-value stores with compare-and-set: what has to outlive a request, or be seen by other processes.

A store keeps bytes and knows nothing of what they mean. `memory` is one process, `sqlite` one
machine, `redis` (or Valkey) many.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from prescreen.errors import ConfigError, StoreError

LONGEST_KEY: Final = 200
"""In characters."""
LARGEST_VALUE: Final = 64 << 10
"""In bytes."""
LONGEST_TTL: Final = 100 * 365 * 86400.0
"""In seconds; what is to stay longer is kept for ever."""

_EAGER_TRIES: Final = 3  # without a pause: who lost one race rarely loses the next
_FIRST_PAUSE: Final = 0.002  # seconds, doubled with each try; a pause is anything up to that
_LONGEST_PAUSE: Final = 0.05

_register: Final[Any] = getattr(os, "register_at_fork", dict)  # Windows has none, and no fork() either

Change = Callable[[bytes | None], tuple[bytes | None, float | None]]


@runtime_checkable
class Store(Protocol):
    """Bytes by key, seen by all who share the store.

    Keys are text of up to 200 characters, values bytes of up to 64 KiB, times to live seconds above
    zero and up to a century; else ValueError. Every method blocks, is safe in threads and across
    fork(), and raises StoreError: after one, what was to be written may be there or not.
    """

    is_local: bool
    """It answers from memory: it may be called in an event loop."""

    def get(self, keys: Sequence[str], /) -> list[bytes | None]:
        """The value of each key in one round trip; None where it is absent or expired."""

    def put(self, values: Mapping[str, bytes], /, ttl: float) -> None:
        """Make each key hold its value for `ttl` seconds, whatever it held before; one round trip."""

    def swap(self, key: str, old: bytes | None, new: bytes | None, /, ttl: float | None) -> bool:
        """If the key holds exactly `old` (None: nothing), make it hold `new` (None: nothing); whether it did.

        In one piece: nobody sees or does anything in between. `ttl` None is for ever.
        """

    def scan(self, prefix: str, /) -> Iterator[tuple[str, bytes]]:
        """Every live key with that prefix, and its value, in no order; for an operator, not for requests.

        What is written meanwhile may be among them or not.
        """

    def close(self) -> None:
        """Let go of connections and files. A later call opens them anew."""


def update(store: Store, key: str, change: Change, *, timeout: float) -> bytes | None:
    """Replace what a key holds by what `change` makes of it, losing nobody else's change; the new value.

    `change` takes the value (None: nothing) and returns the new one (None: nothing) with its seconds
    to live (None: for ever). It is called again when somebody else was faster, so it should do
    nothing else; where it returns what it was given, nothing is written. Raises StoreError, also
    when others were faster for `timeout` seconds.
    """
    end = time.monotonic() + timeout
    turn = _turns.of(key)
    if not turn.acquire(timeout=max(timeout, 0)):
        raise StoreError(_outrun(timeout))
    try:
        return _changed(store, key, change, end, timeout)
    finally:
        turn.release()


class _Turns:
    """Who of this process changes an entry now: in a crowd a race has somebody who loses it again and again.

    Between processes the swap alone decides. Whoever holds a turn at a fork() is no thread of the child's.
    """

    def __init__(self) -> None:
        self._renew()
        _register(after_in_child=self._renew)

    def of(self, key: str) -> threading.Lock:
        return self._locks[hash(key) % len(self._locks)]

    def _renew(self) -> None:
        self._locks = [threading.Lock() for _ in range(64)]


_turns: Final = _Turns()


def _outrun(timeout: float) -> str:
    return f"others kept changing the same entry for {timeout:g} s"


def _changed(store: Store, key: str, change: Change, end: float, timeout: float) -> bytes | None:
    longest = _FIRST_PAUSE / 2**_EAGER_TRIES
    while True:
        [old] = store.get([key])
        new, ttl = change(old)
        if new == old or store.swap(key, old, new, ttl):
            return new
        left = end - time.monotonic()
        if left <= 0:
            raise StoreError(_outrun(timeout))
        longest = min(longest * 2, _LONGEST_PAUSE, left)
        if longest >= _FIRST_PAUSE:
            time.sleep(random.uniform(0, longest))  # noqa: S311  # apart from each other is all they have to be


def open_store(address: str | Store, *, folder: Path | None = None) -> Store:
    """The store at an address; a Store is given back as it is. Raises ConfigError.

    "memory"; "sqlite:prescreen.db" (in `folder`, None is the working directory) or
    "sqlite:///var/lib/prescreen.db"; "redis://host:6379/0", or with TLS "rediss://…", with the options
    that redis-py takes in a URL; "valkey://…" and "valkeys://…" are the same.
    """
    if not isinstance(address, str):
        if isinstance(address, Store):
            return address
        raise ConfigError("store", f"{type(address).__name__} has not the methods of a store")
    kind, _, rest = address.partition(":")
    if address == "memory":
        from prescreen.stores.memory import MemoryStore

        return MemoryStore()
    if kind == "sqlite":
        from prescreen.stores.sqlite import SQLiteStore

        return SQLiteStore((folder or Path()) / _file(rest))
    from prescreen.stores.redis import SCHEMES, RedisStore

    if kind in SCHEMES:
        return RedisStore(address)
    # what was written is not repeated: it may be an address with a password and a slip of the pen
    raise ConfigError("store", "write 'memory', 'sqlite:prescreen.db' or 'redis://host:6379/0'")


def check(keys: Iterable[str], values: Iterable[bytes | None] = (), ttl: float | None = None) -> None:
    """Raise ValueError for what no store takes: the same limits in all of them, so that one can replace another."""
    for key in keys:
        if not isinstance(key, str) or len(key) > LONGEST_KEY:
            raise ValueError(f"a key is text of up to {LONGEST_KEY} characters")
        key.encode()  # half a surrogate pair is no text: a UnicodeEncodeError, which is a ValueError
    for value in values:
        if value is not None and (not isinstance(value, bytes) or len(value) > LARGEST_VALUE):
            raise ValueError(f"a value is bytes, up to {LARGEST_VALUE} of them")
    if ttl is not None and not 0 < ttl <= LONGEST_TTL:
        raise ValueError("a time to live is above zero seconds and up to a century; None is for ever")


def _file(rest: str) -> str:
    """The file in what follows "sqlite:", as in the URLs that people know: three slashes before an absolute one."""
    name = rest.removeprefix("//") if rest.startswith("///") else rest
    if not name or name.startswith(("//", ":")):
        raise ConfigError("store", "name a file, as in 'sqlite:prescreen.db' or 'sqlite:///var/lib/prescreen.db'")
    return name
