"""Header names and values as servers give them, gone through at every request: without a loop of Python's. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from itertools import compress
from operator import itemgetter
from typing import Final

name_of: Final[Callable[[tuple[bytes, bytes]], bytes]] = itemgetter(0)
"""A header's name."""


def named(names: Container[bytes], headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    """Those of the headers that have one of these names, in order."""
    headers = tuple(headers)
    return tuple(compress(headers, map(names.__contains__, map(name_of, headers))))
