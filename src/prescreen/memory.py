"""What was worked out of what clients send, kept for when they send it again. No I/O."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_ENTRIES: Final = 256


class Memory(Generic[T]):
    """The latest results of a pure function, by everything that they depend on; at most 256, each of at most `size` bytes.

    It is emptied when it is full. Threads share it without a lock: each step is one operation on a dict, and of two
    that work out the same, either may stay.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: dict[Hashable, T] = {}

    def get(self, key: Hashable) -> T | None:
        """What is kept under this key, if anything is."""
        return self._kept.get(key)

    def keep(self, key: Hashable, value: T, size: int) -> T:
        """The value, which is kept from now on if it and its key are small: `size` is in bytes, of both."""
        if size <= self._size:
            if len(self._kept) >= _ENTRIES:
                self._kept.clear()  # clients choose what is in it
            self._kept[key] = value
        return value
