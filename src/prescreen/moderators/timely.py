"""A blocking HTTP client whose reads and writes all end at one deadline.

The client's own timeout starts anew with each piece of an answer, so a service that sends it byte
by byte could hold a thread for minutes. httpcore, which does the work below httpx, takes a network backend (its
documented interface); httpx does not hand one on, so it is put in place here. Where a future version has no such place, its
timeout is all there is, as without this.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic
from typing import Any, Final

_SHORTEST: Final = 0.001  # seconds; none at all would mean not to wait, which is another error

_deadline: Final[ContextVar[float]] = ContextVar("prescreen.deadline", default=math.inf)


@contextmanager
def until(deadline: float) -> Iterator[None]:
    """What a timely client does inside ends at `deadline` on the monotonic clock."""
    token = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(token)


def make_timely(client: Any) -> None:
    """Have a blocking client of httpx's keep to `until`."""
    for transport in (getattr(client, "_transport", None), *getattr(client, "_mounts", {}).values()):
        pool: Any = getattr(transport, "_pool", None)
        if hasattr(pool, "_network_backend"):
            pool._network_backend = _Backend(pool._network_backend)  # noqa: SLF001  # see above


def _at_most(timeout: float | None) -> float:
    left = max(_deadline.get() - monotonic(), _SHORTEST)
    return left if timeout is None else min(timeout, left)


class _Backend:
    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, **options: Any) -> _Stream:
        return _Stream(self._backend.connect_tcp(host, port, timeout=_at_most(timeout), **options))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


class _Stream:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data: bytes = self._stream.read(max_bytes, timeout=_at_most(timeout))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout=_at_most(timeout))

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> _Stream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, _at_most(timeout)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
